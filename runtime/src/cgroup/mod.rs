//! Cgroups: which processes belong together, how they are limited, frozen and ended.
//!
//! Both versions are behind one trait, [`Cgroup`]. A version 1 cgroup is one directory in each mounted hierarchy, a
//! version 2 cgroup is a single one. See `cgroups(7)` and the kernel's `Documentation/admin-guide/cgroup-v1/` and
//! `cgroup-v2.rst`.

mod below;
mod delegated;
mod devices;
mod entrance;
mod files;
mod find;
mod inner;
mod notify;
mod place;
mod setting;
mod stats;
mod systemd;
mod tree;
mod v1;
mod v2;
mod without;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::config::Resources;
use crate::error::{Error, Result};

pub use below::{Below, Chosen};
pub(crate) use entrance::Doors;
pub use entrance::Entrance;
pub use inner::{InnerCgroup, inner, make_inner};
pub use notify::{Notice, Pressure, PressureLevel, Stall, Watch};
pub(crate) use place::Place;
pub use setting::Former;
pub use stats::*;
pub(crate) use systemd::ANNOTATION as SYSTEMD_ANNOTATION;
pub use v1::V1;
pub use v2::V2;
pub(crate) use without::Without;

/// Which interface of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    /// One hierarchy for each controller, perhaps beside an unused version 2 ("hybrid").
    V1,
    /// One hierarchy for all.
    V2,
}

/// The cgroup of one container.
///
/// Its value is a plan of directories: they may exist or not, and nothing is kept open.
pub trait Cgroup: Debug + Send + Sync {
    /// Which version it is.
    fn version(&self) -> CgroupVersion;

    /// Its directories by hierarchy.
    fn directories(&self) -> CgroupPaths;

    /// Its directories: on version 1 one in each hierarchy that was joined (the freezer's included), on version 2 one.
    fn paths(&self) -> Vec<PathBuf> {
        self.directories().into_values().collect()
    }

    /// The directory through which it is frozen, or `None` where the host has no freezer.
    fn freezer_path(&self) -> Option<PathBuf>;

    /// Makes its directories where they don't exist, and checks that it is nobody else's.
    ///
    /// # Errors
    /// [`Error::CgroupInUse`] when there are processes in it already,
    /// [`Error::Call`] when a directory can't be made.
    fn claim(&self) -> Result<()>;

    /// Moves a process with all its threads into it, making the directories first where they don't exist.
    ///
    /// # Errors
    /// [`Error::Call`] with the file and the kernel's answer.
    fn add(&self, pid: Pid) -> Result<()>;

    /// Moves a process into it as it is, without making it: for one that joins others, of which `init` is the first.
    /// Hierarchies that were mounted later are passed over. Where the container has moved its processes to cgroups of
    /// its own below, and the kernel therefore takes none here, it goes to that of `init`.
    ///
    /// # Errors
    /// [`Error::Call`] with the file and the kernel's answer, `ENOENT` when the cgroup is gone.
    fn join(&self, pid: Pid, init: Pid) -> Result<()>;

    /// As [`Cgroup::join`], into cgroups below it.
    ///
    /// # Errors
    /// [`Error::Call`] with the file and the kernel's answer.
    fn join_below(&self, pid: Pid, chosen: &Chosen) -> Result<()> {
        chosen.join(pid)
    }

    /// How a process gets itself into it as it is, without making it. Hierarchies that were mounted later are passed
    /// over. Empty when there is no such way, or when it doesn't exist: then [`Cgroup::join`] is left.
    fn entrance(&self) -> Entrance;

    /// Every process in it and below it, in the caller's pid namespace; empty when it doesn't exist.
    ///
    /// # Errors
    /// [`Error::Call`] when `cgroup.procs` can't be read.
    fn processes(&self) -> Result<Vec<Pid>>;

    /// Freezes every process in it and below it, and returns once they are frozen. On failure they are thawed again.
    ///
    /// # Errors
    /// [`Error::FreezeTimeout`] when a process doesn't stop,
    /// [`Error::NoController`] without a freezer.
    fn freeze(&self) -> Result<()>;

    /// Lets them go on. Does nothing when they aren't frozen or the cgroup doesn't exist.
    ///
    /// # Errors
    /// [`Error::Call`] with the file and the kernel's answer.
    fn thaw(&self) -> Result<()>;

    /// Whether it is frozen by its own setting, or is on the way to it.
    ///
    /// # Errors
    /// [`Error::Call`] when the freezer's state can't be read; a cgroup that doesn't exist is not
    /// frozen.
    fn is_frozen(&self) -> Result<bool>;

    /// Sets limits, all or none. What `resources` leaves open stays as it is; without a device rule, devices are left
    /// alone. Returns what they were before (without the device rules), to be set again if something else fails.
    ///
    /// # Errors
    /// [`Error::Limit`] with key, file and value that the kernel refused,
    /// [`Error::NoController`] and [`Error::NoLimitFile`] for a limit that isn't to be had here,
    /// [`Error::Refused`] for one that this version can't express.
    fn apply_limits(&self, resources: &Resources) -> Result<Former>;

    /// Lets this user of the host make cgroups below it, and move its processes there. Version 1 can't: who owns a
    /// cgroup there may lift its limits.
    ///
    /// # Errors
    /// [`Error::Call`].
    fn delegate(&self, _uid: u32) -> Result<()> {
        Ok(())
    }

    /// Watches for the kernel ending processes at the memory limit.
    ///
    /// # Errors
    /// [`Error::NoController`]; [`Error::Call`], `ENOENT` when the cgroup doesn't exist.
    fn watch_out_of_memory(&self) -> Result<Watch>;

    /// Watches for memory pressure.
    ///
    /// # Errors
    /// As [`Cgroup::watch_out_of_memory`]; [`Error::Refused`] for a measure that this version doesn't have.
    fn watch_memory_pressure(&self, pressure: Pressure) -> Result<Watch>;

    /// What its processes use, as far as controllers count it; those that aren't there leave zeros.
    ///
    /// # Errors
    /// [`Error::Call`] when a file can't be read, [`Error::Unexpected`] when one doesn't hold what the kernel documents.
    fn stats(&self) -> Result<Stats>;

    /// Ends every process in it with SIGKILL, thawing it if needed, and returns once none is left.
    ///
    /// # Errors
    /// [`Error::KillTimeout`] with those that don't end.
    fn kill_all(&self) -> Result<()>;

    /// Removes its directories and those below them. Does nothing where they don't exist.
    ///
    /// # Errors
    /// [`Error::Call`] when one stays busy because there are processes in it.
    fn destroy(&self) -> Result<()>;
}

/// A cgroup's directories by hierarchy, as runc's state has them. On version 1 the keys are
/// as in the second field of `/proc/PID/cgroup` (`cpu,cpuacct`, `name=systemd`); version 2's key is empty.
pub type CgroupPaths = BTreeMap<String, PathBuf>;

/// Refuses a cgroup in which there are processes already: the container would be frozen and ended with them.
fn refuse_strangers(cgroup: &dyn Cgroup) -> Result<()> {
    let pids = cgroup.processes()?;
    if pids.is_empty() {
        return Ok(());
    }
    let path = cgroup.freezer_path().or_else(|| cgroup.paths().into_iter().next()).unwrap_or_default();
    Err(Error::CgroupInUse { path, pids: pids.into_iter().map(Pid::as_raw).collect() })
}

#[cfg(test)]
mod tests;
