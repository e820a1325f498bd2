//! `process.scheduler`, `process.ioPriority`, `process.execCPUAffinity`.

use std::borrow::Cow;

use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process};
use serde_json::Value;

use super::Source;
use crate::config::{CpuAffinity, IoClass, IoPriority, NumberSet, Scheduler, SchedulerFlag, SchedulerPolicy};
use crate::error::Result;

pub(super) fn scheduler(process: &Process, source: Source<'_>) -> Result<Option<Scheduler>> {
    let Some(given) = process.scheduler() else { return Ok(None) };
    let key = |part: &str| format!("process.scheduler.{part}");
    let policy = match given.policy() {
        LinuxSchedulerPolicy::SchedOther => SchedulerPolicy::Other,
        LinuxSchedulerPolicy::SchedFifo => SchedulerPolicy::Fifo,
        LinuxSchedulerPolicy::SchedRr => SchedulerPolicy::Rr,
        LinuxSchedulerPolicy::SchedBatch => SchedulerPolicy::Batch,
        LinuxSchedulerPolicy::SchedIdle => SchedulerPolicy::Idle,
        LinuxSchedulerPolicy::SchedDeadline => SchedulerPolicy::Deadline,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(
                source.unsupported(key("policy"), "Linux has reserved SCHED_ISO and does not have it")
            );
        }
    };
    let nice = given.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(source.bad(key("nice"), "must be -20 to 19"));
    }
    let is_real_time = matches!(policy, SchedulerPolicy::Fifo | SchedulerPolicy::Rr);
    let priority = match (given.priority().unwrap_or(0), is_real_time) {
        (0, false) => 0,
        (priority @ 1..=99, true) => priority.unsigned_abs(),
        (_, true) => return Err(source.bad(key("priority"), "must be 1 to 99 with SCHED_FIFO and SCHED_RR")),
        (_, false) => return Err(source.bad(key("priority"), "is for SCHED_FIFO and SCHED_RR alone")),
    };
    let times = [(given.runtime(), "runtime"), (given.deadline(), "deadline"), (given.period(), "period")];
    let is_deadline = policy == SchedulerPolicy::Deadline;
    for (time, part) in times {
        match time.unwrap_or(0) {
            0 if is_deadline && part == "runtime" => {
                return Err(source.bad(key(part), "is missing, and SCHED_DEADLINE needs it"));
            }
            time if time > 0 && !is_deadline => {
                return Err(source.bad(key(part), "is for SCHED_DEADLINE alone"));
            }
            _ => {}
        }
    }
    Ok(Some(Scheduler {
        policy,
        nice,
        priority,
        flags: given.flags().iter().flatten().map(|one| flag(*one)).collect(),
        runtime: given.runtime().unwrap_or(0),
        deadline: given.deadline().unwrap_or(0),
        period: given.period().unwrap_or(0),
    }))
}

fn flag(flag: LinuxSchedulerFlag) -> SchedulerFlag {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => SchedulerFlag::ResetOnFork,
        LinuxSchedulerFlag::SchedFlagReclaim => SchedulerFlag::Reclaim,
        LinuxSchedulerFlag::SchedFlagDLOverrun => SchedulerFlag::DlOverrun,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => SchedulerFlag::KeepPolicy,
        LinuxSchedulerFlag::SchedFlagKeepParams => SchedulerFlag::KeepParams,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => SchedulerFlag::UtilClampMin,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => SchedulerFlag::UtilClampMax,
    }
}

/// Two of the specification's names of flags are other ones with the crate `oci-spec` (0.10): it derives them from the
/// names of its variants.
const SPELLINGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// The JSON of a configuration or of a process, with those names exchanged.
pub(super) fn as_oci_spec_spells(text: &[u8]) -> serde_json::Result<Cow<'_, [u8]>> {
    let named = b"SCHED_FLAG_";
    if !text.windows(named.len()).any(|part| part == named) {
        return Ok(Cow::Borrowed(text));
    }
    let mut json: Value = serde_json::from_slice(text)?;
    for place in ["/process/scheduler/flags", "/scheduler/flags"] {
        for flag in json.pointer_mut(place).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some((_, theirs)) = SPELLINGS.iter().find(|(ours, _)| flag == ours) {
                *flag = Value::from(*theirs);
            }
        }
    }
    serde_json::to_vec(&json).map(Cow::Owned)
}

pub(super) fn io_priority(process: &Process, source: Source<'_>) -> Result<Option<IoPriority>> {
    let Some(given) = process.io_priority() else { return Ok(None) };
    let priority = u8::try_from(given.priority()).ok().filter(|priority| *priority < 8);
    Ok(Some(IoPriority {
        class: match given.class() {
            IOPriorityClass::IoprioClassRt => IoClass::RealTime,
            IOPriorityClass::IoprioClassBe => IoClass::BestEffort,
            IOPriorityClass::IoprioClassIdle => IoClass::Idle,
        },
        priority: priority.ok_or_else(|| source.bad("process.ioPriority.priority", "must be 0 to 7"))?,
    }))
}

pub(super) fn cpu_affinity(process: &Process, source: Source<'_>) -> Result<Option<CpuAffinity>> {
    let Some(given) = process.exec_cpu_affinity() else { return Ok(None) };
    Ok(Some(CpuAffinity {
        initial: numbers(given.initial(), "process.execCPUAffinity.initial", source)?,
        last: numbers(given.cpu_affinity_final(), "process.execCPUAffinity.final", source)?,
    }))
}

/// A list of numbers; nothing and an empty one are none.
pub(super) fn numbers(text: &Option<String>, key: &str, source: Source<'_>) -> Result<Option<NumberSet>> {
    let text = text.as_deref().filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|error| source.bad(key, format!("{error}")))).transpose()
}
