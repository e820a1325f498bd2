//! Cgroups: which processes belong together, how they are limited, frozen and ended.
//!
//! Both versions are behind one trait, [`Cgroup`]. A version 1 cgroup is one directory in each mounted hierarchy, a
//! version 2 cgroup is a single one. See `cgroups(7)` and the kernel's `Documentation/admin-guide/cgroup-v1/` and
//! `cgroup-v2.rst`.

mod entrance;
mod files;
mod find;
mod tree;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::config::Resources;
use crate::error::{Error, Result};

pub(crate) use entrance::Doors;
pub use entrance::Entrance;
pub use v1::V1;
pub use v2::V2;

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

    /// Moves a process into it as it is, without making it: for one that joins others. Hierarchies that were mounted
    /// later are passed over.
    ///
    /// # Errors
    /// [`Error::Call`] with the file and the kernel's answer, `ENOENT` when the cgroup is gone.
    fn join(&self, pid: Pid) -> Result<()>;

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

    /// Sets limits. What `resources` leaves open stays as it is.
    ///
    /// # Errors
    /// [`Error::Call`] with file and value that the kernel refused,
    /// [`Error::NoController`] for a limit whose controller isn't there,
    /// [`Error::Unsupported`] for one that this version can't express.
    fn apply_limits(&self, resources: &Resources) -> Result<()>;

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
/// as in the second field of `/proc/PID/cgroup` (`cpu,cpuacct`, `name=systemd`), on version 2 the only key is empty.
pub type CgroupPaths = BTreeMap<String, PathBuf>;

/// The cgroup at `path` (absolute in form, relative to each hierarchy's root) on this host. Nothing is made yet.
///
/// # Errors
/// [`Error::Refused`] when no cgroup hierarchy is mounted, or when `path` is a root itself: a container that shared
/// the host's own cgroup could not be frozen or ended without the host.
pub fn open(path: &Path) -> Result<Box<dyn Cgroup>> {
    let inner = inner_path(path)?;
    Ok(match find::hierarchies()? {
        find::Hierarchies::V1(mounts) => Box::new(V1::new(
            mounts
                .into_iter()
                .map(|hierarchy| (hierarchy.name, hierarchy.mount_point.join(&inner)))
                .collect(),
        )),
        find::Hierarchies::V2(mount_point) => Box::new(V2::new(mount_point.clone(), mount_point.join(inner))),
    })
}

/// The part below a hierarchy's root: at least one name, and none that leads upwards.
fn inner_path(path: &Path) -> Result<PathBuf> {
    use std::path::Component;
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => inner = PathBuf::new(),
        }
        if component == Component::ParentDir {
            break;
        }
    }
    if inner.as_os_str().is_empty() {
        return Err(Error::Refused {
            problem: format!("cgroup path {} does not name a cgroup below the root", path.display()),
            hint: "set linux.cgroupsPath to a path such as /floe/web, without `..`",
        });
    }
    Ok(inner)
}

#[cfg(test)]
mod tests;
