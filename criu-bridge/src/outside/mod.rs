//! What a container has of the world outside it: mounts of host files, descriptors that were opened on the host,
//! namespaces that it shares.
//!
//! CRIU does not look behind such things: it has to be told their names (`external`), and at a restore what stands
//! for each name now. The names are kept in the snapshot; the places on this host are not, for a snapshot is data
//! from anywhere. They stay in this host's own record ([`crate::record`]).

mod connections;
mod interfaces;
mod lock;
pub(crate) mod netns;
mod nftables;
pub(crate) mod places;
mod repair;
pub(crate) mod rules;
mod tool;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;
use serde::{Deserialize, Serialize};

pub use connections::{Connection, Fate};
pub(crate) use connections::{demand_addresses, of as connections_of};
pub use interfaces::OutsideInterface;
pub(crate) use interfaces::{interfaces, remember};
pub use lock::NetworkLock;
pub(crate) use lock::{Method as LockMethod, choose as choose_lock};

use floe_runtime::cgroup::InnerCgroup;

use crate::error::Result;
use crate::tasks::{self, Descriptor, Kind};

/// What masks files, and its key.
pub(crate) const NULL: &str = "/dev/null";

/// What a snapshot keeps of the outside: names, not places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Mounts whose content is the host's.
    pub mounts: Vec<OutsideMount>,
    /// Files that were opened on the host.
    pub files: Vec<OutsideFile>,
    /// Terminals of the host.
    pub terminals: Vec<OutsideTerminal>,
    /// Namespaces that were joined.
    pub namespaces: Vec<OutsideNamespace>,
    /// What descriptors 0, 1 and 2 of the first process led to (`descriptors.json` of runc).
    pub stdio: Vec<String>,
    /// The cgroups that it had made below its own, with the numbers that their processes have in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<InnerCgroup>,
    /// What holds back packets for its connections, in a network namespace of others that it shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<LockMethod>,
    /// Interfaces that floe made for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<OutsideInterface>,
}

/// A mount whose content is the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideMount {
    /// Where it is in the container.
    pub destination: String,
    /// What it is.
    pub kind: MountKind,
    /// CRIU's key for it; empty where that is the destination.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
}

impl OutsideMount {
    /// CRIU's key for it.
    pub fn key(&self) -> &str {
        if self.key.is_empty() { &self.destination } else { &self.key }
    }
}

/// The kinds of mounts that come from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A file or folder of the host.
    Bind,
    /// A device node of the host's `/dev`, by its name there.
    Device(String),
    /// The container's own folder in a cgroup v1 hierarchy, by the hierarchy's controllers (`cpu,cpuacct`,
    /// `name=systemd`), or `unified`.
    Cgroup(String),
}

/// A regular file that was opened on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideFile {
    /// CRIU's key: `file[MOUNT:INODE]`, hexadecimal.
    pub key: String,
    /// Which of the first process's standard streams it is; `None` for other descriptors.
    pub stdio: Option<i32>,
    /// Its size at the checkpoint, in bytes.
    pub size: u64,
    /// Open flags.
    pub flags: i32,
    /// Whether it had been deleted (no link was left) at the checkpoint.
    #[serde(default)]
    pub deleted: bool,
}

/// A terminal of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideTerminal {
    /// CRIU's key: `tty[RDEV:DEV]`, hexadecimal.
    pub key: String,
    /// Which of the first process's standard streams it is.
    pub stdio: Option<i32>,
}

/// A namespace that was joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideNamespace {
    /// `net` or `pid`, as in `/proc/PID/ns`.
    pub kind: String,
    /// CRIU's key for it at the restore.
    pub key: String,
}

/// An outside mount as a dump sees it, or the reason why it cannot be dumped.
pub fn mounts_of(container: &[MountInfo], host: &[MountInfo], own_cgroups: bool) -> Vec<OutsideMount> {
    let host_devices: HashSet<&str> = host.iter().map(|mount| mount.majmin.as_str()).collect();
    let mut found = BTreeMap::new();
    for mount in container.iter().filter(|mount| mount.mount_point != Path::new("/")) {
        if let Some(kind) = kind_of(mount, container, &host_devices, own_cgroups) {
            let destination = mount.mount_point.to_string_lossy().into_owned();
            let key = key_of(&kind);
            found.insert(destination.clone(), OutsideMount { destination, kind, key });
        }
    }
    found.into_values().collect()
}

/// What masks a file is `/dev/null` to all runtimes, so that runc, which names it once for all of them, finds it.
fn key_of(kind: &MountKind) -> String {
    match kind {
        MountKind::Device(name) if name == "null" => NULL.to_owned(),
        _ => String::new(),
    }
}

fn kind_of(
    mount: &MountInfo,
    container: &[MountInfo],
    host_devices: &HashSet<&str>,
    own_cgroups: bool,
) -> Option<MountKind> {
    match mount.fs_type.as_str() {
        // One of a kind in the kernel, or of its namespace: CRIU makes them anew, and binds within them.
        "proc" | "sysfs" | "mqueue" | "devpts" | "securityfs" | "debugfs" | "tracefs" | "bpf" => None,
        "cgroup" | "cgroup2" if own_cgroups => None,
        "cgroup" => Some(MountKind::Cgroup(controllers(mount))),
        "cgroup2" => Some(MountKind::Cgroup("unified".to_owned())),
        "devtmpfs" => {
            let name = mount.root.trim_start_matches('/');
            Some(if name.is_empty() { MountKind::Bind } else { MountKind::Device(name.to_owned()) })
        }
        _ => {
            let of_host = host_devices.contains(mount.majmin.as_str());
            let whole = container
                .iter()
                .any(|other| other.majmin == mount.majmin && other.root == "/" && other.fs_type == "tmpfs");
            (of_host || !whole).then_some(MountKind::Bind)
        }
    }
}

/// The controllers of a cgroup v1 mount, as the last folder of its usual place is named.
fn controllers(mount: &MountInfo) -> String {
    mount.mount_point.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The cgroups below the container's, with their processes by the numbers that they have in the container.
///
/// # Errors
/// As [`floe_runtime::cgroup::inner`].
pub(crate) fn inner_cgroups(cgroup: &dyn floe_runtime::cgroup::Cgroup) -> Result<Vec<InnerCgroup>> {
    let mut found = floe_runtime::cgroup::inner(cgroup)?;
    for one in &mut found {
        let number = |pid: &u32| tasks::inner_number(pid.cast_signed());
        one.processes = one.processes.iter().filter_map(number).collect();
    }
    Ok(found)
}

/// Host files and terminals found open in a stopped tree, with the places that they have on this host.
#[derive(Debug, Clone, Default)]
pub struct HostFiles {
    /// For the snapshot.
    pub files: Vec<OutsideFile>,
    /// For the snapshot.
    pub terminals: Vec<OutsideTerminal>,
    /// For this host's record: path by key.
    pub paths: BTreeMap<String, PathBuf>,
    /// Descriptors that lead outside and that nothing can be done about.
    pub stray: Vec<Descriptor>,
}

impl HostFiles {
    /// The keys that CRIU has to know.
    pub fn keys(&self) -> Vec<String> {
        let files = self.files.iter().map(|file| file.key.clone());
        files.chain(self.terminals.iter().map(|terminal| terminal.key.clone())).collect()
    }
}

/// Looks through the descriptors of `pids`, the first of which is the container's first process.
///
/// # Errors
/// [`crate::Error::Call`] if the first process cannot be looked at.
pub fn host_files(pids: &[i32]) -> Result<HostFiles> {
    let mut found = HostFiles::default();
    let Some(&init) = pids.first() else { return Ok(found) };
    let inside = tasks::mount_ids(&tasks::mounts(init)?);
    for &pid in pids {
        let mut known = inside.clone();
        if pid != init && tasks::namespace(pid, "mnt").ok() != tasks::namespace(init, "mnt").ok() {
            known.extend(tasks::mount_ids(&tasks::mounts(pid).unwrap_or_default()));
        }
        for descriptor in tasks::descriptors(pid).unwrap_or_default() {
            if !known.contains(&descriptor.mount) {
                found.note(descriptor, init);
            }
        }
    }
    Ok(found)
}

impl HostFiles {
    fn note(&mut self, descriptor: Descriptor, init: i32) {
        let stdio = (descriptor.pid == init && (0..=2).contains(&descriptor.fd)).then_some(descriptor.fd);
        match descriptor.kind {
            Kind::Regular => {
                let key = format!("file[{:x}:{:x}]", descriptor.mount, descriptor.inode);
                if !self.files.iter().any(|file| file.key == key) {
                    let Descriptor { size, flags, target, deleted, .. } = descriptor;
                    if !deleted {
                        self.paths.insert(key.clone(), target);
                    }
                    self.files.push(OutsideFile { key, stdio, size, flags, deleted });
                }
            }
            Kind::Terminal => {
                let key = format!("tty[{:x}:{:x}]", descriptor.rdev, descriptor.device);
                if !self.terminals.iter().any(|terminal| terminal.key == key) {
                    self.paths.insert(key.clone(), descriptor.target);
                    self.terminals.push(OutsideTerminal { key, stdio });
                }
            }
            Kind::Directory => self.stray.push(descriptor),
            Kind::Device | Kind::Pipe | Kind::Socket | Kind::Anonymous => {}
        }
    }
}

/// What descriptors 0, 1 and 2 of `pid` lead to, in the form of runc's `descriptors.json`.
pub fn stdio_of(pid: i32) -> Vec<String> {
    (0..3)
        .map(|fd| {
            std::fs::read_link(format!("/proc/{pid}/fd/{fd}"))
                .map_or_else(|_| "/dev/null".to_owned(), |target| target.to_string_lossy().into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> MountInfo {
        MountInfo::from_line(line).unwrap()
    }

    fn table() -> (Vec<MountInfo>, Vec<MountInfo>) {
        let host = vec![
            mount("20 1 8:1 / / rw - ext4 /dev/sda1 rw"),
            mount("21 20 0:5 / /dev rw - devtmpfs udev rw"),
            mount("22 20 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"),
        ];
        let container = vec![
            mount("100 90 8:1 /bundle/rootfs / rw - ext4 /dev/sda1 rw"),
            mount("101 100 0:50 / /proc rw - proc proc rw"),
            mount("102 101 0:50 /sys /proc/sys ro - proc proc rw"),
            mount("103 100 0:51 / /dev rw - tmpfs tmpfs rw"),
            mount("104 101 0:51 /null /proc/kcore rw - tmpfs tmpfs rw"),
            mount("105 101 0:5 /null /proc/timer_list rw - devtmpfs udev rw"),
            mount("106 100 8:1 /srv/data /data rw - ext4 /dev/sda1 rw"),
            mount("107 100 0:30 /web /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"),
            mount("108 100 0:52 / /tmp rw - tmpfs tmpfs rw"),
        ];
        (container, host)
    }

    #[test]
    fn only_what_the_host_owns_is_outside() {
        let (container, host) = table();
        let found: Vec<_> =
            mounts_of(&container, &host, false).into_iter().map(|m| (m.destination, m.kind)).collect();
        assert_eq!(
            found,
            [
                ("/data".to_owned(), MountKind::Bind),
                ("/proc/timer_list".to_owned(), MountKind::Device("null".to_owned())),
                ("/sys/fs/cgroup/memory".to_owned(), MountKind::Cgroup("memory".to_owned())),
            ]
        );
    }

    #[test]
    fn a_cgroup_namespace_of_its_own_leaves_cgroup_mounts_to_criu() {
        let (container, host) = table();
        assert!(!mounts_of(&container, &host, true).iter().any(|m| m.destination.starts_with("/sys/fs")));
    }

    #[test]
    fn a_file_opened_on_this_host_is_no_stranger_to_this_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        let _file = tempfile::tempfile().unwrap();
        assert!(host_files(&[me]).unwrap().files.is_empty());
    }
}
