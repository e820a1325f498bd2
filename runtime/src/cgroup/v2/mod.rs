//! Version 2: one directory in the unified hierarchy, `Documentation/admin-guide/cgroup-v2.rst`.

mod freezer;
pub(super) mod limits;
pub(super) mod stats;

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::devices::{self, DeviceList};
use super::setting::{self, Former};
use super::{Cgroup, CgroupPaths, CgroupVersion, Entrance, Pressure, Stats, Watch, files, tree};
use crate::config::Resources;
use crate::error::{Error, Result};

/// A cgroup of version 2.
#[derive(Debug, Clone)]
pub struct V2 {
    mount_point: PathBuf,
    path: PathBuf,
}

impl V2 {
    /// The cgroup `path` of the hierarchy that is mounted at `mount_point`, which is a prefix of it.
    #[must_use]
    pub fn new(mount_point: PathBuf, path: PathBuf) -> Self {
        Self { mount_point, path }
    }

    /// Its directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the hierarchy has this controller at all.
    pub(super) fn has(&self, controller: &str) -> bool {
        let available = files::read_if_there(&self.mount_point, "cgroup.controllers").ok().flatten();
        available.is_some_and(|text| text.split_whitespace().any(|name| name == controller))
    }

    /// Each level from the mount point on, without the first and with itself.
    fn levels(&self) -> impl Iterator<Item = PathBuf> {
        let below = self.path.strip_prefix(&self.mount_point).unwrap_or(Path::new(""));
        below.iter().scan(self.mount_point.clone(), |level, name| {
            level.push(name);
            Some(level.clone())
        })
    }

    /// Makes each level, and hands every controller that a level has down to the next: a limit can be set only where
    /// the level above distributes its controller.
    pub(super) fn make_directories(&self) -> Result<()> {
        let mut above = self.mount_point.clone();
        for level in self.levels() {
            hand_down_controllers(&above)?;
            make_level(&level)?;
            above = level;
        }
        Ok(())
    }

    /// Makes each level and leaves the controllers alone: for a hierarchy that is there beside those of version 1.
    pub(super) fn make_directory(&self) -> Result<()> {
        self.levels().try_for_each(|level| make_level(&level))
    }
}

/// Makes one level. Below a cgroup that is threaded, or has processes of its own and hands controllers down to threads,
/// a new one is of no use ("domain invalid") until it is threaded as well; it has then the controllers that know threads,
/// and what needs another says so. `cgroup-v2.rst`, "Threads".
fn make_level(level: &Path) -> Result<()> {
    files::make_dir(level)?;
    match files::read_if_there(level, "cgroup.type")? {
        Some(kind) if kind == "domain invalid" => files::write(level, "cgroup.type", "threaded"),
        _ => Ok(()),
    }
}

/// Writes each available controller to `cgroup.subtree_control`. One that can't be handed down (a level with processes
/// of its own, real-time tasks for `cpu`) is left out: what needs it will say that it isn't there.
fn hand_down_controllers(level: &Path) -> Result<()> {
    let Some(available) = files::read_if_there(level, "cgroup.controllers")? else { return Ok(()) };
    let enabled = files::read(level, "cgroup.subtree_control")?;
    let missing: Vec<String> = available
        .split_whitespace()
        .filter(|controller| enabled.split_whitespace().all(|name| name != *controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    // All at once, or else (the kernel takes all or none) one by one.
    if missing.is_empty() || files::write(level, "cgroup.subtree_control", &missing.join(" ")).is_ok() {
        return Ok(());
    }
    for controller in missing {
        if let Err(error) = files::write(level, "cgroup.subtree_control", &controller) {
            tracing::debug!("controller {controller} is not handed down: {}", error.in_full());
        }
    }
    Ok(())
}

impl Cgroup for V2 {
    fn version(&self) -> CgroupVersion {
        CgroupVersion::V2
    }

    fn directories(&self) -> CgroupPaths {
        CgroupPaths::from([(String::new(), self.path.clone())])
    }

    fn freezer_path(&self) -> Option<PathBuf> {
        Some(self.path.clone())
    }

    fn claim(&self) -> Result<()> {
        let pids = tree::processes(&self.path)?;
        if !pids.is_empty() {
            let pids = pids.iter().map(|pid| pid.as_raw()).collect();
            return Err(Error::CgroupInUse { path: self.path.clone(), pids });
        }
        self.make_directories()
    }

    fn add(&self, pid: Pid) -> Result<()> {
        self.make_directories()?;
        files::write(&self.path, "cgroup.procs", &pid.to_string())
    }

    fn join(&self, pid: Pid, init: Pid) -> Result<()> {
        let refused = match files::write(&self.path, "cgroup.procs", &pid.to_string()) {
            Err(error @ Error::Call { .. }) if takes_no_process(&error) => error,
            other => return other,
        };
        // A container that manages cgroups itself has handed controllers down and moved its processes below; then the
        // kernel takes none here any more. It goes where the first process is, as with runc.
        match own_directory(init, &self.mount_point) {
            Some(own) if own != self.path && own.starts_with(&self.path) => {
                files::write(&own, "cgroup.procs", &pid.to_string())
            }
            _ => Err(refused),
        }
    }

    fn entrance(&self) -> Entrance {
        Entrance { directory: self.path.exists().then(|| self.path.clone()), tasks: Vec::new() }
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        Ok(tree::processes(&self.path)?.into_iter().collect())
    }

    fn freeze(&self) -> Result<()> {
        freezer::freeze(&self.path)
    }

    fn thaw(&self) -> Result<()> {
        freezer::thaw(&self.path)
    }

    fn is_frozen(&self) -> Result<bool> {
        freezer::is_frozen(&self.path)
    }

    fn apply_limits(&self, resources: &Resources) -> Result<Former> {
        let plan = limits::plan(&self.path, resources)?;
        let list = match resources.devices.as_slice() {
            [] => None,
            rules => Some(DeviceList::of(rules)?),
        };
        let former = setting::make(plan)?;
        if let Some(list) = list {
            devices::enforce_v2(&self.path, &list).inspect_err(|_| former.take_back())?;
        }
        Ok(former)
    }

    fn delegate(&self, uid: u32) -> Result<()> {
        chown(&self.path, Some(uid), None).map_err(Error::at("chown", &self.path))?;
        // The kernel's own list of what an owner may write without getting more than it has; Linux 4.15.
        let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
        let listed =
            listed.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
        for file in listed.lines() {
            let path = self.path.join(file);
            match chown(&path, Some(uid), None) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::call("chown", path.display(), error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn watch_out_of_memory(&self) -> Result<Watch> {
        Watch::v2_oom(&self.path)
    }

    fn watch_memory_pressure(&self, pressure: Pressure) -> Result<Watch> {
        Watch::v2_pressure(&self.path, pressure)
    }

    fn stats(&self) -> Result<Stats> {
        stats::read(&self.path)
    }

    fn kill_all(&self) -> Result<()> {
        tree::kill_until_empty(&self.path, &|| tree::processes(&self.path), &|pids| {
            // Linux 5.14 kills a whole subtree at once, frozen or not, and what forks meanwhile as well; but not from a
            // threaded cgroup on.
            match files::write(&self.path, "cgroup.kill", "1") {
                Err(error) if files::is_gone(&error) || files::is(&error, Errno::EOPNOTSUPP) => {
                    kill_frozen(&self.path, pids)
                }
                other => other,
            }
        })?;
        freezer::thaw(&self.path)
    }

    fn destroy(&self) -> Result<()> {
        tree::remove(&self.path)
    }
}

/// Whether a cgroup takes no processes of its own.
fn takes_no_process(error: &Error) -> bool {
    files::is(error, Errno::EBUSY) || files::is(error, Errno::EOPNOTSUPP)
}

/// Where a process is in the hierarchy that is mounted at `mount_point`.
fn own_directory(pid: Pid, mount_point: &Path) -> Option<PathBuf> {
    let path = path_of(pid)?;
    Some(mount_point.join(path.strip_prefix("/").ok()?))
}

/// The path of a process's cgroup, from the root that this process sees.
pub(super) fn path_of(pid: Pid) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// For older kernels: SIGKILL reaches frozen processes of version 2, so they are stopped for the listing only.
fn kill_frozen(path: &Path, pids: &std::collections::BTreeSet<Pid>) -> Result<()> {
    let listed = match freezer::freeze(path) {
        Ok(()) => tree::processes(path)?,
        Err(_) => pids.clone(),
    };
    let killed = tree::kill_each(&listed);
    freezer::thaw(path)?;
    killed
}

#[cfg(test)]
mod tests;
