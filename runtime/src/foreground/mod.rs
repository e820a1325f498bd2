//! Standing in for a container's process in the foreground: signals go on to it, its terminal is relayed, its status
//! becomes ours.
//!
//! ```text
//!   Foreground::prepare   signals are caught from here on, so none is lost before there is someone to give it to
//!   Store::create / exec
//!   Foreground::stay      signals and terminal are served until the process ends
//! ```
//!
//! Signals are caught by handlers that write to a pipe, not blocked: a blocked signal stays blocked in the hooks and
//! tools that are executed meanwhile, a caught one is at its default there again (`signal(7)`). There is no thread.

mod terminal;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::config::ConsoleSize;
use crate::error::{Error, Result};
use crate::{console, sys};
use terminal::Relay;

/// Status that shells and runtimes give a process that was ended by signal *n*: 128 + *n*.
const SIGNALLED: i32 = 128;

/// Signals that are not caught: those that can't be, those that tell of something in this process itself (a fault, a
/// reader that is gone, its own terminal), and the two that glibc keeps for its threads.
const LEFT_ALONE: [i32; 13] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGPIPE,
    libc::SIGTTIN,
    libc::SIGTTOU,
    32,
    33,
];

/// Signals that end this process for good reason: somebody wants the work to stop.
const INTERRUPTS: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// A caller that will wait for a container's process, or at least not be interrupted while it is made.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalDelivery<UnixStream, SignalOnly>,
    console: Option<UnixStream>,
}

impl Foreground {
    /// Catches signals, and with `subreaper` takes on orphans of the container's that would else become the children
    /// of the host's init (`PR_SET_CHILD_SUBREAPER`). Call it before the process is made.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn prepare(subreaper: bool) -> Result<Self> {
        if subreaper {
            nix::sys::prctl::set_child_subreaper(true)
                .map_err(|errno| Error::call("prctl", "PR_SET_CHILD_SUBREAPER", errno))?;
        }
        let (read, write) =
            UnixStream::pair().map_err(|error| Error::call("socketpair", "for signals", error))?;
        let caught = (1..=libc::SIGRTMAX()).filter(|number| !LEFT_ALONE.contains(number));
        let signals = SignalDelivery::with_pipe(read, write, SignalOnly, caught)
            .map_err(|error| Error::call("sigaction", "signals to be passed on", error))?;
        Ok(Self { signals, console: None })
    }

    /// The size of the caller's terminal, if standard input is one: for a process that is executed before its terminal
    /// arrives here, and may ask for its size at once.
    #[must_use]
    pub fn terminal_size(&self) -> Option<ConsoleSize> {
        let size = rustix::termios::tcgetwinsize(std::io::stdin()).ok()?;
        Some(ConsoleSize { height: size.ws_row, width: size.ws_col })
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

    /// The signal that asked for an end since [`Foreground::prepare`], if one did: what was made is to be taken back.
    pub fn interrupted(&mut self) -> Option<i32> {
        self.signals.pending().find(|number| INTERRUPTS.contains(number))
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
            let mut ended = None;
            for number in self.signals.pending() {
                match number {
                    libc::SIGCHLD => ended = ended.or(reap(pid)?),
                    libc::SIGWINCH if relay.is_some() => relay.iter().for_each(Relay::copy_size),
                    number => pass_on(pid, number)?,
                }
            }
            if let Some(status) = ended {
                relay.map_or(Ok(()), Relay::finish)?;
                return Ok(status);
            }
            self.wait_for_something(relay.as_mut())?;
        }
    }

    /// Until there is a signal; the terminal is served meanwhile.
    fn wait_for_something(&self, relay: Option<&mut Relay>) -> Result<()> {
        let signals = self.signals.get_read().as_fd();
        match relay {
            Some(relay) => relay.serve(signals),
            None => poll_all(&mut [readable(signals, true)]),
        }
    }
}

/// Returns when one of them has something, or a signal came.
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
        Err(errno) => Err(Error::call("kill", format!("process {pid} with signal {signal}"), errno)),
    }
}
