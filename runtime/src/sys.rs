//! The system calls that neither `nix` nor `rustix` offers in a safe form.
//!
//! Each function takes owned or borrowed descriptors and plain values, passes the kernel only pointers to
//! memory that lives until the call returns, and hands back an [`Errno`]. Nothing here decides anything.
#![allow(unsafe_code, reason = "the one place of this crate where system calls are made by hand")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::seccomp::Instruction;

/// What [`fork_into`] returns, once on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// In the calling process: the new process, by its number in the caller's pid namespace.
    Child(Pid),
    /// In the new process.
    Here,
}

/// Makes a copy of this process in new namespaces, as `clone(2)` does without a stack of its own.
///
/// `flags` may hold `CLONE_NEW*` and `CLONE_PARENT`. With `cgroup`, a directory of version 2, the copy is in that
/// cgroup from the first moment (Linux 5.7). The child signals its parent with `SIGCHLD` (with
/// `CLONE_PARENT` the kernel takes the caller's own exit signal). `EBUSY` when this process has a second
/// thread: the copy would hold only one of them, and locks of the others for ever.
pub fn fork_into(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    if thread_count() != 1 {
        return Err(Errno::EBUSY);
    }
    let mut args = CloneArgs { flags: flags.bits() as u64, ..CloneArgs::default() };
    if !flags.contains(CloneFlags::CLONE_PARENT) {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid `struct clone_args` of the size passed. No stack and no CLONE_VM: the child
    // runs on its own copy of this one, like fork(2). The process has one thread (checked above), so no
    // lock is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match Errno::result(pid)? {
        0 => Ok(Forked::Here),
        pid => Ok(Forked::Child(Pid::from_raw(pid as libc::pid_t))),
    }
}

/// Of `linux/sched.h`; beyond the 32 bits that `nix` has for flags.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of `clone3(2)`, in the size that it has since Linux 5.7 (88 bytes). Kernels before take it as long
/// as what they do not know is 0.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}
const _: () = assert!(size_of::<CloneArgs>() == 88);

/// The number of this process's threads: the links of `/proc/self/task`. 1 where there is no /proc.
fn thread_count() -> u64 {
    std::os::unix::fs::MetadataExt::nlink(&match std::fs::metadata("/proc/self/task") {
        Ok(metadata) => metadata,
        Err(_) => return 1,
    })
    .saturating_sub(2)
}

/// The attributes that `mount_setattr(2)` changes. Bits are `MOUNT_ATTR_*`, propagation is one of
/// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// The propagation to change to; 0 leaves it.
    pub propagation: u64,
    /// The user namespace of an idmapped mount; used when `set` has `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}
const _: () = assert!(size_of::<MountAttr>() == 32);

/// Changes the mount whose root `mount` is; with `recursive` all mounts below it too. `mount_setattr(2)`.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty C string, and a `struct mount_attr` of the size passed; the kernel reads both only
    // during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Closes every descriptor from `first` on. `close_range(2)`, Linux 5.9.
///
/// Only for the first moments of a process that owns none of them yet: what its starter left open by mistake is
/// closed, before anything of this program could have taken one of the numbers.
pub fn close_inherited_from(first: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed. No `OwnedFd` exists for these numbers: the only caller is the start of `init_main`.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Sets close-on-exec on every descriptor from `first` on. `close_range(2)`.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed, and with CLOSE_RANGE_CLOEXEC no descriptor is closed now.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    Errno::result(result).map(drop)
}

/// Whether a descriptor number is open and is handed on at `execve(2)`. `fcntl(2)`, `F_GETFD`.
///
/// `EBADF` when it isn't open.
pub fn is_handed_on(number: i32) -> Result<bool, Errno> {
    // SAFETY: F_GETFD reads flags of any number and changes nothing.
    let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    Ok(flags & libc::FD_CLOEXEC == 0)
}

/// Takes over a descriptor that the parent passed under `number`, and gives it close-on-exec.
///
/// `EBADF` when it was not passed. Each number may be taken once, before this process has opened anything.
pub fn take_inherited(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: sets a flag of whatever descriptor has this number; EBADF when none has.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, as the call above has shown. The only caller is the start of `init_main`, which takes each
    // number once and owns no descriptor yet, so nobody else does.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `fd` also the standard stream `number` (0, 1 or 2), without close-on-exec. `dup2(2)`.
pub fn install_standard_stream(fd: BorrowedFd<'_>, number: StandardStream) -> Result<(), Errno> {
    // SAFETY: the target is one of the three standard numbers, which no `OwnedFd` of this crate holds.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number as libc::c_int) }).map(drop)
}

/// One of the three standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum StandardStream {
    /// Standard input, 0.
    Input = 0,
    /// Standard output, 1.
    Output = 1,
    /// Standard error, 2.
    Error = 2,
}

/// Sets every signal back to its default and unblocks all. `signal(7)`, `rt_sigaction(2)`.
///
/// By the system call itself: the C library keeps 32 and 33 from its callers, and its `posix_spawn(3)` hands them on
/// ignored. Only for a process with one thread that is about to execute another program.
pub fn reset_signals() -> Result<(), Errno> {
    // Number of signals of the kernel, and the size of its mask of them in bytes: `_NSIG` 64 on every architecture
    // that Rust's glibc targets have but MIPS.
    const SIGNALS: libc::c_int = 64;
    const MASK_BYTES: usize = 8;
    // The kernel's `struct sigaction` is at most this long. All zero it says SIG_DFL, no flags, an empty mask.
    let default = [0u64; 4];
    for signal in (1..=SIGNALS).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: `default` outlives the call and is as long as the kernel reads; nothing is written. SIG_DFL runs no
        // code of ours.
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, MASK_BYTES) };
        Errno::result(result)?;
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Joins the session keyring `name`, making it where there is none that the caller may search. `keyctl(2)`,
/// `KEYCTL_JOIN_SESSION_KEYRING`. Returns its serial number.
///
/// `ENOSYS` where the kernel has no keyrings.
pub fn join_session_keyring(name: &CStr) -> Result<u32, Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: `name` is a C string that outlives the call; the kernel copies it.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    Errno::result(serial).map(|serial| serial as u32)
}

/// Sets who may do what with a key. `keyctl(2)`, `KEYCTL_SETPERM`; the bits are those of `keyctl_setperm(3)`.
pub fn set_key_permissions(serial: u32, permissions: u32) -> Result<(), Errno> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, permissions) }).map(drop)
}

/// Sets the NIS domain name of this UTS namespace. `setdomainname(2)`.
pub fn set_domain_name(name: &str) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `name`, which the kernel copies during the call.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Sets the flag `IFF_UP` on the interface `lo` of this network namespace. `netdevice(7)`.
pub fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: all-zero bytes are a valid `ifreq`: arrays of integers and a union of plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = *from as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of the `ifreq` passed, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: SIOCGIFFLAGS has just filled in this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS only reads the `ifreq` passed.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map(drop)
}

/// Reads or sets a resource limit of a process, by the kernel's number. `prlimit(2)`.
///
/// `None` is this process. Values are in the resource's own unit (bytes, seconds, a count); `u64::MAX` is "unlimited".
pub fn rlimit(pid: Option<Pid>, resource: u32, new: Option<(u64, u64)>) -> Result<(u64, u64), Errno> {
    let new = new.map(|(soft, hard)| libc::rlimit64 { rlim_cur: soft, rlim_max: hard });
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new_ptr = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let pid = pid.map_or(0, Pid::as_raw);
    // SAFETY: `new_ptr` is null or points to a live `rlimit64`, `old` is one.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new_ptr, &raw mut old) };
    Errno::result(result)?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// Sends a signal by its number: real-time signals have no names in `nix`. 0 only asks. `kill(2)`.
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed; a wrong number is EINVAL.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// Whether the effective ids of this process may execute `path`. `faccessat(2)` with `AT_EACCESS`.
pub fn may_execute(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string that outlives the call.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    Errno::result(result).map(drop)
}

/// Sets from which nodes this thread, and what it makes, gets its memory. `set_mempolicy(2)`; `nodes` is a mask.
///
/// `EINVAL` for a mode or flag that the kernel doesn't know, or when none of the nodes is allowed here; `ENOSYS` without
/// CONFIG_NUMA.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one bit less than it is told.
    let (mask, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        nodes => (nodes.as_ptr(), size_of_val(nodes) * 8 + 1),
    };
    // SAFETY: `mask` is null with no bits, or points to the slice, of which at most all bits are read during the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Sets which system this process, and what it makes, takes the kernel for. `personality(2)`.
pub fn set_personality(personality: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::personality(personality.into()) }).map(drop)
}

/// Sets the signal that this process gets when its parent dies. `prctl(2)`, `PR_SET_PDEATHSIG`; a change of user clears
/// it. `EINVAL` for a number that is no signal.
pub fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// Loads a filter of system calls into this process, which has one thread. `seccomp(2)`, `SECCOMP_SET_MODE_FILTER`.
///
/// Returns the descriptor of notifications if `flags` has `SECCOMP_FILTER_FLAG_NEW_LISTENER`; it has close-on-exec.
/// `EINVAL` for a program that is none or a flag that the kernel doesn't know, `EACCES` without `CAP_SYS_ADMIN` and "no
/// new privileges".
pub fn load_seccomp(flags: u32, program: &[Instruction]) -> Result<Option<OwnedFd>, Errno> {
    const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    let mut program: Vec<libc::sock_filter> = program
        .iter()
        .map(|Instruction(code, jt, jf, k)| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
        .collect();
    let len = program.len().try_into().map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `program` describes the vector above, which lives until the end of this function; the kernel copies it
    // and checks what it copied.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let result = Errno::result(result)?;
    // SAFETY: with this flag a successful call returns a new descriptor, which nobody else has.
    Ok((flags & NEW_LISTENER != 0).then(|| unsafe { OwnedFd::from_raw_fd(result as i32) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nofile_limit_reads_back() {
        let (soft, hard) = rlimit(None, libc::RLIMIT_NOFILE, None).unwrap();
        assert!(soft > 0 && soft <= hard);
        assert_eq!(rlimit(None, libc::RLIMIT_NOFILE, Some((soft, hard))).unwrap(), (soft, hard));
    }

    #[test]
    fn an_unknown_limit_is_an_error() {
        assert_eq!(rlimit(None, 4711, None), Err(Errno::EINVAL));
    }

    #[test]
    fn a_process_with_threads_is_not_copied() {
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(fork_into(CloneFlags::empty(), None), Err(Errno::EBUSY)));
        });
    }
}
