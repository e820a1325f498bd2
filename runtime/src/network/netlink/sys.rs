//! The socket options of `netlink(7)`, which neither `nix` nor `rustix` has.
#![allow(unsafe_code, reason = "a system call made by hand")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// Turns an option of a netlink socket on. `setsockopt(2)` at the level `SOL_NETLINK`.
pub(super) fn set_option(socket: BorrowedFd<'_>, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), length)
    };
    Errno::result(result).map(drop)
}
