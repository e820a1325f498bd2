//! What is done between fork(2) and execve(2).
//!
//! Only async-signal-safe calls may be made there (signal-safety(7)): floe has threads, and a lock that one of them held
//! at the fork is held for ever in the child. The closure below calls write(2), getpid(2) and unshare(2) on values that
//! were made before the fork; it takes no memory and no lock, and what it captures is dropped by the exec.
#![allow(unsafe_code, reason = "std's pre_exec is unsafe; the argument is above")]

use std::fs::File;
use std::io::{Cursor, Write};
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
