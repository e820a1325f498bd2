//! The record of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, Place, Without};
use crate::config::Config;
use crate::error::Result;
use crate::id::ContainerId;

/// What is written down of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) id: ContainerId,
    /// Its bundle, absolute.
    pub(crate) bundle: PathBuf,
    /// Whether it was made of a native configuration rather than of that bundle's `config.json`.
    #[serde(default)]
    pub(crate) native: bool,
    /// When it was created (RFC 3339, UTC).
    pub(crate) created: String,
    /// Its first process; `None` until there is one that somebody may ask for.
    pub(crate) init: Option<ProcessId>,
    /// Who makes it, until it is made.
    pub(crate) maker: Option<ProcessId>,
    /// Whether a checkpoint ended it: its name may be taken by a restore.
    #[serde(default)]
    pub(crate) checkpointed: bool,
    /// Where its cgroup is.
    pub(crate) cgroup: Place,
    /// What it is made of.
    pub(crate) config: Config,
    /// Keys that a later floe wrote.
    #[serde(flatten)]
    pub(crate) extra: BTreeMap<String, serde_json::Value>,
}

impl Record {
    /// Its cgroup.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn open_cgroup(&self) -> Result<Box<dyn Cgroup>> {
        let without = || Box::new(Without::new(self.init, &self.config)) as Box<dyn Cgroup>;
        Ok(self.cgroup.open()?.unwrap_or_else(without))
    }
}

/// A process, told apart from a later one with the same pid by the time at which it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its pid.
    pub(crate) pid: i32,
    /// When it started, in clock ticks after the boot (`/proc/PID/stat`, field 22).
    pub(crate) start: u64,
}

impl ProcessId {
    /// The process `pid`; `None` if it is gone.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        Some(Self { pid: pid.as_raw(), start: stat(pid.as_raw())?.1 })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(Pid::this())
    }

    /// Whether it runs: a zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
    }
}

/// State and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the last one ends it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_with_its_pid() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { start: own.start + 1, ..own }.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = ProcessId::of(Pid::from_raw(child.id() as i32));
        child.wait().unwrap();
        assert!(id.is_none_or(|id| !id.is_alive()));
    }
}
