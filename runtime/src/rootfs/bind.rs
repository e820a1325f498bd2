//! Bind mounts: what is bound, and where.
//!
//! The process that becomes the container's makes them itself where it can. Two things it cannot do in a user
//! namespace, whatever capabilities it has there: reach a source below a folder that only the host's root may enter,
//! and map the ids of a file system that belongs to the host. Then floe does it, with its own rights, from within the
//! container's mount namespace: in there the mounts that the namespace has inherited are locked (mount_namespaces(7)),
//! so that what floe binds can be uncovered and made writable in the container no more than what it binds itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use nix::unistd::Pid;
use rustix::fs::{FileType, fstat};

use super::beneath::{Found, Root};
use super::detached::Detached;
use crate::config::{Mount, MountKind, SourceLink};
use crate::error::{Error, Result};

/// Who has the host's rights.
pub(crate) trait Outside {
    /// The source of mount `number` of the configuration a second time, not attached, its ids mapped.
    fn tree(&mut self, number: usize) -> Result<OwnedFd>;
}

/// What is bound, not attached yet.
pub(super) fn source(
    mount: &Mount,
    recursive: bool,
    number: usize,
    outside: &mut dyn Outside,
) -> Result<Detached> {
    let from_outside = |outside: &mut dyn Outside| outside.tree(number).map(Detached::given);
    if mount.ids.is_some() {
        return from_outside(outside);
    }
    match copy(mount, recursive) {
        Err(Error::Call { source, .. }) if source.raw_os_error() == Some(nix::libc::EACCES) => {
            from_outside(outside)
        }
        other => other,
    }
}

fn copy(mount: &Mount, recursive: bool) -> Result<Detached> {
    let source = mount.source.as_deref().unwrap_or(Path::new(""));
    match mount.source_link {
        SourceLink::Bind => Detached::copy_of_link(source, recursive),
        SourceLink::Follow | SourceLink::Copy => Detached::copy_of_path(source, recursive),
    }
}

/// Where it goes: a folder is bound onto one, anything else onto a file; what is missing is made.
pub(super) fn place(root: &Root, mount: &Mount, tree: &Detached) -> Result<Found> {
    let kind = fstat(tree).map_err(Error::at("stat", mount.source.as_deref().unwrap_or(Path::new(""))))?;
    match FileType::from_raw_mode(kind.st_mode) {
        FileType::Directory => root.folder(&mount.destination),
        _ if mount.destination_link => root.entry(&mount.destination),
        _ => root.file(&mount.destination),
    }
}

/// Makes the source of `mount` for the process `pid`, with floe's rights and in the mount namespace of `pid`. The ids of
/// its files are those of `user_namespace`, if there is one.
pub(crate) fn tree_for(mount: &Mount, pid: Pid, user_namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let MountKind::Bind { recursive } = mount.kind else {
        return Err(Error::start("it asked for the source of something that is no bind mount"));
    };
    let source = mount.source.as_deref().unwrap_or(Path::new(""));
    in_mount_namespace(pid, || {
        let tree = copy(mount, recursive)?;
        if let (Some(namespace), Some(ids)) = (user_namespace, &mount.ids) {
            tree.map_ids(namespace, recursive && ids.recursive, source)?;
        }
        Ok(tree.into_fd())
    })
}

/// Does something in the mount namespace of a process. A thread can be in another one than its process, if it shares no
/// directories with the other threads (setns(2)); it ends with what it has to do.
pub(super) fn in_mount_namespace<T: Send>(pid: Pid, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = std::fs::File::open(&path).map_err(Error::at("open", &path))?;
    let enter = || {
        nix::sched::unshare(CloneFlags::CLONE_FS).map_err(Error::at("unshare", "the working directory"))?;
        nix::sched::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS).map_err(Error::at("setns", &path))?;
        work()
    };
    std::thread::scope(|scope| {
        let there = std::thread::Builder::new().spawn_scoped(scope, enter);
        let there = there.map_err(Error::at("start", "a thread"))?;
        there.join().unwrap_or_else(|_| Err(Error::start("the thread in the container's mounts panicked")))
    })
}
