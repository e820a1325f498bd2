//! Further processes in a container.

use std::os::fd::OwnedFd;

use nix::unistd::Pid;

use super::{Container, Status};
use crate::cgroup::{Below, Chosen, Entrance};
use crate::config::{Config, Process};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::launch::{self, LaunchKind, LaunchPlan, ParentSide, Streams};
use crate::{keyring, seccomp};

/// What a caller may choose about another process in a container.
#[derive(Debug)]
pub struct ExecOptions {
    /// What is executed.
    pub process: Process,
    /// Where the master of its terminal is sent.
    pub console: Option<OwnedFd>,
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: u32,
    /// Where below the container's cgroup it goes.
    pub below: Below,
    /// It may join a paused container, where it waits for the others to go on.
    pub ignore_paused: bool,
}

impl ExecOptions {
    /// Only what is executed; nothing else was chosen.
    #[must_use]
    pub fn new(process: Process) -> Self {
        Self { process, console: None, preserve_fds: 0, below: Below::default(), ignore_paused: false }
    }
}

impl Container {
    /// Runs another process in it, which is a child of the caller.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] unless it runs; [`Error::Child`].
    pub fn exec(&self, options: ExecOptions) -> Result<Pid> {
        self.exec_with(options, Streams::default())
    }

    /// As [`Container::exec`], with standard streams of its own.
    pub(crate) fn exec_with(&self, options: ExecOptions, streams: Streams) -> Result<Pid> {
        let paused = options.ignore_paused.then_some(Status::Paused);
        let wanted = [Some(Status::Running), Some(Status::Created), paused];
        self.require("exec in", &wanted.into_iter().flatten().collect::<Vec<_>>())?;
        self.undisturbed("exec in")?;
        let chosen = options.below.of(&self.cgroup.directories())?;
        let init = self.init_pid().ok_or_else(|| self.not_found())?;
        let mut process = options.process;
        process.inherit(&self.record.config.process);
        let plan = LaunchPlan {
            config: Config { process, ..self.record.config.clone() },
            kind: LaunchKind::Exec { init },
            console: options.console,
            keyring: keyring::name_for(self.id(), self.config()),
        };
        let waiting = launch::Waiting::start(options.preserve_fds, &streams)?;
        launch::launch(launch::begin(waiting, plan)?, &mut Joining { container: self, init, chosen })
    }
}

/// Puts a further process where the others are.
struct Joining<'a> {
    container: &'a Container,
    init: Pid,
    /// The cgroups below its own that were asked for.
    chosen: Option<Chosen>,
}

impl ParentSide for Joining<'_> {
    fn entrance(&self) -> Entrance {
        self.chosen.as_ref().map_or_else(|| self.container.cgroup.entrance(), Chosen::entrance)
    }

    fn place(&mut self, pid: Pid) -> Result<()> {
        // Not `add`: when the container is deleted meanwhile, its cgroup must not come back.
        match &self.chosen {
            Some(chosen) => self.container.cgroup.join_below(pid, chosen),
            None => self.container.cgroup.join(pid, self.init),
        }
    }

    fn placed(&mut self, pid: Pid) -> Result<()> {
        self.container.group()?.map_or(Ok(()), |group| group.add(pid))
    }

    fn listener(&mut self, pid: Pid, listener: OwnedFd) -> Result<()> {
        let Some(profile) = &self.container.record.config.seccomp else { return Ok(()) };
        seccomp::tell_agent(profile, pid, self.container.oci_state(), &listener)
    }
}
