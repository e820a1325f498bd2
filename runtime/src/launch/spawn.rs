//! `floe init`, started before it is known what it is to be.
//!
//! A program needs about a millisecond before its first own instruction: memory is mapped, addresses are relocated, the
//! C library asks the processor what it can do. It does that while this side takes the name and makes the cgroup.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use super::message::Peer;
use super::{SOCKET_VARIABLE, Streams, exe, outside};
use crate::error::{Error, Result};

/// The other side, which waits to hear what it is to be. Dropped, it is ended.
#[derive(Debug)]
pub struct Waiting {
    pub(super) guard: Guard,
    pub(super) peer: Peer,
    /// How many descriptors from 3 on it has from this process.
    pub(super) preserve_fds: u32,
}

impl Waiting {
    /// Starts it, with `preserve_fds` descriptors from 3 on and these standard streams.
    ///
    /// # Errors
    /// [`Error::Refused`] if the descriptors are not there; [`Error::Call`].
    pub fn start(preserve_fds: u32, streams: &Streams) -> Result<Self> {
        outside::check_preserved(preserve_fds)?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::at("socketpair", ""))?;
        let first = 3 + i32::try_from(preserve_fds).unwrap_or(0);
        let stage1 = spawn(theirs.as_fd(), first, streams)?;
        Ok(Self { guard: Guard { stage1: Some(stage1), child: None }, peer: Peer::new(ours), preserve_fds })
    }
}

/// Starts `floe init` with its socket under the number `first`. By posix_spawn(3), which copies no page tables.
fn spawn(socket: BorrowedFd<'_>, first: i32, streams: &Streams) -> Result<Pid> {
    let program_file = exe::OwnProgram::open(first + 1)?;
    let program = program_file.path();
    let failed = || Error::at("exec", &program);
    // None of the sources may have a number that another one is to get.
    let above = |fd: BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, first + 1).map_err(Error::at("duplicate", "a descriptor"))
    };
    let Streams { input, output, error } = streams;
    let mut sources: Vec<(OwnedFd, i32)> = vec![(above(socket)?, first)];
    for (stream, number) in [(input, 0), (output, 1), (error, 2)] {
        if let Some(stream) = stream {
            sources.push((above(stream.as_fd())?, number));
        }
    }
    let mut actions = PosixSpawnFileActions::init().map_err(failed())?;
    for (source, number) in &sources {
        actions.add_dup2(source.as_raw_fd(), *number).map_err(failed())?;
    }
    let mut attributes = PosixSpawnAttr::init().map_err(failed())?;
    let flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
    attributes.set_flags(flags).map_err(failed())?;
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE)).map_err(failed())?;
    attributes.set_sigmask(&SigSet::empty()).map_err(failed())?;
    let path = CString::new(program.clone().into_os_string().into_vec()).unwrap_or_default();
    let variable = CString::new(format!("{SOCKET_VARIABLE}={first}")).unwrap_or_default();
    let arguments: [&CStr; 2] = [&path, c"init"];
    posix_spawn(path.as_c_str(), &actions, &attributes, &arguments, &[variable]).map_err(failed())
}

/// Ends what was started when the launch fails.
#[derive(Debug)]
pub(super) struct Guard {
    stage1: Option<Pid>,
    pub(super) child: Option<Pid>,
}

impl Guard {
    pub(super) fn stage1_pid(&self) -> i32 {
        self.stage1.map_or(0, Pid::as_raw)
    }

    pub(super) fn reap_stage1(&mut self) {
        if let Some(child) = self.stage1.take() {
            // It has nothing left to do but to exit.
            reap(child);
        }
    }
}

fn reap(child: Pid) {
    while nix::sys::wait::waitpid(child, None) == Err(Errno::EINTR) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        for pid in [self.stage1.take(), self.child.take()].into_iter().flatten() {
            // Not yet waited for, so the number is still this process's.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            reap(pid);
        }
    }
}
