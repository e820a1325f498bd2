//! Into the namespaces, and through the fork that the pid namespace needs.

use std::fs::File;

use nix::sched::CloneFlags;

use super::out_of_order;
use crate::config::NamespaceKind;
use crate::error::{Error, Result};
use crate::launch::message::{Bootstrap, FromChild, Peer, ToChild};
use crate::sys::{self, Forked};

/// Returns `true` in the new process, `false` in this one, which has nothing left to do.
pub(crate) fn enter(peer: &mut Peer, bootstrap: &Bootstrap) -> Result<bool> {
    join(bootstrap)?;
    if bootstrap.create.contains(&NamespaceKind::User) {
        nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(Error::at("unshare", "the user namespace"))?;
        peer.send(&FromChild::MapIds)?;
        let Some(ToChild::Mapped) = peer.receive()? else { return Err(out_of_order()) };
        become_root()?;
    }
    if bootstrap.create.contains(&NamespaceKind::Time) {
        nix::sched::unshare(NamespaceKind::Time.flag())
            .map_err(Error::at("unshare", "the time namespace"))?;
    }
    let flags = bootstrap
        .create
        .iter()
        // The cgroup namespace comes when the process is in its cgroup.
        .filter(|kind| !matches!(kind, NamespaceKind::User | NamespaceKind::Cgroup | NamespaceKind::Time))
        .fold(CloneFlags::CLONE_PARENT, |flags, kind| flags | kind.flag());
    match sys::fork_into(flags).map_err(Error::at("clone", "the container's process"))? {
        Forked::Here => Ok(true),
        Forked::Child(pid) => {
            peer.send(&FromChild::Forked(pid.as_raw()))?;
            Ok(false)
        }
    }
}

/// All files are opened first: joining the mount namespace changes what their paths mean.
fn join(bootstrap: &Bootstrap) -> Result<()> {
    let mut files = Vec::new();
    for join in &bootstrap.join {
        match File::open(&join.path) {
            Ok(file) => files.push((join, file)),
            // A kernel without this kind has no such file, and no container has such a namespace there.
            Err(error) if bootstrap.exec && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::call("open", join.path.display(), error)),
        }
    }
    for (join, file) in files {
        if is_own(join.kind, &file) {
            continue;
        }
        nix::sched::setns(&file, join.kind.flag()).map_err(Error::at("join", &join.path))?;
        if join.kind == NamespaceKind::User {
            become_root()?;
        }
    }
    Ok(())
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
    if setresgid(gid, gid, gid).is_ok() {
        setresuid(uid, uid, uid).map_err(Error::at("setresuid", "0"))?;
    }
    Ok(())
}
