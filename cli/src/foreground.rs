//! What verbs that make a process have in common: whom its terminal and its pid are given to, and the wait for the end
//! of a restored one. (`run` and `exec` wait with [`floe_runtime::foreground`], which must see every signal first; a
//! restore has threads of its own that do.)

use std::fs::Permissions;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::SIGCHLD;
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
    pub fn wait(mut self, pid: Pid) -> anyhow::Result<ExitCode> {
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

/// Also waits for orphans that have become floe's, and are of no further interest.
fn ended(pid: Pid) -> anyhow::Result<Option<ExitCode>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)).with_context(|| format!("wait for process {pid}"))? {
            WaitStatus::Exited(who, code) if who == pid => {
                return Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))));
            }
            WaitStatus::Signaled(who, signal, _) if who == pid => {
                return Ok(Some(ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(255))));
            }
            WaitStatus::StillAlive => return Ok(None),
            _ => {}
        }
    }
}

/// Connects to `--console-socket`, over which the master of a terminal is sent.
pub fn console_socket(path: Option<&Path>) -> anyhow::Result<Option<OwnedFd>> {
    let Some(path) = path else { return Ok(None) };
    let stream = UnixStream::connect(path)
        .with_context(|| format!("connect to the console socket {}", path.display()))?;
    Ok(Some(OwnedFd::from(stream)))
}

/// `--pidfd-socket`, over which a descriptor of the process is sent, if it was given.
pub struct PidfdSocket(Option<UnixStream>);

impl PidfdSocket {
    /// Connects, before there is a process that would have to be taken back.
    pub fn connect(path: Option<&Path>) -> anyhow::Result<Self> {
        let connect = |path: &Path| {
            UnixStream::connect(path)
                .with_context(|| format!("connect to the socket for the process, {}", path.display()))
        };
        Ok(Self(path.map(connect).transpose()?))
    }

    /// Sends a descriptor of `pid`, a child of ours; `kind` is the message's text.
    pub fn send(&self, kind: &str, pid: Pid) -> anyhow::Result<()> {
        Ok(self.0.as_ref().map_or(Ok(()), |socket| floe_runtime::pidfd::send(socket.as_fd(), kind, pid))?)
    }
}

/// Writes a process's number to a file, whole: an engine reads it as soon as it is there.
pub fn write_pid(path: &Path, pid: Pid) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".pid-").tempfile_in(dir)?;
        write!(file, "{pid}")?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    written().with_context(|| format!("write the pid to {}", path.display()))
}
