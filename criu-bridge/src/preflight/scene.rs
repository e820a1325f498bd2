//! What the looks before a checkpoint look at: read once from `/proc`, then only thought about.

use std::collections::HashSet;

use floe_runtime::config::Config;
use procfs::process::MountInfo;

use super::asked::Asked;
use super::diag::{self, UnixSocket};
use crate::error::Result;
use crate::tasks::{self, Connection, Descriptor, Kind, Task};

/// A process as it was found.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its pid on this host.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Its open descriptors.
    pub descriptors: Vec<Descriptor>,
    /// Its memory map.
    pub mappings: Vec<Mapping>,
    /// `/proc/PID/status`.
    pub status: String,
}

impl Process {
    /// `pid` with its name, and nothing else of it.
    pub(crate) fn named(pid: i32) -> Self {
        Self { pid, name: Task::look(pid).name, ..Self::default() }
    }

    /// Looks at `pid`. Of one that has ended meanwhile nothing is found.
    pub fn look(pid: i32) -> Self {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        Self {
            descriptors: tasks::descriptors(pid).unwrap_or_default(),
            mappings: maps.lines().filter_map(Mapping::parse).collect(),
            status: std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(),
            ..Self::named(pid)
        }
    }

    /// A field of its status, such as `TracerPid`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// What `/proc/PID/fdinfo/FD` says; empty if it is closed.
    pub fn info(&self, fd: i32) -> String {
        std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.pid)).unwrap_or_default()
    }
}

/// A line of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address behind it.
    pub end: u64,
    /// Major and minor number of the file's device, hexadecimal: `08:01`.
    pub device: String,
    /// Inode of the file; 0 without one.
    pub inode: u64,
    /// The file, or a name in brackets; may be empty.
    pub path: String,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let text = rest.trim_start();
            let end = text.find(' ').unwrap_or(text.len());
            let (word, after) = text.split_at(end);
            rest = after;
            word
        };
        let (start, end) = word().split_once('-')?;
        let (_permissions, _offset) = (word(), word());
        let device = word().to_owned();
        let inode = word().parse().ok()?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { start: hex(start)?, end: hex(end)?, device, inode, path: rest.trim_start().to_owned() })
    }

    /// As `/proc/PID/map_files` names it.
    pub fn range(&self) -> String {
        format!("{:x}-{:x}", self.start, self.end)
    }
}

/// What would be dumped.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// Every process, the first one first.
    pub processes: Vec<Process>,
    /// What was allowed.
    pub asked: Asked,
    /// The container's configuration; `None` for plain processes.
    pub config: Option<&'a Config>,
    /// The mount table of the first process.
    pub mounts: Vec<MountInfo>,
    /// This process's own.
    pub host_mounts: Vec<MountInfo>,
    /// UNIX sockets of the first process's network namespace.
    pub unix: Vec<UnixSocket>,
    /// TCP connections.
    pub connections: Vec<Connection>,
}

impl<'a> Scene<'a> {
    /// Looks at `pids`, the first of which is the root of the tree.
    ///
    /// # Errors
    /// [`crate::Error::Call`] if the first process cannot be looked at.
    pub fn look(pids: &[i32], config: Option<&'a Config>, asked: Asked) -> Result<Self> {
        let init = pids.first().copied().unwrap_or_default();
        let host = std::process::id().cast_signed();
        Ok(Self {
            processes: pids.iter().map(|pid| Process::look(*pid)).collect(),
            asked,
            config,
            mounts: tasks::mounts(init)?,
            host_mounts: tasks::mounts(host)?,
            unix: diag::unix_sockets(init),
            connections: tasks::connections(pids),
        })
    }

    /// The first process.
    pub fn root(&self) -> Option<&Process> {
        self.processes.first()
    }

    /// The process `pid`, if it is one of them.
    pub fn process(&self, pid: i32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// Every descriptor with its process.
    pub fn descriptors(&self) -> impl Iterator<Item = (&Process, &Descriptor)> {
        self.processes
            .iter()
            .flat_map(|process| process.descriptors.iter().map(move |descriptor| (process, descriptor)))
    }

    /// Inode numbers of all sockets that they hold.
    pub fn sockets(&self) -> HashSet<u64> {
        let sockets = self.descriptors().filter(|(_, descriptor)| descriptor.kind == Kind::Socket);
        sockets.map(|(_, descriptor)| descriptor.inode).collect()
    }

    /// The mount `id` of the first process's table.
    pub fn mount(&self, id: i32) -> Option<&MountInfo> {
        self.mounts.iter().find(|mount| mount.mnt_id == id)
    }

    /// Whether `process` lives in the mount namespace of the first one.
    pub fn shares_mounts(&self, process: &Process) -> bool {
        let of = |pid| tasks::namespace(pid, "mnt").ok();
        self.root().is_some_and(|root| root.pid == process.pid || of(root.pid) == of(process.pid))
    }
}

#[cfg(test)]
impl Scene<'_> {
    /// A scene of one process, for the tests of the looks.
    pub(crate) fn of(process: Process) -> Self {
        Self {
            processes: vec![process],
            asked: Asked::default(),
            config: None,
            mounts: Vec::new(),
            host_mounts: Vec::new(),
            unix: Vec::new(),
            connections: Vec::new(),
        }
    }
}

#[cfg(test)]
impl Process {
    /// A process with one descriptor, for the tests of the looks.
    pub(crate) fn with(target: &str, kind: Kind, change: impl FnOnce(&mut Descriptor)) -> Self {
        let mut descriptor = Descriptor {
            pid: 7,
            fd: 5,
            target: target.into(),
            kind,
            mount: 1,
            inode: 9,
            device: 1,
            rdev: 0,
            size: 0,
            deleted: false,
            position: 0,
            flags: 0,
        };
        change(&mut descriptor);
        Self { pid: 7, name: "web".to_owned(), descriptors: vec![descriptor], ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read_with_its_path() {
        let line = "7f10c5d66000-7f10c5d67000 rw-s 00000000 00:0f 14 /anon inode:[io_uring] x";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.start, mapping.inode), (0x7f10_c5d6_6000, 14));
        assert_eq!((mapping.device.as_str(), mapping.path.as_str()), ("00:0f", "/anon inode:[io_uring] x"));
        assert_eq!(mapping.range(), "7f10c5d66000-7f10c5d67000");
        assert_eq!(Mapping::parse("10-20 rw-p 0 00:00 0 ").unwrap().path, "");
        assert!(Mapping::parse("nonsense").is_none());
    }

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id().cast_signed();
        let scene = Scene::look(&[me], None, Asked::default()).unwrap();
        let root = scene.root().unwrap();
        assert_eq!(root.field("TracerPid"), Some("0"));
        assert!(!root.mappings.is_empty() && !root.descriptors.is_empty());
    }
}
