//! Version 2: one directory in the unified hierarchy, `Documentation/admin-guide/cgroup-v2.rst`.

mod freezer;
mod limits;

use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::{Cgroup, CgroupPaths, CgroupVersion, Entrance, files, tree};
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

    /// Makes each level, and hands every controller that a level has down to the next: a limit can be set only where
    /// the level above distributes its controller.
    fn make_directories(&self) -> Result<()> {
        let below = self.path.strip_prefix(&self.mount_point).unwrap_or(Path::new(""));
        let mut level = self.mount_point.clone();
        for name in below {
            hand_down_controllers(&level)?;
            level.push(name);
            files::make_dir(&level)?;
        }
        Ok(())
    }
}

/// Writes each available controller to `cgroup.subtree_control`. One that can't be handed down (a level with processes
/// of its own, real-time tasks for `cpu`) is left out: what needs it will say that it isn't there.
fn hand_down_controllers(level: &Path) -> Result<()> {
    let Some(available) = files::read_if_there(level, "cgroup.controllers")? else { return Ok(()) };
    let enabled = files::read(level, "cgroup.subtree_control")?;
    for controller in available.split_whitespace() {
        if enabled.split_whitespace().any(|name| name == controller) {
            continue;
        }
        if let Err(error) = files::write(level, "cgroup.subtree_control", &format!("+{controller}")) {
            tracing::debug!("controller {controller} is not handed down: {error}");
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
        self.join(pid)
    }

    fn join(&self, pid: Pid) -> Result<()> {
        files::write(&self.path, "cgroup.procs", &pid.to_string())
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

    fn apply_limits(&self, resources: &Resources) -> Result<()> {
        limits::apply(&self.path, resources)
    }

    fn kill_all(&self) -> Result<()> {
        tree::kill_until_empty(&self.path, &|| tree::processes(&self.path), &|pids| {
            // Linux 5.14 kills a whole subtree at once, frozen or not, and what forks meanwhile as well.
            match files::write(&self.path, "cgroup.kill", "1") {
                Err(error) if files::is_gone(&error) => kill_frozen(&self.path, pids),
                other => other,
            }
        })?;
        freezer::thaw(&self.path)
    }

    fn destroy(&self) -> Result<()> {
        tree::remove(&self.path)
    }
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
