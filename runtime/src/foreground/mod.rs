//! Standing in for a container's process in the foreground: signals go on to it, its terminal is relayed, its status
//! becomes ours.
//!
//! ```text
//!   Foreground::prepare   signals are held back from here on, so none is lost before there is someone to give it to
//!   Store::create / exec  (the child resets its signals itself)
//!   Foreground::stay      signals and terminal are served until the process ends
//! ```

mod terminal;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::{console, sys};
use terminal::Relay;

/// Status that shells and runtimes give a process that was ended by signal *n*: 128 + *n*.
const SIGNALLED: i32 = 128;

/// A caller that will wait for a container's process.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
    console: Option<UnixStream>,
}

impl Foreground {
    /// Holds signals back, and with `subreaper` takes on orphans of the container's that would else become the
    /// children of the host's init (`PR_SET_CHILD_SUBREAPER`). Call it before the process is made, with one thread.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn prepare(subreaper: bool) -> Result<Self> {
        if subreaper {
            nix::sys::prctl::set_child_subreaper(true)
                .map_err(|e| Error::call("prctl", "PR_SET_CHILD_SUBREAPER", e))?;
        }
        let all = SigSet::all();
        all.thread_block().map_err(|errno| Error::call("sigprocmask", "all signals", errno))?;
        let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|errno| Error::call("signalfd", "all signals", errno))?;
        Ok(Self { signals, console: None })
    }

    /// A console socket for the process's terminal, whose other end stays here.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn console_socket(&mut self) -> Result<OwnedFd> {
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| Error::call("socketpair", "for the terminal", error))?;
        self.console = Some(ours);
        Ok(theirs.into())
    }

    /// Serves `pid`, a child of this process, until it ends. `started` is called once everything is in place (`run`
    /// starts the container's program there). Returns its exit status, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// [`Error::Call`]; what `started` fails with. The process is left as it is then.
    pub fn stay(mut self, pid: Pid, started: impl FnOnce() -> Result<()>) -> Result<i32> {
        let relay = self.console.take().map(|socket| console::receive(socket.as_fd())).transpose()?;
        let mut relay = relay.map(Relay::start).transpose()?;
        started()?;
        loop {
            self.wait_for_something(relay.as_mut())?;
            let mut ended = None;
            while let Some(number) = self.next_signal()? {
                match number {
                    nix::libc::SIGCHLD => ended = ended.or(reap(pid)?),
                    nix::libc::SIGWINCH if relay.is_some() => relay.iter().for_each(Relay::copy_size),
                    number => pass_on(pid, number)?,
                }
            }
            if let Some(status) = ended {
                relay.map_or(Ok(()), Relay::finish)?;
                return Ok(status);
            }
        }
    }

    /// Until there is a signal; the terminal is served meanwhile.
    fn wait_for_something(&self, relay: Option<&mut Relay>) -> Result<()> {
        let Some(relay) = relay else {
            return poll_all(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)]);
        };
        relay.serve(self.signals.as_fd())
    }

    fn next_signal(&mut self) -> Result<Option<i32>> {
        let info = self.signals.read_signal().map_err(|errno| Error::call("read", "the signalfd", errno))?;
        Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok()))
    }
}

fn poll_all(fds: &mut [PollFd<'_>]) -> Result<()> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::call("poll", "signals and terminal", errno)),
    }
}

fn readable(fd: BorrowedFd<'_>, wanted: bool) -> PollFd<'_> {
    PollFd::new(fd, if wanted { PollFlags::POLLIN } else { PollFlags::empty() })
}

/// Collects every child that has ended; the status of `pid` if it is among them. Others are orphans of the container's.
fn reap(pid: Pid) -> Result<Option<i32>> {
    let mut found = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(child, status)) if child == pid => found = Some(status),
            Ok(WaitStatus::Signaled(child, signal, _)) if child == pid => {
                found = Some(SIGNALLED + signal as i32)
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(found),
            Ok(_) | Err(Errno::EINTR) => {}
            // A real-time signal, which nix has no name for, ended somebody: the child is collected nevertheless.
            Err(Errno::EINVAL) => found = found.or((!exists(pid)).then_some(SIGNALLED)),
            Err(errno) => return Err(Error::call("waitpid", "children", errno)),
        }
    }
}

fn exists(pid: Pid) -> bool {
    nix::sys::signal::kill(pid, None).is_ok()
}

/// A process that has ended meanwhile doesn't need it any more.
fn pass_on(pid: Pid, signal: i32) -> Result<()> {
    match sys::kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => {
            Err(Error::call("kill", format!("process {pid} with signal {signal}"), io::Error::from(errno)))
        }
    }
}
