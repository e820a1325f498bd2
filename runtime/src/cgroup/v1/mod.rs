//! Version 1: one directory in each hierarchy.

mod cpuset;
mod freezer;
mod limits;
mod stats;

pub(super) use cpuset::inherit as inherit_cpuset;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::devices::{self, DeviceList};
use super::setting::{self, Former};
use super::{Cgroup, CgroupPaths, CgroupVersion, Entrance, Pressure, Stats, V2, Watch, files, tree};
use crate::config::Resources;
use crate::error::{Error, Result};

/// A cgroup of version 1.
#[derive(Debug, Clone)]
pub struct V1 {
    /// By the hierarchy's controllers, as [`CgroupPaths`].
    directories: CgroupPaths,
    /// On a hybrid host, the directory in the unified hierarchy: systemd tells by it whose a process is, and
    /// controllers that no version 1 hierarchy has may be there.
    unified: Option<V2>,
}

impl V1 {
    /// The cgroup with these directories, by hierarchy.
    #[must_use]
    pub fn new(directories: CgroupPaths) -> Self {
        Self { directories, unified: None }
    }

    /// With a directory in the unified hierarchy beside them.
    #[must_use]
    pub fn beside(self, unified: V2) -> Self {
        Self { unified: Some(unified), ..self }
    }

    /// The directory in the hierarchy that has this controller.
    pub(super) fn directory(&self, controller: &str) -> Option<&Path> {
        let (_, path) =
            self.directories.iter().find(|(name, _)| name.split(',').any(|each| each == controller))?;
        Some(path)
    }

    /// As [`V1::directory`], for what can't do without.
    fn needed(&self, controller: &str, needed_for: &str) -> Result<&Path> {
        self.directory(controller).ok_or_else(|| Error::NoController {
            controller: controller.to_owned(),
            needed_for: needed_for.to_owned(),
            why: "no mounted hierarchy has it".to_owned(),
        })
    }

    /// The directory in the unified hierarchy, if that one has this controller.
    fn unified_with(&self, controller: &str) -> Option<&Path> {
        self.unified.as_ref().filter(|unified| unified.has(controller)).map(V2::path)
    }

    /// Every directory, the unified one first.
    fn all(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().map(V2::path).chain(self.directories.values().map(PathBuf::as_path))
    }

    /// Processes by any hierarchy: one that was moved elsewhere in a single one is still the container's.
    fn all_processes(&self) -> Result<BTreeSet<Pid>> {
        let mut pids = BTreeSet::new();
        for path in self.all() {
            pids.extend(tree::processes(path)?);
        }
        Ok(pids)
    }

    fn make_directories(&self) -> Result<()> {
        if let Some(unified) = &self.unified {
            unified.make_directory()?;
        }
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
        let unified = self.unified.iter().map(|unified| (String::new(), unified.path().to_owned()));
        self.directories.clone().into_iter().chain(unified).collect()
    }

    fn freezer_path(&self) -> Option<PathBuf> {
        self.directory("freezer").map(Path::to_owned)
    }

    fn claim(&self) -> Result<()> {
        for path in self.all() {
            let pids = tree::processes(path)?;
            if !pids.is_empty() {
                let pids = pids.iter().map(|pid| pid.as_raw()).collect();
                return Err(Error::CgroupInUse { path: path.to_owned(), pids });
            }
        }
        self.make_directories()
    }

    fn add(&self, pid: Pid) -> Result<()> {
        self.make_directories()?;
        self.all().try_for_each(|path| move_into(path, pid))
    }

    fn join(&self, pid: Pid, init: Pid) -> Result<()> {
        let mut there = self.directories.values().filter(|path| path.exists()).peekable();
        if there.peek().is_none() {
            let gone = std::io::Error::from(Errno::ENOENT);
            return Err(Error::call("open", self.shown_path().display(), gone));
        }
        there.try_for_each(|path| move_into(path, pid))?;
        match &self.unified {
            Some(unified) if unified.path().exists() => unified.join(pid, init),
            _ => Ok(()),
        }
    }

    fn entrance(&self) -> Entrance {
        let tasks = self.directories.values().map(|path| path.join("tasks")).filter(|tasks| tasks.exists());
        let unified = self.unified.as_ref().map(V2::entrance).unwrap_or_default();
        Entrance { tasks: tasks.collect(), ..unified }
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

    fn apply_limits(&self, resources: &Resources) -> Result<Former> {
        if let Some(unified) = &self.unified
            && !(resources.hugepage_limits.is_empty()
                && resources.rdma.is_empty()
                && resources.unified.is_empty())
        {
            unified.make_directories()?;
        }
        let plan = limits::plan(self, resources)?;
        let list = match resources.devices.as_slice() {
            [] => None,
            rules => Some((self.needed("devices", "linux.resources.devices")?, DeviceList::of(rules)?)),
        };
        let former = setting::make(plan)?;
        if let Some((dir, list)) = list {
            devices::enforce_v1(dir, &list).inspect_err(|_| former.take_back())?;
        }
        Ok(former)
    }

    fn watch_out_of_memory(&self) -> Result<Watch> {
        Watch::v1_oom(self.needed("memory", "telling when memory runs out")?)
    }

    fn watch_memory_pressure(&self, pressure: Pressure) -> Result<Watch> {
        Watch::v1_pressure(self.needed("memory", "telling of memory pressure")?, pressure)
    }

    fn stats(&self) -> Result<Stats> {
        stats::read(self)
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
        self.all().try_for_each(tree::remove)
    }
}

/// Makes `path` and what is missing above it.
fn make_with_parents(path: &Path, cpuset: bool) -> Result<()> {
    if !path.exists() {
        if let Some(parent) = path.parent() {
            make_with_parents(parent, cpuset)?;
        }
        files::make_dir(path)?;
    }
    if cpuset { cpuset::inherit(path) } else { Ok(()) }
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
