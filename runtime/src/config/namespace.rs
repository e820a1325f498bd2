//! Namespaces and the ids inside a user namespace.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

/// A kind of namespace, see `namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// User and group ids, capabilities: `user_namespaces(7)`.
    User,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name and NIS domain name.
    Uts,
    /// Network devices, addresses, routes, sockets.
    Network,
    /// Process ids.
    Pid,
    /// The view of the cgroup hierarchies.
    Cgroup,
    /// Mount points.
    Mount,
    /// Offsets of the monotonic and the boot-time clock.
    Time,
}

impl NamespaceKind {
    /// Every kind, in the order in which namespaces are joined: the user namespace first, since it gives the
    /// capabilities that the others need, and the mount namespace late, since it changes what paths mean.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Ipc, Self::Uts, Self::Network, Self::Pid, Self::Cgroup, Self::Mount, Self::Time];

    /// The flag of `clone(2)`, `unshare(2)` and `setns(2)`.
    #[must_use]
    pub fn flag(self) -> CloneFlags {
        match self {
            Self::User => CloneFlags::CLONE_NEWUSER,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::Pid => CloneFlags::CLONE_NEWPID,
            Self::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Self::Mount => CloneFlags::CLONE_NEWNS,
            // CLONE_NEWTIME, which nix doesn't name: include/uapi/linux/sched.h. Not for clone(2) itself, where the
            // bit means something else; unshare(2), setns(2) and clone3(2) take it.
            Self::Time => CloneFlags::from_bits_retain(0x80),
        }
    }

    /// The name below `/proc/PID/ns`.
    #[must_use]
    pub fn proc_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::Cgroup => "cgroup",
            Self::Mount => "mnt",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for NamespaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Mount => "mount",
            other => other.proc_name(),
        })
    }
}

/// One namespace of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Which kind.
    pub kind: NamespaceKind,
    /// The file of a namespace that is joined (`/proc/PID/ns/net`, `/run/netns/NAME`); `None` creates a new one.
    pub path: Option<PathBuf>,
}

impl Namespace {
    /// Whether it is to be joined and is the one that this process is in already: the container would share it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let Some(path) = &self.path else { return false };
        let about = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
        let own = about(&Path::new("/proc/self/ns").join(self.kind.proc_name()));
        own.is_some() && own == about(path)
    }
}

/// How far a clock of a time namespace is ahead of the host's (`time_namespaces(7)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// Seconds; negative for a clock that is behind.
    pub secs: i64,
    /// Nanoseconds on top of them, below 1,000,000,000.
    pub nanosecs: u32,
}

/// The offsets of a new time namespace; `None` leaves a clock as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffsets {
    /// Of `CLOCK_MONOTONIC` and what is measured by it.
    pub monotonic: Option<TimeOffset>,
    /// Of `CLOCK_BOOTTIME`, which is also what `/proc/uptime` shows.
    pub boottime: Option<TimeOffset>,
}

impl TimeOffsets {
    /// Whether no clock is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.monotonic.is_none() && self.boottime.is_none()
    }
}

/// A range of ids inside a user namespace and the range outside that it stands for, one line of
/// `/proc/PID/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside the namespace.
    pub container: u32,
    /// First id outside of it.
    pub host: u32,
    /// How many ids, at least 1.
    pub count: u32,
}

impl IdMapping {
    /// The id outside that `id` inside stands for, if this range has it.
    #[must_use]
    pub fn to_host(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container)?;
        (offset < self.count).then(|| self.host.checked_add(offset)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_mapped_inside_its_range_only() {
        let mapping = IdMapping { container: 10, host: 100_000, count: 5 };
        assert_eq!(mapping.to_host(9), None);
        assert_eq!(mapping.to_host(10), Some(100_000));
        assert_eq!(mapping.to_host(14), Some(100_004));
        assert_eq!(mapping.to_host(15), None);
        let edge = IdMapping { container: 0, host: u32::MAX, count: 2 };
        assert_eq!(edge.to_host(1), None, "an overflow is no mapping");
    }
}
