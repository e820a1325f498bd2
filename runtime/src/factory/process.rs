//! A process of a container, as a caller of the library has it.

use std::os::fd::OwnedFd;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::error::Result;
use crate::config;
use crate::error::Error as Cause;
use crate::launch::Streams;

/// What is started in a container.
#[derive(Debug, Default)]
pub struct Process {
    /// Program, arguments, environment, user, working directory and rights; `None` is the configuration's own process.
    pub process: Option<config::Process>,
    /// Its standard streams; what is `None` is shared with the caller.
    pub streams: Streams,
    /// Where the master of its terminal is sent, if it is to have one.
    pub console: Option<OwnedFd>,
    /// How many descriptors of the caller's from 3 on it inherits.
    pub preserve_fds: u32,
}

/// A process that was started. It is a child of the caller, who has to wait for it.
#[derive(Debug)]
pub struct Started {
    pub(super) pid: Pid,
}

impl Started {
    /// Its number in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end. `waitpid(2)`.
    ///
    /// # Errors
    /// [`SystemError`](super::Error::SystemError) when somebody else has waited for it.
    pub fn wait(self) -> Result<WaitStatus> {
        loop {
            match waitpid(self.pid, None) {
                Err(nix::errno::Errno::EINTR) => {}
                Ok(WaitStatus::Stopped(..) | WaitStatus::Continued(_)) => {}
                other => {
                    return other.map_err(|errno| Cause::call("waitpid", self.pid, errno).into());
                }
            }
        }
    }

    /// Sends it a signal. `kill(2)`.
    ///
    /// # Errors
    /// [`SystemError`](super::Error::SystemError).
    pub fn signal(&self, signal: i32) -> Result<()> {
        Ok(crate::sys::kill(self.pid, signal).map_err(|errno| Cause::call("kill", self.pid, errno))?)
    }
}
