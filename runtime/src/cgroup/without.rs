//! A container without a cgroup: an ordinary user's who was given none.
//!
//! Its processes are told from others by a namespace that was made for it. Best is a pid namespace: all of it ends with
//! its first process (`pid_namespaces(7)`), so that nothing can be left behind. With another one that holds only as long
//! as the first process lives, since later the kernel may give the namespace's number to a new one; whoever needs more
//! needs a cgroup. What only a cgroup can do is refused.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use nix::unistd::Pid;

use super::{Cgroup, CgroupPaths, CgroupVersion, Entrance, Former, Pressure, Stats, Watch, tree};
use crate::config::{Config, NamespaceKind, Resources};
use crate::error::{Error, Result};
use crate::state::ProcessId;

/// No cgroup.
#[derive(Debug)]
pub(crate) struct Without {
    init: Option<ProcessId>,
    told_by: Option<NamespaceKind>,
}

impl Without {
    /// That of the container whose first process is `init`, if it has one yet.
    pub(crate) fn new(init: Option<ProcessId>, config: &Config) -> Self {
        Self { init, told_by: told_by(config) }
    }

    /// Every process in the first one's namespace, or below one of them: those may be in further ones of their own.
    fn all(&self) -> Result<BTreeSet<Pid>> {
        let Some(init) = self.init.filter(|init| init.is_alive()) else { return Ok(BTreeSet::new()) };
        let namespace_of =
            |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{}", self.told_by?.proc_name())).ok();
        let namespace = namespace_of(init.pid);
        let all = everybody()?;
        let is_inside =
            |pid: &i32| *pid == init.pid || namespace.is_some() && namespace_of(*pid) == namespace;
        let mut inside: BTreeSet<i32> = all.keys().copied().filter(is_inside).collect();
        loop {
            let is_below = |(pid, parent): (&i32, &i32)| {
                (!inside.contains(pid) && inside.contains(parent)).then_some(*pid)
            };
            let below: Vec<i32> = all.iter().filter_map(is_below).collect();
            if below.is_empty() {
                return Ok(inside.into_iter().map(Pid::from_raw).collect());
            }
            inside.extend(below);
        }
    }
}

/// The new namespace by which a container's processes can be told, if it has one.
pub(super) fn told_by(config: &Config) -> Option<NamespaceKind> {
    use NamespaceKind::{Ipc, Mount, Network, Pid, User, Uts};
    [Pid, User, Mount, Ipc, Uts, Network].into_iter().find(|kind| config.creates(*kind))
}

/// Every process that has not ended, with its parent.
fn everybody() -> Result<BTreeMap<i32, i32>> {
    let entries = fs::read_dir("/proc").map_err(Error::at("read", "/proc"))?;
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    let numbers = entries.flatten().filter_map(number);
    // One that is gone meanwhile is gone.
    Ok(numbers
        .filter_map(|pid| Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect())
}

/// The parent of the process with this `/proc/PID/stat` (`proc_pid_stat(5)`); `None` for one that has ended.
fn parent(stat: &str) -> Option<i32> {
    // The name, in parentheses, may hold anything; the last one ends it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

fn needs_a_cgroup(what: &str) -> Error {
    Error::Refused {
        problem: format!("{what} needs a cgroup, and this container has none, since its user was given none"),
        hint: "give the user a cgroup (systemd: Delegate=yes; then `systemd-run --user --scope floe …`) and make the \
               container again",
    }
}

impl Cgroup for Without {
    fn version(&self) -> CgroupVersion {
        CgroupVersion::V2
    }

    fn directories(&self) -> CgroupPaths {
        CgroupPaths::new()
    }

    fn freezer_path(&self) -> Option<PathBuf> {
        None
    }

    fn claim(&self) -> Result<()> {
        Ok(())
    }

    fn add(&self, _pid: Pid) -> Result<()> {
        Ok(())
    }

    fn join(&self, _pid: Pid, _init: Pid) -> Result<()> {
        Ok(())
    }

    fn entrance(&self) -> Entrance {
        Entrance::default()
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        Ok(self.all()?.into_iter().collect())
    }

    fn freeze(&self) -> Result<()> {
        Err(needs_a_cgroup("pausing a container"))
    }

    fn thaw(&self) -> Result<()> {
        Ok(())
    }

    fn is_frozen(&self) -> Result<bool> {
        Ok(false)
    }

    fn apply_limits(&self, resources: &Resources) -> Result<Former> {
        match super::delegated::first_limit(resources) {
            Some(key) => Err(needs_a_cgroup(key)),
            None => Ok(Former::default()),
        }
    }

    fn watch_out_of_memory(&self) -> Result<Watch> {
        Err(needs_a_cgroup("watching for the end of memory"))
    }

    fn watch_memory_pressure(&self, _pressure: Pressure) -> Result<Watch> {
        Err(needs_a_cgroup("watching memory pressure"))
    }

    fn stats(&self) -> Result<Stats> {
        Err(needs_a_cgroup("counting what a container uses"))
    }

    fn kill_all(&self) -> Result<()> {
        let path = self.init.map_or_else(PathBuf::new, |init| PathBuf::from(format!("/proc/{}", init.pid)));
        let init = self.init.map(|init| Pid::from_raw(init.pid));
        if self.told_by != Some(NamespaceKind::Pid) && self.init.is_some_and(|init| !init.is_alive()) {
            tracing::warn!(
                "the container has neither a cgroup nor a pid namespace of its own: what its first process has left \
                 behind, if anything, runs on"
            );
        }
        // The first process may end by itself once the others are killed, and tells nobody any more: those that were found
        // before are waited for all the same.
        let seen = RefCell::new(Vec::<ProcessId>::new());
        let list = || {
            let mut pids = self.all()?;
            let mut seen = seen.borrow_mut();
            seen.retain(|process| process.is_alive());
            let news = pids.iter().filter(|pid| seen.iter().all(|process| process.pid != pid.as_raw()));
            let news: Vec<ProcessId> = news.filter_map(|pid| ProcessId::of(*pid)).collect();
            seen.extend(news);
            pids.extend(seen.iter().map(|process| Pid::from_raw(process.pid)));
            Ok(pids)
        };
        tree::kill_until_empty(&path, &list, &|pids| match (pids.len(), self.told_by) {
            // The others are told by it, and it ends nobody with it.
            (2.., kind) if kind != Some(NamespaceKind::Pid) => {
                tree::kill_each(&pids.iter().copied().filter(|pid| Some(*pid) != init).collect())
            }
            _ => tree::kill_each(pids),
        })
    }

    fn destroy(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::{Namespace, oci};

    #[test]
    fn a_line_of_stat_is_taken_apart() {
        assert_eq!(parent("7 (a) b (c) S 3 7 7 0"), Some(3));
        assert_eq!(parent("7 (a) Z 3 7 7 0"), None, "it has ended");
        assert_eq!(parent("7 a S 3"), None);
    }

    /// A container's first process, in a new namespace of this kind: two processes, and one in another pid namespace
    /// below. Also returns the process that made it.
    fn container(kind: NamespaceKind, flag: &str) -> (Without, std::process::Child) {
        let script = "sleep 1000 & unshare --pid --fork --kill-child sleep 1000 & wait";
        let mut command = Command::new("unshare");
        command.args([flag, "--fork", "--kill-child", "sh", "-c", script]);
        // unshare(1) complains when its child is killed.
        let outer = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let path = format!("/proc/{0}/task/{0}/children", outer.id());
        let first = loop {
            let children = fs::read_to_string(&path).unwrap_or_default();
            if let Ok(first) = children.trim().parse() {
                break first;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let own = Without { init: ProcessId::of(Pid::from_raw(first)), told_by: Some(kind) };
        // The shell, sleep, unshare and its sleep; with another namespace than that of pids the outer one too.
        let deadline = Instant::now() + Duration::from_secs(20);
        while own.processes().unwrap().len() != if kind == NamespaceKind::Pid { 4 } else { 5 } {
            assert!(Instant::now() < deadline, "{:?}", own.processes());
            std::thread::sleep(Duration::from_millis(5));
        }
        (own, outer)
    }

    #[test]
    fn a_pid_namespace_is_listed_with_those_below_and_ended() {
        let (own, mut outer) = container(NamespaceKind::Pid, "--pid");
        assert!(!own.processes().unwrap().contains(&Pid::from_raw(i32::try_from(outer.id()).unwrap())));
        assert!(own.freeze().unwrap_err().hint().is_some_and(|hint| hint.contains("Delegate=yes")));
        own.kill_all().unwrap();
        assert!(own.processes().unwrap().is_empty());
        outer.wait().unwrap();
    }

    #[test]
    fn what_shares_another_namespace_is_ended_too() {
        let (own, mut outer) = container(NamespaceKind::Uts, "--uts");
        let all = own.processes().unwrap();
        own.kill_all().unwrap();
        outer.wait().unwrap();
        let is_left = |pid: &Pid| ProcessId::of(*pid).is_some_and(ProcessId::is_alive);
        assert!(!all.iter().any(is_left), "{all:?}");
    }

    #[test]
    fn a_pid_namespace_tells_best() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("rootfs")).unwrap();
        let spec = oci::template(None).to_string();
        let mut config =
            oci::from_json(spec.as_bytes(), &folder.path().join("config.json"), folder.path()).unwrap();
        let mut told = |kinds: &[NamespaceKind]| {
            config.namespaces = kinds.iter().map(|kind| Namespace { kind: *kind, path: None }).collect();
            told_by(&config)
        };
        assert_eq!(told(&[NamespaceKind::Mount, NamespaceKind::Pid]), Some(NamespaceKind::Pid));
        assert_eq!(told(&[NamespaceKind::Ipc, NamespaceKind::Mount]), Some(NamespaceKind::Mount));
        assert_eq!(told(&[]), None);
    }
}
