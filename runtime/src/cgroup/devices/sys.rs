//! The calls of bpf(2) that a device program needs.
//!
//! Each passes the kernel one attribute block that lives on the stack until the call returns, with the size of that
//! block: the kernel reads what it knows and takes the rest for zero. Pointers in a block lead to memory that is borrowed
//! for the call.
#![allow(unsafe_code, reason = "bpf(2) has no safe form in nix or rustix")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::program::Instruction;

// Commands and constants of `linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Several programs may be attached; all of them have to allow.
const ALLOW_MULTI: u32 = 1 << 1;
/// One program takes the place of another at once, Linux 5.6.
const REPLACE: u32 = 1 << 2;

/// Most programs of one kind on a cgroup (`BPF_CGROUP_MAX_PROGS`).
const MOST_PROGRAMS: usize = 64;

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}
const _: () = assert!(size_of::<LoadAttributes>() == 64);

#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttributes {
    id: u32,
    next: u32,
    open_flags: u32,
}

/// Hands a program to the kernel, which checks it. `BPF_PROG_LOAD`.
///
/// `EPERM` without CAP_BPF (CAP_SYS_ADMIN before Linux 5.8), and on kernels before 5.11 where RLIMIT_MEMLOCK is too low.
pub(super) fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let license = c"Apache-2.0";
    let mut name = [0; 16];
    name[..12].copy_from_slice(b"floe_devices");
    let attributes = LoadAttributes {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        name,
        ..LoadAttributes::default()
    };
    // SAFETY: `attributes` is as long as said; its pointers lead to `program` and `license`, which outlive the call,
    // and the count is that of `program`. Without a log nothing is written.
    let fd = unsafe { call(PROG_LOAD, &raw const attributes) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The ids of the device programs that are attached to a cgroup itself. `BPF_PROG_QUERY`.
pub(super) fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut attributes = QueryAttributes {
        target: number(cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr().addr() as u64,
        count: MOST_PROGRAMS as u32,
        ..QueryAttributes::default()
    };
    // SAFETY: `attributes` is as long as said and may be written to, as may `ids`, for which the count is given; both
    // outlive the call.
    unsafe { call(PROG_QUERY, &raw mut attributes) }?;
    let count = usize::try_from(attributes.count).unwrap_or(0).min(MOST_PROGRAMS);
    Ok(ids[..count].to_vec())
}

/// A program by its id. `BPF_PROG_GET_FD_BY_ID`, CAP_SYS_ADMIN.
pub(super) fn by_id(id: u32) -> Result<OwnedFd, Errno> {
    let attributes = IdAttributes { id, ..IdAttributes::default() };
    // SAFETY: `attributes` is as long as said and has no pointers.
    let fd = unsafe { call(PROG_GET_FD_BY_ID, &raw const attributes) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup, beside others or in the place of one. `BPF_PROG_ATTACH`.
///
/// `EINVAL` for a replacement where the kernel (before 5.6) knows none.
pub(super) fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let attributes = AttachAttributes {
        target: number(cgroup),
        program: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI | replaced.map_or(0, |_| REPLACE),
        replaced: replaced.map_or(0, number),
    };
    // SAFETY: `attributes` is as long as said and has no pointers; its descriptors are open.
    unsafe { call(PROG_ATTACH, &raw const attributes) }.map(drop)
}

/// Takes a program off a cgroup. `BPF_PROG_DETACH`.
pub(super) fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = AttachAttributes {
        target: number(cgroup),
        program: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttributes::default()
    };
    // SAFETY: as for `attach`.
    unsafe { call(PROG_DETACH, &raw const attributes) }.map(drop)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // Never negative: a borrowed descriptor is open.
    fd.as_raw_fd().cast_unsigned()
}

/// # Safety
/// `attributes` is a block for this command; what it points to is as long as it says, outlives the call, and may be
/// written to where the command does so.
unsafe fn call<T>(command: libc::c_int, attributes: *const T) -> Result<libc::c_int, Errno> {
    // SAFETY: the caller's promise; the size is that of the block.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    Errno::result(result).map(|value| value as libc::c_int)
}
