//! libcontainer's interface, for those who make containers from a program of their own: a [`Factory`] makes and finds
//! [`Container`]s, each of which is a handle on what is recorded and on what the kernel has.
//!
//! A handle may be shared by threads. It holds nothing that another process could make wrong: each call looks at the
//! record anew, and any may say [`Error::ContainerNotExists`], for a container can be destroyed by somebody else.
//!
//! The calling program becomes the container's process for a moment, as `floe` does: before anything else, and with one
//! thread, its `main` has to hand over with [`Factory::start_initialization`] when its first argument is `init`.
//! `examples/library.rs` is a whole program.

mod error;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::Pid;
use serde::Serialize;

use crate::bundle::Blueprint;
use crate::cgroup::{CgroupPaths, Pressure, Stats, Watch};
use crate::config::{Config, NamespaceKind};
use crate::container::{self, ExecOptions, Status};
use crate::error::Error as Cause;
use crate::id::ContainerId;
use crate::launch::{self, Waiting};
use crate::making::Prepared;
use crate::store::Store;

pub use error::{Error, Result};
pub use process::{Process, Started};

/// Makes and finds the containers of one state directory.
#[derive(Debug, Clone)]
pub struct Factory {
    store: Store,
}

impl Factory {
    /// Of the state directory `root`, which is made if it is missing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn new(root: &Path) -> Result<Self> {
        Ok(Self { store: Store::open(root)? })
    }

    /// Makes a container of `config`, without a process: its name is taken, and it has a cgroup. Whole or not at all. When
    /// the handle goes before a process was started, so does the container.
    ///
    /// # Errors
    /// [`Error::IdInUse`], [`Error::InvalidIdFormat`], [`Error::ConfigInvalid`], [`Error::SystemError`].
    pub fn create(&self, id: &str, config: Config) -> Result<Container> {
        let bundle = config.rootfs.parent().unwrap_or(Path::new("/")).to_owned();
        let spec = b"{}".to_vec();
        self.create_of(id, Blueprint { bundle, spec, config, native: true })
    }

    /// As [`Factory::create`], of a bundle or of a native configuration's file.
    ///
    /// # Errors
    /// As [`Factory::create`].
    pub fn create_of(&self, id: &str, blueprint: Blueprint) -> Result<Container> {
        let id = ContainerId::parse(id)?;
        let config = blueprint.config.clone();
        let prepared = self.store.prepare(&id, blueprint)?;
        Ok(Container { store: self.store.clone(), id, config, prepared: Mutex::new(Some(prepared)) })
    }

    /// The container `id`, as its record has it.
    ///
    /// # Errors
    /// [`Error::InvalidIdFormat`], [`Error::ContainerNotExists`], [`Error::SystemError`]. One that is stopped can be loaded, in
    /// order to be destroyed; what needs its process says [`Error::ContainerStopped`].
    pub fn load(&self, id: &str) -> Result<Container> {
        let id = ContainerId::parse(id)?;
        let config = self.store.container(&id)?.config().clone();
        Ok(Container { store: self.store.clone(), id, config, prepared: Mutex::new(None) })
    }

    /// What the child does that becomes a container's process: the calling program, executed with the one argument
    /// `init`. To be called before anything else, with one thread. Never returns.
    pub fn start_initialization() -> ! {
        crate::init::init_main()
    }

    /// What kind of factory it is.
    #[must_use]
    pub fn r#type(&self) -> &'static str {
        "floe"
    }
}

/// What is known about a container, in libcontainer's names.
#[derive(Debug, Clone, Serialize)]
pub struct State {
    /// Its name.
    pub id: String,
    /// The number of its first process; 0 if that has ended.
    pub init_process_pid: i32,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// What it is doing.
    pub status: Status,
    /// What it is made of.
    pub config: Config,
    /// Its cgroup's directories by hierarchy.
    pub cgroup_paths: CgroupPaths,
    /// The namespaces of its first process, by which others can join them. `proc_pid_ns(5)`.
    pub namespace_paths: BTreeMap<String, PathBuf>,
}

/// A handle on a container.
#[derive(Debug)]
pub struct Container {
    store: Store,
    id: ContainerId,
    config: Config,
    /// What was made of it, until its first process is started.
    prepared: Mutex<Option<Prepared>>,
}

impl Container {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// What it is doing now. Before its first process is started it is stopped.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::SystemError`].
    pub fn status(&self) -> Result<Status> {
        let prepared = self.prepared();
        let status = self.found()?.status();
        Ok(if prepared.is_some() { Status::Stopped } else { status })
    }

    /// What is known about it.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::SystemError`].
    pub fn state(&self) -> Result<State> {
        let found = self.found()?;
        let init = found.init_pid();
        let namespace = |kind: &NamespaceKind| {
            let name = kind.proc_name();
            Some((name.to_owned(), PathBuf::from(format!("/proc/{}/ns/{name}", init?))))
        };
        Ok(State {
            id: self.id.to_string(),
            init_process_pid: init.map_or(0, Pid::as_raw),
            created: found.created().to_owned(),
            status: self.status()?,
            config: found.config().clone(),
            cgroup_paths: found.cgroup().directories(),
            namespace_paths: NamespaceKind::ALL.iter().filter_map(namespace).collect(),
        })
    }

    /// What it was made of, or was last set to by this handle's eyes.
    #[must_use]
    pub fn config(&self) -> Config {
        self.found().map_or_else(|_| self.config.clone(), |found| found.config().clone())
    }

    /// The numbers of its processes in the caller's pid namespace. While it is not paused, some may have ended meanwhile.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::SystemError`].
    pub fn processes(&self) -> Result<Vec<Pid>> {
        Ok(self.found()?.cgroup().processes()?)
    }

    /// What it uses.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::SystemError`].
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.found()?.stats()?)
    }

    /// Sets its limits to those of `config`, all or none, while it runs.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::ConfigInvalid`], [`Error::SystemError`].
    pub fn set(&self, config: &Config) -> Result<()> {
        Ok(self.found()?.update(&config.resources)?)
    }

    /// Starts a process. The first one has everything made for it and then waits for [`Container::exec`]; each later one
    /// joins it, and runs at once.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::ConfigInvalid`], [`Error::ContainerPaused`], [`Error::ContainerStopped`] when the first
    /// has ended, [`Error::SystemError`]. When the first process fails, nothing of the container is left.
    pub fn start(&self, process: Process) -> Result<Started> {
        Ok(Started { pid: self.start_any(process)?.0 })
    }

    /// Starts a process that does not wait.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub fn run(&self, process: Process) -> Result<Started> {
        let (pid, is_first) = self.start_any(process)?;
        if is_first && let Err(error) = self.exec() {
            self.destroy()?;
            return Err(error);
        }
        Ok(Started { pid })
    }

    /// The process, and whether it is the first.
    fn start_any(&self, process: Process) -> Result<(Pid, bool)> {
        let Process { process, streams, console, preserve_fds } = process;
        let mut prepared = self.prepared();
        if let Some(mut first) = prepared.take() {
            // Deleted by somebody else: what was prepared is no more.
            self.found()?;
            let waiting = Waiting::start(preserve_fds, &streams)?;
            let begun = launch::begin(waiting, first.plan(process, console))?;
            let made = first.launch(begun)?;
            let pid = made.recorded_pid().ok_or_else(|| gone(&made))?;
            return Ok((pid, true));
        }
        drop(prepared);
        let found = self.found()?;
        let process = process.unwrap_or_else(|| found.config().process.clone());
        Ok((
            found.exec_with(ExecOptions { console, preserve_fds, ..ExecOptions::new(process) }, streams)?,
            false,
        ))
    }

    /// Destroys it, after killing all that runs in it. That it is destroyed already is no error.
    ///
    /// # Errors
    /// [`Error::SystemError`].
    pub fn destroy(&self) -> Result<()> {
        // What was prepared is taken back with it.
        drop(self.prepared().take());
        match self.found() {
            Ok(found) => Ok(found.delete(true)?),
            Err(Error::ContainerNotExists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to its first process. `signal(7)`.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::ContainerStopped`], [`Error::SystemError`].
    pub fn signal(&self, signal: i32) -> Result<()> {
        Ok(self.found()?.kill(signal, false)?)
    }

    /// Lets the first process go on to its program.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::ContainerStopped`], [`Error::ContainerNotStopped`] when it has gone on already,
    /// [`Error::SystemError`].
    pub fn exec(&self) -> Result<()> {
        Ok(self.found()?.start()?)
    }

    /// Freezes every process, and returns when they stand still.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::ContainerPaused`], [`Error::ContainerStopped`], [`Error::SystemError`].
    pub fn pause(&self) -> Result<()> {
        Ok(self.found()?.pause()?)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::ContainerNotPaused`], [`Error::ContainerStopped`], [`Error::SystemError`].
    pub fn resume(&self) -> Result<()> {
        Ok(self.found()?.resume()?)
    }

    /// Tells when the kernel ends a process of its for want of memory.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::SystemError`].
    pub fn notify_oom(&self) -> Result<Watch> {
        Ok(self.found()?.cgroup().watch_out_of_memory()?)
    }

    /// Tells when memory gets short.
    ///
    /// # Errors
    /// [`Error::ContainerNotExists`], [`Error::SystemError`].
    pub fn notify_memory_pressure(&self, pressure: Pressure) -> Result<Watch> {
        Ok(self.found()?.cgroup().watch_memory_pressure(pressure)?)
    }

    fn found(&self) -> Result<container::Container> {
        Ok(self.store.container(&self.id)?)
    }

    fn prepared(&self) -> MutexGuard<'_, Option<Prepared>> {
        // A panic of another thread leaves nothing half done in it.
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(container: &container::Container) -> Cause {
    Cause::start(format!("container {} has no process", container.id()))
}
