//! Containers that are being made: by a launch of their first process, or by somebody who brings processes to life.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::mount::MsFlags;
use nix::unistd::Pid;

use crate::cgroup::{Cgroup, Entrance};
use crate::config::{Config, Mount, MountKind, NamespaceKind, Process};
use crate::container::{Container, Status};
use crate::error::{Error, Result};
use crate::hooks;
use crate::id::ContainerId;
use crate::keyring;
use crate::launch::{self, Begun, LaunchKind, LaunchPlan, ParentSide};
use crate::network;
use crate::resctrl;
use crate::seccomp;
use crate::state::{Folder, JOURNAL, ProcessId, RESTORE_ROOT, Record};
use crate::store::RECORD_FILE;
use crate::undo::Undo;

/// A container that is being made.
#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) folder: Folder,
    pub(crate) record: Record,
    pub(crate) cgroup: Arc<dyn Cgroup>,
    pub(crate) group: Option<resctrl::Group>,
}

impl Half {
    fn settle(&mut self, pid: Pid) -> Result<()> {
        self.record.init = ProcessId::of(pid);
        if self.record.init.is_none() && nix::sys::signal::kill(pid, None).is_ok() {
            // On record as ended it would run on, and nothing would end it.
            return Err(Error::Refused {
                problem: format!("the container's process {pid} is hidden from floe in /proc"),
                hint: "mount /proc without hidepid, or with gid= of a group that the user is in (proc(5))",
            });
        }
        self.record.maker = None;
        self.folder.write_json(RECORD_FILE, &self.record)
    }
}

impl ParentSide for Half {
    fn entrance(&self) -> Entrance {
        self.cgroup.entrance()
    }

    fn place(&mut self, pid: Pid) -> Result<()> {
        self.cgroup.add(pid)
    }

    fn placed(&mut self, pid: Pid) -> Result<()> {
        if let Some(group) = &self.group {
            group.add(pid)?;
        }
        // Not before: the fork of a process that is to be the only one would be one too many.
        self.cgroup.apply_limits(&self.record.config.resources)?;
        match cgroup_owner(&self.record.config) {
            Some(uid) => self.cgroup.delegate(uid),
            None => Ok(()),
        }
    }

    fn network(&mut self, pid: Pid) -> Result<()> {
        network::set_up(&self.record.config, &self.folder, pid)
    }

    fn mounted(&mut self, pid: Pid) -> Result<serde_json::Value> {
        let hooks = &self.record.config.hooks;
        if !(hooks.prestart.is_empty()
            && hooks.create_runtime.is_empty()
            && hooks.create_container.is_empty())
        {
            // A hook that asks for the state finds the process in it that it was told of; without one, nobody asks.
            self.record.init = ProcessId::of(pid);
            self.folder.write_json(RECORD_FILE, &self.record)?;
        }
        let state = crate::container::oci_state(&self.record, Status::Creating, Some(pid));
        hooks::run("prestart", &self.record.config.hooks.prestart, &state)?;
        hooks::run("createRuntime", &self.record.config.hooks.create_runtime, &state)?;
        Ok(state)
    }

    fn listener(&mut self, pid: Pid, listener: OwnedFd) -> Result<()> {
        let Some(profile) = &self.record.config.seccomp else { return Ok(()) };
        let state = crate::container::oci_state(&self.record, Status::Creating, Some(pid));
        seccomp::tell_agent(profile, pid, state, &listener)
    }

    fn created(&mut self, pid: Pid) -> Result<()> {
        self.settle(pid)?;
        network::settle(&self.record.config, &self.folder)
    }
}

/// The user on the host to whom the container's cgroup is given: that of its first process, if it sees its cgroup as a
/// root that it may write to. Root owns it anyway.
fn cgroup_owner(config: &Config) -> Option<u32> {
    let writable =
        |mount: &Mount| mount.kind == MountKind::Cgroup && !mount.flags.set.contains(MsFlags::MS_RDONLY);
    if !config.creates(NamespaceKind::Cgroup) || !config.mounts.iter().any(writable) {
        return None;
    }
    config.host_uid(config.process.user.uid).filter(|uid| *uid != 0)
}

/// A container with a name, a record and a cgroup, and no process yet. Dropped, everything of it is taken back.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) half: Half,
    pub(crate) undo: Undo,
}

impl Prepared {
    /// How the first process is to be launched: the configuration's own, or `process`.
    pub(crate) fn plan(&mut self, process: Option<Process>, console: Option<OwnedFd>) -> LaunchPlan {
        let record = &mut self.half.record;
        if let Some(process) = process {
            record.config.process = process;
        }
        plan(&record.id, &record.config, &self.half.folder, console)
    }

    /// Makes of `begun` the first process, which waits for `start`.
    pub(crate) fn launch(mut self, begun: Begun) -> Result<Container> {
        launch::make_exec_fifo(self.half.folder.path())?;
        launch::launch(begun, &mut self.half)?;
        let Self { half, undo } = self;
        undo.keep();
        Container::new(half.folder, half.record)
    }
}

/// How the first process of a container is launched.
pub(crate) fn plan(
    id: &ContainerId,
    config: &Config,
    folder: &Folder,
    console: Option<OwnedFd>,
) -> LaunchPlan {
    LaunchPlan {
        config: config.clone(),
        kind: LaunchKind::Init { state_dir: folder.path().to_owned() },
        console,
        keyring: keyring::name_for(id, config),
    }
}

/// A name that is taken for a container whose processes somebody else brings to life. Dropped, everything of it is
/// taken back.
#[derive(Debug)]
pub struct Reservation {
    pub(crate) half: Half,
    pub(crate) undo: Undo,
    /// The network that was made for it.
    pub(crate) ahead: Option<network::Ahead>,
}

impl Reservation {
    /// Its cgroup, which exists and has no processes yet.
    #[must_use]
    pub fn cgroup(&self) -> &dyn Cgroup {
        &*self.half.cgroup
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.half.record.id
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.half.record.config
    }

    /// Where the root file system may be bound for the time of the restore.
    #[must_use]
    pub fn restore_root(&self) -> PathBuf {
        self.half.folder.path().join(RESTORE_ROOT)
    }

    /// Runs the hooks that come before a container's program, for its new namespaces.
    ///
    /// # Errors
    /// [`Error::Hook`](crate::Error::Hook).
    pub fn run_hooks(&mut self, pid: Pid) -> Result<()> {
        self.half.mounted(pid).map(drop)
    }

    /// Makes the network namespace of processes to come, with the interfaces, addresses and routes of the configuration;
    /// `None` where the configuration asks for none of them. Nothing gets in or out of it before
    /// [`Reservation::open_network`].
    ///
    /// # Errors
    /// [`Error::NoInterface`](crate::Error::NoInterface), [`Error::InterfaceExists`](crate::Error::InterfaceExists),
    /// [`Error::Network`](crate::Error::Network).
    pub fn make_network(&mut self) -> Result<Option<OwnedFd>> {
        self.ahead = network::Ahead::make(&self.half.record.config, &self.half.folder)?;
        self.ahead.as_ref().map(network::Ahead::descriptor).transpose()
    }

    /// Lets packets in and out of the network that was made, now that everything is in its place.
    ///
    /// # Errors
    /// [`Error::Network`](crate::Error::Network).
    pub fn open_network(&self) -> Result<()> {
        let open = |ahead: &network::Ahead| ahead.open(&self.half.record.config, &self.half.folder);
        self.ahead.as_ref().map_or(Ok(()), open)
    }

    /// Sets the limits of the configuration, now that everything is in its place.
    ///
    /// # Errors
    /// As [`Cgroup::apply_limits`].
    pub fn apply_limits(&self) -> Result<()> {
        if let Some(group) = &self.half.group {
            self.half.cgroup.processes()?.into_iter().try_for_each(|pid| group.add(pid))?;
        }
        self.half.cgroup.apply_limits(&self.half.record.config.resources).map(drop)
    }

    /// Writes down that `pid` is the first process. [`Reservation::keep`] makes it last.
    ///
    /// # Errors
    /// [`Error::Call`](crate::Error::Call).
    pub fn record(&mut self, pid: Pid) -> Result<()> {
        self.half.settle(pid)
    }

    /// The container stays.
    ///
    /// # Errors
    /// As [`Store::container`](crate::Store::container).
    pub fn keep(self) -> Result<Container> {
        let Self { half, undo, .. } = self;
        undo.keep();
        if let Err(error) = half.folder.remove_file(JOURNAL) {
            // The next command does it, when this process is gone.
            tracing::warn!("{}", error.in_full());
        }
        Container::new(half.folder, half.record)
    }
}
