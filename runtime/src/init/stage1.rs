//! Into the namespaces, and through the fork that the pid namespace needs.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::gone;
use super::shield::Shield;
use crate::cgroup::Doors;
use crate::config::NamespaceKind;
use crate::error::{Error, Result};
use crate::launch::message::{Bootstrap, FromChild, Join, Passed, Peer, ToChild};
use crate::sys::{self, Forked};

/// What the new process has from the host.
#[derive(Debug)]
pub(super) struct Handed {
    /// Where it waits for `start`.
    pub(super) fifo: Option<OwnedFd>,
    /// Where the master of its terminal goes.
    pub(super) console: Option<OwnedFd>,
}

/// Returns something in the new process, and nothing in this one, which has nothing left to do.
pub(super) fn enter(peer: &mut Peer, bootstrap: &Bootstrap, shield: &Shield) -> Result<Option<Handed>> {
    let root = bootstrap.root.as_deref().map(open_root).transpose()?;
    join(bootstrap)?;
    if let Some(root) = root {
        nix::unistd::fchdir(&root).map_err(Error::at("chdir", "the container's root"))?;
        nix::unistd::chroot(".").map_err(Error::at("chroot", "the container's root"))?;
    }
    if bootstrap.create.contains(&NamespaceKind::User) {
        nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(explain_unshare)?;
        // The maps are among the files that floe could not write.
        shield.lower()?;
        peer.send(&FromChild::MapIds)?;
        let Some(ToChild::Mapped) = peer.receive()? else { return Err(gone()) };
        become_root()?;
    }
    if bootstrap.create.contains(&NamespaceKind::Time) {
        nix::sched::unshare(NamespaceKind::Time.flag())
            .map_err(Error::at("unshare", "the time namespace"))?;
        // Before a process is in it: after that they are fixed (time_namespaces(7)).
        if bootstrap.clocks {
            // Neither could it write these.
            shield.lower()?;
            peer.send(&FromChild::SetClocks)?;
            let Some(ToChild::ClocksSet) = peer.receive()? else { return Err(gone()) };
        }
    }
    // The changes of user may have set it otherwise.
    shield.restore()?;
    unshare(bootstrap)?;
    peer.send(&FromChild::Unshared)?;
    let Some(ToChild::Passed(passed)) = peer.receive()? else { return Err(gone()) };
    let (handed, doors) = take(peer, passed)?;
    Ok(fork(peer, bootstrap, doors)?.then_some(handed))
}

/// The namespaces that a process can make for itself. The kernel takes its time over a network, which floe uses for the
/// cgroup. That namespace comes when the process is in its cgroup, and that of pids is only for the next process.
fn unshare(bootstrap: &Bootstrap) -> Result<()> {
    use NamespaceKind::{Ipc, Mount, Network, Uts};
    for kind in [Mount, Uts, Ipc, Network].into_iter().filter(|kind| bootstrap.create.contains(kind)) {
        nix::sched::unshare(kind.flag()).map_err(|errno| match errno {
            Errno::ENOSPC => Error::start(format!(
                "unshare the {kind} namespace: none is left (sysctl user.max_{}_namespaces)",
                kind.proc_name()
            )),
            errno => Error::call("unshare", format!("the {kind} namespace"), errno),
        })?;
    }
    Ok(())
}

/// Receives the descriptors.
fn take(peer: &mut Peer, passed: Passed) -> Result<(Handed, Doors)> {
    let mut fds = peer.receive_fds(passed.count())?.into_iter();
    let mut next = |wanted: bool| if wanted { fds.next() } else { None };
    let handed = Handed { fifo: next(passed.fifo), console: next(passed.console) };
    let doors =
        Doors { directory: next(passed.directory), tasks: passed.tasks.into_iter().zip(fds).collect() };
    Ok((handed, doors))
}

fn fork(peer: &mut Peer, bootstrap: &Bootstrap, doors: Doors) -> Result<bool> {
    let mut flags = CloneFlags::CLONE_PARENT;
    if bootstrap.create.contains(&NamespaceKind::Pid) {
        flags |= NamespaceKind::Pid.flag();
    }
    let mut placed = !doors.is_empty();
    let forked = match sys::fork_into(flags, doors.directory.as_ref().map(AsFd::as_fd)) {
        // A cgroup that takes no process this way (threads, processes in cgroups of their own below, one process too many,
        // a kernel before 5.7) may take one from outside, and says why not.
        Err(_) if doors.directory.is_some() => {
            placed = false;
            sys::fork_into(flags, None)
        }
        other => other,
    };
    match forked.map_err(Error::at("clone3", "the container's process"))? {
        Forked::Here if placed => doors.enter().map(|()| true),
        Forked::Here => Ok(true),
        Forked::Child(pid) => {
            peer.send(&FromChild::Forked { pid: pid.as_raw(), placed })?;
            Ok(false)
        }
    }
}

fn explain_unshare(errno: Errno) -> Error {
    match errno {
        Errno::ENOSPC => Error::start(
            "unshare the user namespace: none is left (sysctl user.max_user_namespaces, or nested 32 deep)",
        ),
        errno => Error::call("unshare", "the user namespace", errno),
    }
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::at("open", path))
}

/// A namespace that is to be joined, and isn't this process's already.
struct Target<'a> {
    kind: NamespaceKind,
    path: &'a Path,
    file: File,
}

/// All files are opened first: joining the mount namespace changes what their paths mean.
///
/// The user namespace comes last, since one that the caller may join with its own rights can belong to the host, where
/// those of the user namespace are worth nothing. What is refused that way belongs to the user namespace and is joined
/// from in there.
fn join(bootstrap: &Bootstrap) -> Result<()> {
    let mut targets = Vec::new();
    for Join { kind, path } in &bootstrap.join {
        targets.extend(open(*kind, path, bootstrap.exec)?);
    }
    let (user, mut others): (Vec<_>, Vec<_>) =
        targets.into_iter().partition(|target| target.kind == NamespaceKind::User);
    if user.is_empty() {
        return others.iter().try_for_each(Target::join);
    }
    let mut left = Vec::new();
    for target in others.drain(..) {
        match nix::sched::setns(&target.file, target.kind.flag()) {
            Err(Errno::EPERM) => left.push(target),
            other => other.map_err(|errno| target.explain(errno))?,
        }
    }
    for target in &user {
        target.join()?;
        become_root()?;
    }
    left.iter().try_for_each(Target::join)
}

fn open(kind: NamespaceKind, path: &Path, exec: bool) -> Result<Option<Target<'_>>> {
    // Not to wait at a fifo, or to get a terminal.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) if is_own(kind, &file) => Ok(None),
        Ok(file) => Ok(Some(Target { kind, path, file })),
        // A kernel without this kind has no such file, and no container has such a namespace there.
        Err(error) if exec && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::call(
            "open",
            format!("the {kind} namespace {} (linux.namespaces)", path.display()),
            error,
        )),
    }
}

impl Target<'_> {
    fn join(&self) -> Result<()> {
        nix::sched::setns(&self.file, self.kind.flag()).map_err(|errno| self.explain(errno))
    }

    fn explain(&self, errno: Errno) -> Error {
        match errno {
            Errno::EINVAL => Error::start(format!(
                "linux.namespaces: {} is no {} namespace",
                self.path.display(),
                self.kind
            )),
            errno => {
                Error::call("setns", format!("to the {} namespace {}", self.kind, self.path.display()), errno)
            }
        }
    }
}

/// Whether this process is in that namespace already: joining one's own user namespace is an error (setns(2)).
fn is_own(kind: NamespaceKind, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata(format!("/proc/self/ns/{}", kind.proc_name()));
    matches!((own, file.metadata()), (Ok(own), Ok(other)) if own.ino() == other.ino() && own.dev() == other.dev())
}

/// In a user namespace the ids of the caller are the overflow ones until they are set.
fn become_root() -> Result<()> {
    use nix::unistd::{Gid, Uid, setresgid, setresuid};
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    // The user namespace may map no 0; then the process keeps what it has.
    let ignore_unmapped = |result: Result<(), Errno>| match result {
        Err(Errno::EINVAL) => Ok(()),
        other => other,
    };
    ignore_unmapped(setresgid(gid, gid, gid)).map_err(Error::at("setresgid", "0"))?;
    ignore_unmapped(setresuid(uid, uid, uid)).map_err(Error::at("setresuid", "0"))
}
