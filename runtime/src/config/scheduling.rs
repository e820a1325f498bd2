//! When and where a process runs: scheduling policy, I/O priority, processors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The scheduling of a process, `sched_setattr(2)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// −20 (most) to 19 (least); for [`SchedulerPolicy::Other`] and [`SchedulerPolicy::Batch`].
    pub nice: i32,
    /// 1 (least) to 99 (most) for [`SchedulerPolicy::Fifo`] and [`SchedulerPolicy::Rr`], else 0.
    pub priority: u32,
    /// Flags.
    pub flags: Vec<SchedulerFlag>,
    /// Of each period, how long it may run, in nanoseconds; for [`SchedulerPolicy::Deadline`], else 0.
    pub runtime: u64,
    /// By when in the period, in nanoseconds; for [`SchedulerPolicy::Deadline`], else 0.
    pub deadline: u64,
    /// The period, in nanoseconds; for [`SchedulerPolicy::Deadline`], else 0.
    pub period: u64,
}

/// A policy of `sched(7)`. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named as in sched(7), which documents it")]
#[repr(u32)]
pub enum SchedulerPolicy {
    #[serde(rename = "SCHED_OTHER")]
    Other = 0,
    #[serde(rename = "SCHED_FIFO")]
    Fifo = 1,
    #[serde(rename = "SCHED_RR")]
    Rr = 2,
    #[serde(rename = "SCHED_BATCH")]
    Batch = 3,
    #[serde(rename = "SCHED_IDLE")]
    Idle = 5,
    #[serde(rename = "SCHED_DEADLINE")]
    Deadline = 6,
}

/// A flag of `sched_setattr(2)`. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named as in sched_setattr(2), which documents it")]
#[repr(u64)]
pub enum SchedulerFlag {
    #[serde(rename = "SCHED_FLAG_RESET_ON_FORK")]
    ResetOnFork = 0x01,
    #[serde(rename = "SCHED_FLAG_RECLAIM")]
    Reclaim = 0x02,
    #[serde(rename = "SCHED_FLAG_DL_OVERRUN")]
    DlOverrun = 0x04,
    #[serde(rename = "SCHED_FLAG_KEEP_POLICY")]
    KeepPolicy = 0x08,
    #[serde(rename = "SCHED_FLAG_KEEP_PARAMS")]
    KeepParams = 0x10,
    #[serde(rename = "SCHED_FLAG_UTIL_CLAMP_MIN")]
    UtilClampMin = 0x20,
    #[serde(rename = "SCHED_FLAG_UTIL_CLAMP_MAX")]
    UtilClampMax = 0x40,
}

/// How early a process's input and output come, `ioprio_set(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// The class.
    pub class: IoClass,
    /// Within the class, 0 (first) to 7 (last); the idle class knows no order.
    pub priority: u8,
}

/// A class of `ioprio_set(2)`. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u16)]
pub enum IoClass {
    /// Before all others.
    #[serde(rename = "IOPRIO_CLASS_RT")]
    RealTime = 1,
    /// The ordinary one.
    #[serde(rename = "IOPRIO_CLASS_BE")]
    BestEffort = 2,
    /// When nobody else has anything to do.
    #[serde(rename = "IOPRIO_CLASS_IDLE")]
    Idle = 3,
}

/// The processors of a process that joins a container (`process.execCPUAffinity`); not for its first process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// Before it is in the container's cgroup.
    pub initial: Option<NumberSet>,
    /// From then on.
    pub last: Option<NumberSet>,
}

/// A set of processors or memory nodes, written as the kernel lists them: `0-3,7`. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NumberSet(Vec<u64>);

/// Highest number that is accepted: as many processors as any kernel is built for (`CONFIG_NR_CPUS`).
const MOST: u32 = 8191;

impl NumberSet {
    /// The set as a mask, in words of 64 bits, lowest first.
    #[must_use]
    pub fn mask(&self) -> &[u64] {
        &self.0
    }

    fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

/// Why a text is no [`NumberSet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no list of numbers from 0 to 8191, such as 0-3,7")]
pub struct NotNumbers(String);

impl FromStr for NumberSet {
    type Err = NotNumbers;

    fn from_str(text: &str) -> Result<Self, NotNumbers> {
        let wrong = || NotNumbers(text.to_owned());
        let number = |digits: &str| {
            let parsed: Option<u32> = digits.trim().parse().ok();
            parsed.filter(|number| *number <= MOST && !digits.contains('+')).ok_or_else(wrong)
        };
        let mut mask = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            for one in first..=last {
                let word = one as usize / 64;
                mask.resize(mask.len().max(word + 1), 0u64);
                mask[word] |= 1 << (one % 64);
            }
        }
        Ok(Self(mask))
    }
}

impl TryFrom<String> for NumberSet {
    type Error = NotNumbers;

    fn try_from(text: String) -> Result<Self, NotNumbers> {
        text.parse()
    }
}

impl fmt::Display for NumberSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut number = 0;
        while number <= MOST {
            if !self.has(number) {
                number += 1;
                continue;
            }
            let first = number;
            while self.has(number + 1) {
                number += 1;
            }
            match number == first {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{number}")?,
            }
            separator = ",";
            number += 1;
        }
        Ok(())
    }
}

impl From<NumberSet> for String {
    fn from(set: NumberSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_and_written() {
        for (text, written, mask) in [
            ("0", "0", vec![1]),
            ("0-3,7", "0-3,7", vec![0b1000_1111]),
            ("7,0-1,1-3", "0-3,7", vec![0b1000_1111]),
            ("63-64", "63-64", vec![1 << 63, 1]),
            (" 2 , 4 - 5", "2,4-5", vec![0b11_0100]),
        ] {
            let set: NumberSet = text.parse().unwrap();
            assert_eq!(set.mask(), mask, "{text}");
            assert_eq!(set.to_string(), written);
        }
        let all: NumberSet = "0-8191".parse().unwrap();
        assert_eq!((all.to_string().as_str(), all.mask().len()), ("0-8191", 128));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", ",", "1,", "-1", "1-", "3-1", "a", "8192", "0-99999999999", "+1", "1--2"] {
            assert!(text.parse::<NumberSet>().is_err(), "{text}");
        }
    }
}
