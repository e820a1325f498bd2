//! What a killed dump leaves in a task, and how it is taken out.
//!
//! CRIU works inside the tasks that it dumps: it maps a memory file (`memfd:CRIUMFD`) into each, runs a piece of code
//! there, and unmaps it when it is done. A CRIU that was killed meanwhile leaves the mapping behind. The task runs on
//! as if nothing were there (the kernel puts its registers back when the tracer dies before the code ran to its end,
//! or the code itself does), but its memory map has grown, and would grow again with each such accident. So before
//! a task is dumped it is looked through, and a leftover is unmapped: the task is stopped with ptrace(2), made to call
//! munmap(2) by way of the `syscall` instruction that the vDSO holds, and let go with the registers it had.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// The name of CRIU's memory file in `/proc/PID/maps`.
const MARK: &str = "/memfd:CRIUMFD";

/// A leftover mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftover {
    /// Its first address.
    pub start: u64,
    /// The address behind it.
    pub end: u64,
}

/// The mappings that a killed dump left in `pid`. A task that is gone has none.
pub fn leftovers(pid: i32) -> Vec<Leftover> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines()
        .filter(|line| line.contains(MARK))
        .filter_map(range)
        .map(|(start, end)| Leftover { start, end })
        .collect()
}

/// Takes the leftovers out of `pid`, and says how many there were.
///
/// A thread that still runs in the mapping keeps it: unmapping would kill the task.
///
/// # Errors
/// [`Error::Call`] if the task cannot be traced; it is left as it was.
pub fn remove(pid: i32) -> Result<usize> {
    let found = leftovers(pid);
    if found.is_empty() {
        return Ok(0);
    }
    let on = format!("process {pid}");
    let task = Traced::stop(pid).map_err(|source| Error::call("ptrace", &on, source))?;
    let mut removed = 0;
    for leftover in &found {
        if task.unmap(*leftover).map_err(|source| Error::call("munmap in", &on, source))? {
            removed += 1;
        }
    }
    Ok(removed)
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// A task whose first thread is stopped by us. Dropped, it goes on.
struct Traced(Pid);

impl Traced {
    fn stop(pid: i32) -> nix::Result<Self> {
        let pid = Pid::from_raw(pid);
        ptrace::seize(pid, ptrace::Options::empty())?;
        let task = Self(pid);
        ptrace::interrupt(pid)?;
        match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => Err(Errno::ESRCH),
            _ => Ok(task),
        }
    }

    /// `false` if the task itself is in there.
    #[cfg(target_arch = "x86_64")]
    fn unmap(&self, leftover: Leftover) -> nix::Result<bool> {
        let saved = ptrace::getregs(self.0)?;
        if (leftover.start..leftover.end).contains(&saved.rip)
            || (leftover.start..leftover.end).contains(&saved.rsp)
        {
            return Ok(false);
        }
        let Some(instruction) = syscall_instruction(self.0)? else { return Err(Errno::ENOSYS) };
        let mut call = saved;
        call.rip = instruction;
        call.rax = nix::libc::SYS_munmap as u64;
        call.rdi = leftover.start;
        call.rsi = leftover.end - leftover.start;
        // Not in a system call as far as the kernel's restarting of interrupted ones is concerned.
        call.orig_rax = u64::MAX;
        ptrace::setregs(self.0, call)?;
        let outcome = self.step().and_then(|()| ptrace::getregs(self.0));
        ptrace::setregs(self.0, saved)?;
        match outcome?.rax.cast_signed() {
            0 => Ok(true),
            error => Err(Errno::from_raw(i32::try_from(-error).unwrap_or(nix::libc::EINVAL))),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn unmap(&self, _: Leftover) -> nix::Result<bool> {
        Ok(false)
    }

    /// One instruction on. A signal that comes in between is kept for later.
    fn step(&self) -> nix::Result<()> {
        let mut held = Vec::new();
        loop {
            ptrace::step(self.0, None)?;
            match waitpid(self.0, Some(WaitPidFlag::__WALL))? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => break,
                WaitStatus::Stopped(_, signal) => held.push(signal),
                WaitStatus::PtraceEvent(..) => {}
                _ => return Err(Errno::ESRCH),
            }
        }
        for signal in held {
            nix::sys::signal::kill(self.0, signal)?;
        }
        Ok(())
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // Fails only if the task is gone.
        let _ = ptrace::detach(self.0, None);
    }
}

/// Where the vDSO of `pid` holds a `syscall` instruction (bytes 0f 05). It always does: its slow path for clocks that
/// it cannot read by itself is the system call (vdso(7)).
#[cfg(target_arch = "x86_64")]
fn syscall_instruction(pid: Pid) -> nix::Result<Option<u64>> {
    let io = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(io)?;
    let Some((start, end)) = maps.lines().find(|line| line.ends_with("[vdso]")).and_then(range) else {
        return Ok(None);
    };
    let mut code = vec![0u8; usize::try_from(end - start).unwrap_or(0).min(1 << 20)];
    File::open(format!("/proc/{pid}/mem")).map_err(io)?.read_exact_at(&mut code, start).map_err(io)?;
    Ok(code.windows(2).position(|two| two == [0x0f, 0x05]).map(|at| start + at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A Python that has a file of CRIU's name mapped, as a killed dump would leave it.
    fn victim() -> Child {
        use std::io::{BufRead, BufReader};
        let program = "import ctypes, mmap, os, sys, time\n\
                       fd = os.memfd_create('CRIUMFD')\n\
                       os.ftruncate(fd, 8192)\n\
                       m = mmap.mmap(fd, 8192, prot=mmap.PROT_READ)\n\
                       os.close(fd)\n\
                       print('ready', flush=True)\n\
                       total = 0\n\
                       while True:\n    total += 1\n    time.sleep(0.001)\n    print(total, flush=True)\n";
        let mut child = Command::new("python3")
            .args(["-c", program])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed: scripts/setup installs it");
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        // Keep the pipe open, or its next line would end it.
        std::mem::forget(lines);
        child
    }

    #[test]
    fn a_leftover_is_taken_out_and_the_task_goes_on() {
        let mut child = victim();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(leftovers(pid).len(), 1);
        let removed = remove(pid);
        let alive = child.try_wait().unwrap().is_none();
        let left = leftovers(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(removed.unwrap(), 1);
        assert_eq!(left, []);
        assert!(alive);
    }

    #[test]
    fn a_clean_task_is_not_touched() {
        assert_eq!(remove(i32::try_from(std::process::id()).unwrap()).unwrap(), 0);
    }
}
