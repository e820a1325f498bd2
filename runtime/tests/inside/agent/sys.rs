//! How an agent hears of system calls and answers them: `seccomp_unotify(2)`.
#![allow(unsafe_code, reason = "no crate in use here has these requests in a safe form")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// A system call that waits for an answer: `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct Call {
    pub id: u64,
    pub pid: u32,
    flags: u32,
    pub number: i32,
    arch: u32,
    instruction: u64,
    pub args: [u64; 6],
}
const _: () = assert!(size_of::<Call>() == 80);

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}
const _: () = assert!(size_of::<Answer>() == 24);

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;

/// The next call that waits.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Call, Errno> {
    let mut call = Call::default();
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV writes a `struct seccomp_notif` to the zeroed one passed, which outlives the call.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), 0xc050_2100, &raw mut call) })?;
    Ok(call)
}

/// Answers a call: it is executed (`None`), or fails with an error number.
pub fn answer(listener: BorrowedFd<'_>, call: &Call, error: Option<Errno>) -> Result<(), Errno> {
    let answer = Answer {
        id: call.id,
        value: 0,
        error: error.map_or(0, |errno| -(errno as i32)),
        flags: if error.is_none() { CONTINUE } else { 0 },
    };
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND only reads the `struct seccomp_notif_resp` passed.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), 0xc018_2101, &raw const answer) }).map(drop)
}
