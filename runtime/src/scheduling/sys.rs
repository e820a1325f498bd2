//! The system calls of scheduling that neither `nix` nor `rustix` offers in a safe form.
//!
//! Each passes the kernel only pointers to memory that lives until the call returns.
#![allow(unsafe_code, reason = "system calls that have to be made by hand")]

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// `struct sched_attr` of `sched_setattr(2)`, in its size of Linux 5.3.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SchedAttr {
    /// Its own size; [`sched_setattr`] fills it in.
    pub(super) size: u32,
    /// `SCHED_*`.
    pub(super) policy: u32,
    /// `SCHED_FLAG_*`.
    pub(super) flags: u64,
    /// −20 to 19.
    pub(super) nice: i32,
    /// 1 to 99 with a real-time policy, else 0.
    pub(super) priority: u32,
    /// Nanoseconds.
    pub(super) runtime: u64,
    /// Nanoseconds.
    pub(super) deadline: u64,
    /// Nanoseconds.
    pub(super) period: u64,
    /// 0 to 1024, with its flag.
    pub(super) util_min: u32,
    /// 0 to 1024, with its flag.
    pub(super) util_max: u32,
}
const _: () = assert!(size_of::<SchedAttr>() == 56);

/// Sets policy and attributes of a process. `sched_setattr(2)`.
pub(super) fn sched_setattr(pid: Pid, attributes: &SchedAttr) -> Result<(), Errno> {
    let attributes = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attributes };
    // SAFETY: a `struct sched_attr` that states its size; the kernel only reads it, during the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, pid.as_raw(), &raw const attributes, 0) };
    Errno::result(result).map(drop)
}

/// Sets class and priority of a process's input and output. `ioprio_set(2)`.
pub(super) fn ioprio_set(pid: Pid, priority: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: no memory is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid.as_raw(), libc::c_int::from(priority))
    };
    Errno::result(result).map(drop)
}

/// Sets the processors that a process may run on, as a mask. `sched_setaffinity(2)`, without the limit of 1024 that the
/// C library's type has.
pub(super) fn sched_setaffinity(pid: Pid, mask: &[u64]) -> Result<(), Errno> {
    // SAFETY: pointer and length, in bytes, describe `mask`, which the kernel only reads during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid.as_raw(), size_of_val(mask), mask.as_ptr()) };
    Errno::result(result).map(drop)
}
