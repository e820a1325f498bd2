//! Descriptors of processes (`pidfd_open(2)`): what they name is never somebody else, whoever gets the number next.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::console;
use crate::error::{Error, Result};

/// A descriptor of a process that becomes readable when it has ended.
pub(crate) fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}

/// Whether that process has ended.
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    let mut one = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut one, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Sends a descriptor of `pid`, a child of the caller, over a UNIX socket, as `--pidfd-socket` of runc does: one message
/// with `kind` as its text (`standard` for a container's first process, `setns` for another).
///
/// # Errors
/// [`Error::Call`].
pub fn send(socket: BorrowedFd<'_>, kind: &str, pid: Pid) -> Result<()> {
    let pidfd = open(pid).map_err(Error::at("pidfd_open", pid.to_string()))?;
    console::send_over(socket, kind.as_bytes(), pidfd.as_fd(), "the socket for the process's descriptor")
}
