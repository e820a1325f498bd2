//! What is done between fork(2) and execve(2), and what the safe crates do not have.
//!
//! Between the two, only async-signal-safe calls may be made (signal-safety(7)): floe has threads, and a lock that one of them held
//! at the fork is held for ever in the child. The closure below calls write(2), getpid(2) and unshare(2) on values that
//! were made before the fork; it takes no memory and no lock, and what it captures is dropped by the exec.
#![allow(unsafe_code, reason = "each place says why it is sound")]

use std::fs::File;
use std::io::{Cursor, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Lets the child of `command` write its number into `note`, go into the cgroups whose files (`tasks` or `cgroup.procs`) are
/// in `doors`, and with `apart` into a cgroup namespace of which they are the root (cgroup_namespaces(7)), before it becomes
/// its program.
pub(crate) fn prepare_child(command: &mut Command, note: Option<File>, doors: Vec<File>, apart: bool) {
    let prepare = move || {
        if let Some(mut note) = note.as_ref() {
            // A line of at most ten digits, which formatting into an array takes no memory for.
            let mut line = Cursor::new([0_u8; 16]);
            writeln!(line, "{}", std::process::id())?;
            let length = usize::try_from(line.position()).unwrap_or_default();
            note.write_all(&line.get_ref()[..length])?;
        }
        for door in &doors {
            // 0 is the writer itself (cgroups(7)).
            (&*door).write_all(b"0")?;
        }
        if apart {
            unshare(CloneFlags::CLONE_NEWCGROUP)?;
        }
        Ok(())
    };
    // SAFETY: as the module says, only write(2), getpid(2) and unshare(2) are called.
    unsafe { command.pre_exec(prepare) };
}

mod nsfs {
    nix::ioctl_read_bad!(owner, 0xb704, nix::libc::uid_t);
}

/// Who made this user namespace, by the number that the caller's namespace has for them (`NS_GET_OWNER_UID` of
/// ioctl_nsfs(2), Linux 4.11).
pub(crate) fn owner_of(namespace: &File) -> nix::Result<u32> {
    let mut owner = 0;
    // SAFETY: the kernel writes one uid_t where `owner` is, and refuses descriptors of anything else.
    unsafe { nsfs::owner(namespace.as_raw_fd(), &raw mut owner)? };
    Ok(owner)
}
