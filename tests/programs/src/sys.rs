//! The calls that the libraries offer only as unsafe, or not at all: fork, shared memory, queued signals, mutexes
//! between processes.
#![allow(unsafe_code, reason = "each block carries its own argument; everything public here is safe to call")]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Pid};

/// The child's side or the parent's side of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We are the new process.
    Child,
    /// We are the old one, and this is the new one's pid.
    Parent(Pid),
}

/// Forks a process that has a single thread.
///
/// # Errors
/// `fork(2)`'s, and `EBUSY` where this process has other threads: they would vanish in the child with their locks
/// held.
pub fn fork() -> Result<Side> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Errno::EBUSY.into());
    }
    // SAFETY: there is no other thread (looked up just above, and only this one could make one), so no lock and no
    // allocator state is caught half way; the child may do everything that the parent may.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Side::Child),
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
    }
}

/// Memory that is mapped until the program ends: readable and writable, and only seen as atomics, so that it may be
/// shared between threads and processes.
#[derive(Debug, Clone, Copy)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory stays mapped for the rest of the program and is only reached through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Anonymous memory that forked processes share.
    ///
    /// # Errors
    /// `mmap(2)`'s.
    pub fn shared(length: usize) -> Result<Self> {
        Self::map(length, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// Anonymous memory of this process alone.
    ///
    /// # Errors
    /// `mmap(2)`'s.
    pub fn private(length: usize) -> Result<Self> {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// A file's first bytes, shared with everybody who maps it.
    ///
    /// # Errors
    /// `mmap(2)`'s.
    pub fn shared_file(file: BorrowedFd<'_>, length: usize) -> Result<Self> {
        Self::map(length, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// A file's first bytes; what is written to them stays in this process.
    ///
    /// # Errors
    /// `mmap(2)`'s.
    pub fn private_file(file: BorrowedFd<'_>, length: usize) -> Result<Self> {
        Self::map(length, libc::MAP_PRIVATE, file.as_raw_fd())
    }

    fn map(length: usize, flags: libc::c_int, file: libc::c_int) -> Result<Self> {
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, file, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start, length }).ok_or_else(|| Errno::EFAULT.into())
    }

    /// A System V segment.
    ///
    /// # Errors
    /// `shmat(2)`'s.
    pub fn segment(id: i32, length: usize) -> Result<Self> {
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let start = unsafe { libc::shmat(id, ptr::null(), 0) };
        if start.addr() == usize::MAX {
            return Err(Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start, length }).ok_or_else(|| Errno::EFAULT.into())
    }

    /// The memory as bytes.
    #[must_use]
    pub fn bytes(&self) -> &'static [AtomicU8] {
        // SAFETY: mapped readable and writable for the rest of the program; any bytes are valid atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }

    /// The memory as 32-bit words.
    #[must_use]
    pub fn words(&self) -> &'static [AtomicU32] {
        // SAFETY: as above, and a mapping begins at a page, which is aligned for words.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length / 4) }
    }

    /// Gives advice about the memory that changes how it is kept, not what it holds.
    ///
    /// # Errors
    /// `madvise(2)`'s.
    pub fn keep_from_children(&self) -> Result<()> {
        // SAFETY: the range is this mapping; a later child lacks it, and this handle with its memory is not used there.
        Errno::result(unsafe {
            libc::madvise(self.start.as_ptr().cast(), self.length, libc::MADV_DONTFORK)
        })?;
        Ok(())
    }

    /// Keeps the memory from being paged out.
    ///
    /// # Errors
    /// `mlock(2)`'s.
    pub fn lock(&self) -> Result<()> {
        // SAFETY: the range is this mapping.
        Errno::result(unsafe { libc::mlock(self.start.as_ptr().cast(), self.length) })?;
        Ok(())
    }
}

/// Reserves address space that nothing may touch.
///
/// # Errors
/// `mmap(2)`'s.
pub fn reserve(length: usize) -> Result<usize> {
    // SAFETY: the kernel chooses the address, so no memory in use is replaced; nobody gets a pointer to it.
    let start = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0)
    };
    if start == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(start.addr()) }
}

/// A mutex of the C library in memory that processes share: a futex, an owner, and a place in the owner's robust list.
#[derive(Debug, Clone, Copy)]
pub struct SharedMutex {
    place: NonNull<libc::pthread_mutex_t>,
}

// SAFETY: a mutex made with PTHREAD_PROCESS_SHARED is there for all threads of all processes, and stays mapped.
unsafe impl Send for SharedMutex {}
// SAFETY: as for Send.
unsafe impl Sync for SharedMutex {}

impl SharedMutex {
    /// Makes a robust mutex in shared memory of its own.
    ///
    /// # Errors
    /// `mmap(2)`'s and `pthread_mutex_init(3)`'s.
    pub fn new() -> Result<Self> {
        let place: NonNull<libc::pthread_mutex_t> =
            Mapping::shared(size_of::<libc::pthread_mutex_t>())?.start.cast();
        // SAFETY: all zeros are a valid attribute value to initialise over, and the functions get live pointers; the
        // mutex's memory is a page of its own that nobody else uses.
        unsafe {
            let mut kind: libc::pthread_mutexattr_t = std::mem::zeroed();
            number(libc::pthread_mutexattr_init(&raw mut kind))?;
            number(libc::pthread_mutexattr_setpshared(&raw mut kind, libc::PTHREAD_PROCESS_SHARED))?;
            number(libc::pthread_mutexattr_setrobust(&raw mut kind, libc::PTHREAD_MUTEX_ROBUST))?;
            number(libc::pthread_mutexattr_settype(&raw mut kind, libc::PTHREAD_MUTEX_ERRORCHECK))?;
            number(libc::pthread_mutex_init(place.as_ptr(), &raw const kind))?;
            number(libc::pthread_mutexattr_destroy(&raw mut kind))?;
        }
        Ok(Self { place })
    }

    /// Waits for the mutex and takes it.
    ///
    /// # Errors
    /// `pthread_mutex_lock(3)`'s: `EDEADLK` where this thread has it already, `EOWNERDEAD` where its owner died.
    pub fn lock(&self) -> Result<()> {
        // SAFETY: initialised by `new`, never destroyed or moved.
        number(unsafe { libc::pthread_mutex_lock(self.place.as_ptr()) })
    }

    /// Takes the mutex if it is free.
    ///
    /// # Errors
    /// `pthread_mutex_trylock(3)`'s: `EBUSY` where somebody has it.
    pub fn try_lock(&self) -> Result<()> {
        // SAFETY: as for `lock`.
        number(unsafe { libc::pthread_mutex_trylock(self.place.as_ptr()) })
    }

    /// Gives the mutex back.
    ///
    /// # Errors
    /// `pthread_mutex_unlock(3)`'s: `EPERM` where this thread does not have it.
    pub fn unlock(&self) -> Result<()> {
        // SAFETY: as for `lock`.
        number(unsafe { libc::pthread_mutex_unlock(self.place.as_ptr()) })
    }
}

/// The pthread functions return the number instead of setting it.
fn number(code: libc::c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Error::from_raw_os_error(code)) }
}

/// A signal that was taken from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The number, 1 to 64.
    pub signal: i32,
    /// `si_code`: how it was sent.
    pub code: i32,
    /// The sender, in this pid namespace; 0 where a timer sent it.
    pub pid: i32,
    /// The value that it carries.
    pub value: usize,
}

/// Bytes of a set of signals as the kernel sees it; the C library's is longer.
const KERNEL_SET: usize = 8;

/// The first realtime signal that is free for programs.
#[must_use]
pub fn first_realtime() -> i32 {
    libc::SIGRTMIN()
}

/// Queues a signal with a value to a process.
///
/// # Errors
/// `sigqueue(3)`'s.
pub fn queue(pid: Pid, signal: i32, value: usize) -> Result<()> {
    let value = libc::sigval { sival_ptr: ptr::without_provenance_mut(value) };
    // SAFETY: the value is an integer in a pointer's clothes; nobody follows it.
    Errno::result(unsafe { libc::sigqueue(pid.as_raw(), signal, value) })?;
    Ok(())
}

/// Sends a signal to one thread of this process.
///
/// # Errors
/// `tgkill(2)`'s.
pub fn signal_thread(thread: Pid, signal: i32) -> Result<()> {
    // SAFETY: plain numbers; the signals that tests use are blocked everywhere.
    let result =
        unsafe { libc::syscall(libc::SYS_tgkill, nix::unistd::getpid().as_raw(), thread.as_raw(), signal) };
    Errno::result(result)?;
    Ok(())
}

/// Takes the next pending signal out of a set, lowest number first, the calling thread's own before the process's.
/// `None` where none came within the time.
///
/// The system call itself: the C library would pass off a signal to a thread as one to the process.
///
/// # Errors
/// `sigtimedwait(2)`'s.
pub fn take(signals: &[i32], within: Duration) -> Result<Option<Taken>> {
    let wait = libc::timespec {
        tv_sec: libc::time_t::try_from(within.as_secs()).map_err(Error::other)?,
        tv_nsec: libc::c_long::from(within.subsec_nanos().cast_signed()),
    };
    // SAFETY: all zeros are a valid set and a valid siginfo to be written over; all pointers are to live locals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            Errno::result(libc::sigaddset(&raw mut set, *signal))?;
        }
        let mut info: libc::siginfo_t = std::mem::zeroed();
        loop {
            let result = libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &raw const set,
                &raw mut info,
                &raw const wait,
                KERNEL_SET,
            );
            match Errno::result(result) {
                Ok(_) => {
                    // A timer's signal has its id and overrun where others have pid and uid.
                    let pid = if info.si_code == libc::SI_TIMER { 0 } else { info.si_pid() };
                    let value = info.si_value().sival_ptr.addr();
                    return Ok(Some(Taken { signal: info.si_signo, code: info.si_code, pid, value }));
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Where the calling thread handles signals that need a stack of their own: its address and length, and `SS_` flags.
///
/// # Errors
/// `sigaltstack(2)`'s.
pub fn signal_stack() -> Result<(usize, usize, i32)> {
    // SAFETY: only asks; the old value is written to a live local.
    unsafe {
        let mut stack: libc::stack_t = std::mem::zeroed();
        Errno::result(libc::sigaltstack(ptr::null(), &raw mut stack))?;
        Ok((stack.ss_sp.addr(), stack.ss_size, stack.ss_flags))
    }
}

/// What happens on a signal: the handler's address (0 default, 1 ignored), and the flags.
///
/// # Errors
/// `sigaction(2)`'s.
pub fn disposition(signal: i32) -> Result<(usize, i32)> {
    // SAFETY: only asks; the old value is written to a live local.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        Errno::result(libc::sigaction(signal, ptr::null(), &raw mut action))?;
        Ok((action.sa_sigaction, action.sa_flags))
    }
}

/// Handles a signal by doing nothing, with flags that can be told apart afterwards.
///
/// # Errors
/// `sigaction(2)`'s.
pub fn handle_quietly(signal: i32, flags: i32) -> Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: the handler does nothing, which is safe at any moment.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = flags;
        Errno::result(libc::sigaction(signal, &raw const action, ptr::null_mut()))?;
    }
    Ok(())
}

/// Schedules this process as one that computes in the background (`SCHED_BATCH`).
///
/// # Errors
/// `sched_setscheduler(2)`'s.
pub fn schedule_as_batch() -> Result<()> {
    // SAFETY: all zeros are a valid parameter (only its priority counts, which is 0 here), and it is a live local.
    unsafe {
        let parameter: libc::sched_param = std::mem::zeroed();
        Errno::result(libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameter))?;
    }
    Ok(())
}

/// Makes system calls fail with `ENOSYS` in this process and all that it starts, as on a kernel that has none of them
/// (seccomp(2), filter mode).
///
/// # Errors
/// `prctl(2)`'s; `E2BIG` for more calls than a filter can hold.
pub fn forget_system_calls(numbers: &[u32]) -> Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first word that a filter sees.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for number in numbers {
        let compare = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        filter.push(libc::sock_filter { code: compare, jt: 0, jf: 1, k: *number });
        filter.push(statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
        ));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: filter.len().try_into().map_err(|_| Error::from(Errno::E2BIG))?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and the filter that it points to live until the call is back; the kernel copies them.
    Errno::result(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    })?;
    Ok(())
}
