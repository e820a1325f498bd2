//! Version 1: one directory in each hierarchy.

mod freezer;
mod limits;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Cgroup, CgroupPaths, CgroupVersion, Entrance, files, tree};
use crate::config::Resources;
use crate::error::{Error, Result};

/// A cgroup of version 1.
#[derive(Debug, Clone)]
pub struct V1 {
    /// By the hierarchy's controllers, as [`CgroupPaths`].
    directories: CgroupPaths,
}

impl V1 {
    /// The cgroup with these directories, by hierarchy.
    #[must_use]
    pub fn new(directories: CgroupPaths) -> Self {
        Self { directories }
    }

    /// The directory in the hierarchy that has this controller.
    fn directory(&self, controller: &str) -> Option<&Path> {
        let (_, path) =
            self.directories.iter().find(|(name, _)| name.split(',').any(|each| each == controller))?;
        Some(path)
    }

    /// As [`V1::directory`], for a limit that can't do without.
    fn needed(&self, controller: &str, needed_for: &str) -> Result<&Path> {
        self.directory(controller).ok_or_else(|| Error::NoController {
            controller: controller.to_owned(),
            needed_for: needed_for.to_owned(),
        })
    }

    /// Processes by any hierarchy: one that was moved elsewhere in a single one is still the container's.
    fn all_processes(&self) -> Result<BTreeSet<Pid>> {
        let mut pids = BTreeSet::new();
        for path in self.directories.values() {
            pids.extend(tree::processes(path)?);
        }
        Ok(pids)
    }

    fn make_directories(&self) -> Result<()> {
        for (name, path) in &self.directories {
            make_with_parents(path, name.split(',').any(|controller| controller == "cpuset"))?;
        }
        Ok(())
    }

    /// For errors: the freezer's directory, or else any.
    fn shown_path(&self) -> PathBuf {
        self.freezer_path().or_else(|| self.directories.values().next().cloned()).unwrap_or_default()
    }
}

impl Cgroup for V1 {
    fn version(&self) -> CgroupVersion {
        CgroupVersion::V1
    }

    fn directories(&self) -> CgroupPaths {
        self.directories.clone()
    }

    fn freezer_path(&self) -> Option<PathBuf> {
        self.directory("freezer").map(Path::to_owned)
    }

    fn claim(&self) -> Result<()> {
        for path in self.directories.values() {
            let pids = tree::processes(path)?;
            if !pids.is_empty() {
                let pids = pids.iter().map(|pid| pid.as_raw()).collect();
                return Err(Error::CgroupInUse { path: path.clone(), pids });
            }
        }
        self.make_directories()
    }

    fn add(&self, pid: Pid) -> Result<()> {
        self.make_directories()?;
        self.directories.values().try_for_each(|path| move_into(path, pid))
    }

    fn join(&self, pid: Pid) -> Result<()> {
        let there: Vec<_> = self.directories.values().filter(|path| path.exists()).collect();
        if there.is_empty() {
            let gone = std::io::Error::from(Errno::ENOENT);
            return Err(Error::call("open", self.shown_path().display(), gone));
        }
        there.into_iter().try_for_each(|path| move_into(path, pid))
    }

    fn entrance(&self) -> Entrance {
        let tasks = self.directories.values().map(|path| path.join("tasks")).filter(|tasks| tasks.exists());
        Entrance { directory: None, tasks: tasks.collect() }
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        let listed = self.freezer_path().or_else(|| self.directories.values().next().cloned());
        Ok(listed.map(|path| tree::processes(&path)).transpose()?.unwrap_or_default().into_iter().collect())
    }

    fn freeze(&self) -> Result<()> {
        freezer::freeze(self.needed("freezer", "freezing")?)
    }

    fn thaw(&self) -> Result<()> {
        self.directory("freezer").map_or(Ok(()), freezer::thaw)
    }

    fn is_frozen(&self) -> Result<bool> {
        self.directory("freezer").map_or(Ok(false), freezer::is_frozen)
    }

    fn apply_limits(&self, resources: &Resources) -> Result<()> {
        limits::apply(self, resources)
    }

    fn kill_all(&self) -> Result<()> {
        let freezer = self.directory("freezer");
        tree::kill_until_empty(&self.shown_path(), &|| self.all_processes(), &|_| {
            // Without a stop between listing and killing, a process that forks fast enough always has a child that
            // isn't listed yet. A freeze that doesn't succeed is no reason not to kill.
            let frozen = freezer.is_some_and(|dir| freezer::try_freeze(dir).is_ok());
            let killed = self.all_processes().and_then(|pids| tree::kill_each(&pids));
            if let Some(dir) = freezer.filter(|_| frozen) {
                freezer::thaw(dir)?;
            }
            killed
        })?;
        self.thaw()
    }

    fn destroy(&self) -> Result<()> {
        self.directories.values().try_for_each(|path| tree::remove(path))
    }
}

/// Makes `path` and what is missing above it. A cpuset starts without processors and memory nodes and takes no process
/// until it has some, so each level gets its parent's.
fn make_with_parents(path: &Path, cpuset: bool) -> Result<()> {
    if !path.exists() {
        if let Some(parent) = path.parent() {
            make_with_parents(parent, cpuset)?;
        }
        files::make_dir(path)?;
    }
    if cpuset { inherit_cpuset(path) } else { Ok(()) }
}

fn inherit_cpuset(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if files::read_if_there(path, file)?.is_some_and(|value| value.is_empty()) {
            files::write(path, file, &files::read(parent, file)?)?;
        }
    }
    Ok(())
}

/// How often a move that the kernel refuses with `EINVAL` is tried again. It does so for a moment while another
/// process changes the hierarchy, or while the process itself is still being made (`TASK_NEW`).
const MOVE_ATTEMPTS: u32 = 6;

fn move_into(path: &Path, pid: Pid) -> Result<()> {
    let mut attempt = 1;
    loop {
        match files::write(path, "cgroup.procs", &pid.to_string()) {
            Err(Error::Call { source, .. })
                if source.raw_os_error() == Some(Errno::EINVAL as i32) && attempt < MOVE_ATTEMPTS =>
            {
                attempt += 1;
                sleep(Duration::from_millis(30));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
