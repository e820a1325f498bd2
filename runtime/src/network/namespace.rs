//! Network namespaces, by a descriptor. `network_namespaces(7)`.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::netlink::{NetlinkError, Socket};
use crate::error::{Error, Result};
use crate::state::HELD_NAMESPACE;

/// What is open where a namespace is held, and where none is: `NSFS_MAGIC` of `<linux/magic.h>`.
const NSFS: FsType = FsType(0x6e73_6673);

/// A network namespace. It does not end as long as this is there.
#[derive(Debug)]
pub(super) struct Namespace {
    fd: OwnedFd,
    id: NamespaceId,
}

/// Tells a namespace from others that are there at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamespaceId {
    device: u64,
    inode: u64,
}

impl Namespace {
    /// The calling thread's.
    pub(super) fn here() -> Result<Self> {
        // Not /proc/self: that is the first thread's, which may be in another one.
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new one, with nothing but a loopback interface that is down: a thread of its own makes it, and ends.
    pub(super) fn new() -> Result<Self> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                    .map_err(Error::at("unshare", "a network namespace"))?;
                Self::here()
            });
            made.join().unwrap_or_else(|_| {
                Err(Error::call(
                    "unshare",
                    "a network namespace",
                    std::io::Error::other("its thread panicked"),
                ))
            })
        })
    }

    /// A process's.
    pub(super) fn of_process(pid: Pid) -> Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The one that is held in the container's folder; `None` where none is.
    pub(super) fn held(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(HELD_NAMESPACE);
        if !path.exists() {
            return Ok(None);
        }
        let namespace = Self::open(&path)?;
        let about = fstatfs(&namespace.fd).map_err(Error::at("statfs", &path))?;
        // Only the file that it was mounted on: another mount namespace's has the mount, or it is gone.
        Ok(Some(namespace).filter(|_| about.filesystem_type() == NSFS))
    }

    /// The one that `path` leads to.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::at("open", path))?;
        let about = file.metadata().map_err(Error::at("stat", path))?;
        Ok(Self { fd: file.into(), id: NamespaceId { device: about.dev(), inode: about.ino() } })
    }

    pub(super) fn id(&self) -> NamespaceId {
        self.id
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A socket to the kernel in it.
    pub(super) fn socket(&self) -> Result<Socket, NetlinkError> {
        Socket::inside(self.fd())
    }

    /// Keeps it alive by a mount in the container's folder, whatever becomes of its processes and of floe: what was
    /// moved into it would end with it, or come back under another name.
    pub(super) fn hold(&self, folder: &Path) -> Result<()> {
        let path = folder.join(HELD_NAMESPACE);
        let mut empty = fs::OpenOptions::new();
        empty
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o400)
            .open(&path)
            .map_err(Error::at("make", &path))?;
        let source = format!("/proc/thread-self/fd/{}", self.fd.as_raw_fd());
        mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(Error::at("mount the network namespace on", &path))
    }
}
