//! Calls for states that CRIU cannot dump, or only when it is asked to.
#![allow(unsafe_code, reason = "each block carries its own argument; everything public here is safe to call")]

use std::io::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use nix::libc;

fn owned(result: libc::c_long) -> Result<OwnedFd> {
    let fd = libc::c_int::try_from(result).map_err(|_| Error::other("a descriptor's number is too large"))?;
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `io_uring_setup(2)`.
///
/// # Errors
/// Its.
pub fn io_uring() -> Result<OwnedFd> {
    // struct io_uring_params is 120 bytes.
    let mut params = [0_u64; 15];
    // SAFETY: the kernel writes no more than the structure, which `params` has room for.
    owned(unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) })
}

/// `userfaultfd(2)`.
///
/// # Errors
/// Its.
pub fn userfaultfd() -> Result<OwnedFd> {
    // SAFETY: takes a number alone.
    owned(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })
}

/// `memfd_secret(2)`.
///
/// # Errors
/// Its.
pub fn secret() -> Result<OwnedFd> {
    // SAFETY: takes a number alone.
    owned(unsafe { libc::syscall(libc::SYS_memfd_secret, 0) })
}

/// `perf_event_open(2)`: the CPU clock of this process.
///
/// # Errors
/// Its.
pub fn perf_event() -> Result<OwnedFd> {
    // struct perf_event_attr of the first size, 64 bytes: type 1 (software), size 64.
    let mut attributes = [0_u64; 8];
    if let Some(first) = attributes.first_mut() {
        *first = 1 | (64 << 32);
    }
    // SAFETY: the kernel reads the 64 bytes that the structure says it has.
    owned(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) })
}

/// `bpf(2)`: an array of one number.
///
/// # Errors
/// Its.
pub fn bpf_map() -> Result<OwnedFd> {
    // BPF_MAP_CREATE: type 2 (array), key 4 bytes, value 4 bytes, 1 entry.
    let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0];
    // SAFETY: the kernel reads the 32 bytes that it is told of.
    owned(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), 32) })
}

/// `fsopen(2)`: the makings of a tmpfs.
///
/// # Errors
/// Its.
pub fn fs_context() -> Result<OwnedFd> {
    // SAFETY: the name ends in a zero byte.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0) })
}

/// A socket of any family.
///
/// # Errors
/// `socket(2)`'s.
pub fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: takes numbers alone.
    owned(libc::c_long::from(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }))
}

/// Holds back what is written to a UDP socket (udp(7), `UDP_CORK`).
///
/// # Errors
/// `setsockopt(2)`'s.
pub fn cork(socket: &impl std::os::fd::AsRawFd) -> Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the kernel reads `size` bytes of `on`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, 1, ptr::from_ref(&on).cast(), size)
    };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// Ends the calling thread alone, even the first.
pub fn end_this_thread() -> ! {
    loop {
        // SAFETY: exit(2), not exit_group(2): nothing of this thread is used afterwards, and others share nothing with it.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}
