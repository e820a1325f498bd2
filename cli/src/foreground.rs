//! A container's process in the foreground: its terminal, its signals, its end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use signal_hook::consts::{SIGCHLD, SIGWINCH};
use signal_hook::iterator::Signals;

/// Signals that are handed on. What cannot be caught, and what is about floe's own terminal, is not among them.
const HANDED_ON: [i32; 9] = [
    nix::libc::SIGHUP,
    nix::libc::SIGINT,
    nix::libc::SIGQUIT,
    nix::libc::SIGTERM,
    nix::libc::SIGUSR1,
    nix::libc::SIGUSR2,
    nix::libc::SIGALRM,
    nix::libc::SIGCONT,
    nix::libc::SIGWINCH,
];

/// Catches signals from before the process is made, so that none is lost.
pub struct Waiter(Signals);

impl Waiter {
    /// Begins to listen. No thread is started.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Signals::new(HANDED_ON.iter().chain([&SIGCHLD]))?))
    }

    /// Waits for the end of `pid`, a child of ours, and hands signals on meanwhile. The exit code is the process's,
    /// or 128 and the signal that ended it.
    pub fn wait(mut self, pid: Pid, terminal: Option<&Terminal>) -> anyhow::Result<ExitCode> {
        if let Some(code) = ended(pid)? {
            return Ok(code);
        }
        for signal in self.0.forever() {
            match signal {
                SIGCHLD => {
                    if let Some(code) = ended(pid)? {
                        return Ok(code);
                    }
                }
                SIGWINCH if terminal.is_some() => terminal.iter().for_each(|terminal| terminal.resize()),
                other => {
                    // Gone meanwhile: SIGCHLD says so.
                    let signal = nix::sys::signal::Signal::try_from(other).ok();
                    let _ = nix::sys::signal::kill(pid, signal);
                }
            }
        }
        Ok(ExitCode::from(1))
    }
}

fn ended(pid: Pid) -> anyhow::Result<Option<ExitCode>> {
    Ok(match waitpid(pid, Some(WaitPidFlag::WNOHANG)).with_context(|| format!("wait for process {pid}"))? {
        WaitStatus::Exited(_, code) => Some(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        WaitStatus::Signaled(_, signal, _) => Some(ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(255))),
        _ => None,
    })
}

/// Where the terminal of a new process goes.
pub enum Console {
    /// It has none.
    None,
    /// To the caller's socket.
    Socket(OwnedFd),
    /// To us.
    Own {
        /// What the process's side is given.
        theirs: Option<OwnedFd>,
        /// Where it arrives.
        ours: UnixStream,
    },
}

impl Console {
    /// As the flags and the configuration say.
    pub fn choose(terminal: bool, socket: Option<&Path>, detach: bool) -> anyhow::Result<Self> {
        if let Some(path) = socket {
            let stream = UnixStream::connect(path).with_context(|| format!("connect to the console socket {}", path.display()))?;
            return Ok(Self::Socket(OwnedFd::from(stream)));
        }
        if !terminal || detach {
            return Ok(Self::None);
        }
        let (ours, theirs) = UnixStream::pair().context("make a socket pair for the terminal")?;
        Ok(Self::Own { theirs: Some(OwnedFd::from(theirs)), ours })
    }

    /// What the launch is given.
    pub fn take(&mut self) -> Option<OwnedFd> {
        match std::mem::replace(self, Self::None) {
            Self::Socket(socket) => Some(socket),
            Self::Own { theirs, ours } => {
                *self = Self::Own { theirs: None, ours };
                theirs
            }
            Self::None => None,
        }
    }

    /// The terminal, once the process is made; starts the threads that carry it.
    pub fn attach(&self) -> anyhow::Result<Option<Terminal>> {
        let Self::Own { ours, .. } = self else { return Ok(None) };
        let master = floe_runtime::console::receive(ours.as_fd())?;
        Terminal::attach(File::from(master)).map(Some)
    }
}

/// A container's terminal, joined to ours. Dropped, ours is as it was.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    before: Option<Termios>,
    output: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    fn attach(master: File) -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&stdin, OptionalActions::Now, &raw).context("set the terminal raw")?;
        }
        let (mut from, mut to) = (master.try_clone()?, master.try_clone()?);
        let output = std::thread::Builder::new().name("terminal-output".to_owned()).spawn(move || {
            // Reading from a hung-up terminal is EIO: the end.
            carry(&mut from, &mut std::io::stdout());
        })?;
        std::thread::Builder::new().name("terminal-input".to_owned()).spawn(move || {
            carry(&mut std::io::stdin(), &mut to);
        })?;
        let terminal = Self { master, before, output: Some(output) };
        terminal.resize();
        Ok(terminal)
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }
}

fn carry(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0u8; 8192];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What the process wrote last is still on its way.
        if let Some(output) = self.output.take() {
            let _ = output.join();
        }
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Writes a process's number to a file, whole.
pub fn write_pid(path: &Path, pid: Pid) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}"));
    std::fs::write(&beside, pid.to_string())
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("write the pid to {}", path.display()))
}
