//! A command that is run for a container at a point that the caller names.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};

use super::{Container, ExecOptions};
use crate::config::{Hook, Process};
use crate::error::{Error, Result};
use crate::launch::Streams;
use crate::{hooks, pidfd};

impl Container {
    /// Runs `hook` on the host, with the OCI state on its standard input, and waits for its end.
    ///
    /// # Errors
    /// [`Error::Hook`] with its exit status, signal or time limit, and what it printed on its standard error.
    pub fn run_hook(&self, point: &'static str, hook: &Hook) -> Result<()> {
        hooks::run(point, std::slice::from_ref(hook), &self.oci_state())
    }

    /// Runs the arguments of `hook` in the container and waits for their end: as its first process's user and with that
    /// one's rights, environment and folder, to which the hook's are added. The path is what messages name.
    ///
    /// # Errors
    /// As [`Container::run_hook`]; what was printed is both outputs. [`Error::WrongStatus`] for a container that does not
    /// run.
    pub fn run_hook_inside(&self, point: &'static str, hook: &Hook) -> Result<()> {
        let first = &self.record.config.process;
        let process = Process {
            args: hook.args.clone(),
            env: first.env.iter().chain(&hook.env).cloned().collect(),
            cwd: hook.dir.clone().unwrap_or_else(|| first.cwd.clone()),
            terminal: false,
            console_size: None,
            ..first.clone()
        };
        let failed = |problem: String| Error::Hook { point, path: hook.path.clone(), problem };
        let (input, words) = hooks::ears(&self.oci_state()).map_err(failed)?;
        let copy = || words.try_clone().map_err(Error::at("dup", "a hook's output"));
        let streams =
            Streams { input: Some(input.into()), output: Some(copy()?.into()), error: Some(copy()?.into()) };
        let pid = self.exec_with(ExecOptions::new(process), streams)?;
        // It is our child and not waited for yet, so the number is its own.
        let pidfd = pidfd::open(pid).map_err(Error::at("pidfd_open", pid.to_string()))?;
        let ended = hooks::ends_within(&pidfd, hook.timeout);
        if !matches!(ended, Ok(true)) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let status = waitpid(pid, None).map_err(|errno| Error::call("waitpid", pid.to_string(), errno))?;
        match (ended, status) {
            (Err(error), _) => Err(failed(format!("cannot be waited for: {error}"))),
            (Ok(false), _) => Err(failed(hooks::too_long(hook))),
            (_, WaitStatus::Exited(_, 0)) => Ok(()),
            (_, WaitStatus::Exited(_, code)) => {
                Err(failed(format!("ended with exit status: {code}: {}", hooks::heard(words))))
            }
            (_, status) => Err(failed(format!("ended with {status:?}: {}", hooks::heard(words)))),
        }
    }
}
