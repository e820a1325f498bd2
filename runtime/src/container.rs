//! A container and what can be done with it.

mod exec;
mod hook;
mod limits;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bundle::CONFIG_FILE;
use crate::cgroup::{Cgroup, CgroupVersion};
use crate::config::network::MacAddress;
use crate::config::{Config, NamespaceKind};
use crate::error::{Error, Result};
use crate::hooks;
use crate::id::ContainerId;
use crate::launch;
use crate::network;
use crate::resctrl;
use crate::state::{Folder, JOURNAL, Journal, ProcessId, Record, Verb};
use crate::store::RECORD_FILE;

pub use exec::ExecOptions;

/// Version of the OCI runtime specification that `state` speaks.
pub const OCI_VERSION: &str = "1.2.1";

/// What a container is doing, as `state` of the OCI runtime specification shows it (`Paused` is runc's addition).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its name is taken and it is being made, or whoever made it died.
    Creating,
    /// Everything is set up, its first process waits for `start`.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process runs and is frozen.
    Paused,
    /// Its first process has ended (a zombie counts as ended).
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A container, as it was when it was looked up. Its status is asked of the kernel each time.
#[derive(Debug)]
pub struct Container {
    folder: Folder,
    record: Record,
    cgroup: Box<dyn Cgroup>,
}

impl Container {
    pub(crate) fn new(folder: Folder, record: Record) -> Result<Self> {
        let cgroup = record.open_cgroup()?;
        Ok(Self { folder, record, cgroup })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.record.id
    }

    /// Its bundle, absolute.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.record.bundle
    }

    /// Whether it was made of a native configuration: then its bundle holds no configuration of its.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.record.native
    }

    /// Its root file system on the host.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.record.config.rootfs
    }

    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.record.config
    }

    /// When it was created (RFC 3339, UTC).
    #[must_use]
    pub fn created(&self) -> &str {
        &self.record.created
    }

    /// Its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &dyn Cgroup {
        &*self.cgroup
    }

    /// The bundle's `config.json` as it was when the container was made.
    ///
    /// # Errors
    /// [`Error::Call`], [`Error::Missing`].
    pub fn spec_json(&self) -> Result<Vec<u8>> {
        let path = self.folder.path().join(CONFIG_FILE);
        self.folder.read(CONFIG_FILE)?.ok_or(Error::Missing { what: "configuration", path })
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(maker) = self.record.maker {
            // A process that is on record already ends with its maker.
            return if maker.is_alive() { Status::Creating } else { Status::Stopped };
        }
        let Some(init) = self.record.init else { return Status::Stopped };
        if !init.is_alive() {
            Status::Stopped
        } else if self.cgroup.is_frozen().unwrap_or(false) && !self.journal_says_running() {
            Status::Paused
        } else if launch::waits_for_start(self.folder.path(), Pid::from_raw(init.pid)) {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// During a checkpoint the freezer is closed for a moment, which is no pause.
    fn journal_says_running(&self) -> bool {
        let journal = self.folder.read_json::<Journal>(JOURNAL, "journal").ok().flatten();
        journal.is_some_and(|journal| !journal.was_paused)
    }

    /// Its first process, if it is alive.
    #[must_use]
    pub fn init_pid(&self) -> Option<Pid> {
        self.record.init.filter(|init| init.is_alive()).map(|init| Pid::from_raw(init.pid))
    }

    /// The number that its first process was recorded with, whether it is alive or not: for a parent that waits.
    #[must_use]
    pub fn recorded_pid(&self) -> Option<Pid> {
        self.record.init.map(|init| Pid::from_raw(init.pid))
    }

    /// The state as the OCI runtime specification has it.
    #[must_use]
    pub fn oci_state(&self) -> Value {
        oci_state(&self.record, self.status(), self.init_pid())
    }

    /// Whether a checkpoint ended it.
    #[must_use]
    pub fn was_checkpointed(&self) -> bool {
        self.record.checkpointed
    }

    fn group(&self) -> Result<Option<resctrl::Group>> {
        resctrl::Group::of(&self.record.config, self.id())
    }

    fn require(&self, verb: &'static str, wanted: &[Status]) -> Result<()> {
        let status = self.status();
        if wanted.contains(&status) {
            return Ok(());
        }
        Err(Error::WrongStatus { id: self.id().clone(), verb, status })
    }

    /// What is done under it is done to this container: one that was deleted, and made again by somebody under its name,
    /// is not found.
    fn lock(&self) -> Result<crate::state::Lock> {
        let lock = self.folder.lock()?.filter(|_| !self.is_another_now());
        lock.ok_or_else(|| self.not_found())
    }

    /// Whether the record is another container's than when it was read: it has another first process.
    fn is_another_now(&self) -> bool {
        let Some(own) = self.record.init else { return false };
        let now = self.folder.read_json::<Identity>(RECORD_FILE, "container record");
        matches!(now, Ok(Some(now)) if now.init != Some(own))
    }

    fn not_found(&self) -> Error {
        let root = self.folder.path().parent().unwrap_or(Path::new("/")).to_owned();
        Error::NotFound { id: self.id().clone(), root }
    }

    /// Another floe must not be in the middle of something.
    fn undisturbed(&self, verb: &'static str) -> Result<()> {
        match self.folder.read_json::<Journal>(JOURNAL, "journal")? {
            Some(journal) if journal.owner.is_alive() && Some(journal.owner) != ProcessId::own() => {
                Err(Error::Busy {
                    id: self.id().clone(),
                    verb,
                    owner: journal.owner.pid,
                    busy_with: journal.verb.name(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Lets the first process go on to its program.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] unless it is created; [`Error::Child`] if a `startContainer` hook fails, [`Error::Hook`] if
    /// a `poststart` hook does: the container is stopped then.
    pub fn start(&self) -> Result<()> {
        let lock = self.lock()?;
        self.require("start", &[Status::Created])?;
        let init = self.init_pid().ok_or_else(|| self.not_found())?;
        launch::open_exec_fifo(self.folder.path(), init)?;
        // A hook that hangs must not keep the container from being deleted.
        drop(lock);
        let state = self.oci_state();
        // The specification: such a failure ends the container.
        hooks::run("poststart", &self.record.config.hooks.poststart, &state).inspect_err(|_| {
            if let Ok(_lock) = self.lock() {
                let _ = self.cgroup.kill_all();
            }
        })
    }

    /// Sends `signal` to the first process, or with `all` to every process. SIGKILL ends the container: a paused one goes
    /// on so that it can end, and without a pid namespace of its own every process gets it, as with runc 1.2 and later.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] if it is stopped (with `all`, processes that its first one left behind are still
    /// reached).
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        if !all {
            self.require("kill", &[Status::Created, Status::Running, Status::Paused])?;
            let init = self.init_pid().ok_or_else(|| self.not_found())?;
            if signal == nix::libc::SIGKILL && !self.config().creates(NamespaceKind::Pid) {
                // Nothing else ends with the first process: the kernel does that for a pid namespace. Nobody may have made
                // another container of this name before all are gone.
                let _lock = self.lock()?;
                return self.cgroup.kill_all();
            }
            send_signal(init, signal)?;
            return if signal == nix::libc::SIGKILL { self.let_it_die() } else { Ok(()) };
        }
        for pid in self.cgroup.processes()? {
            match send_signal(pid, signal) {
                Err(Error::Call { source, .. }) if source.raw_os_error() == Some(nix::libc::ESRCH) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// A frozen process of version 1 ends only when it is thawed. Not while a checkpoint holds it, which finds out itself.
    fn let_it_die(&self) -> Result<()> {
        let paused = self.cgroup.version() == CgroupVersion::V1 && self.cgroup.is_frozen().unwrap_or(false);
        if paused && self.undisturbed("kill").is_ok() { self.cgroup.thaw() } else { Ok(()) }
    }

    /// Removes a stopped container, or with `force` any: its processes are killed first, and an interface of the host
    /// that cannot be given back is given up.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] without `force` if it is not stopped; [`Error::Busy`]; [`Error::InterfaceExists`] without
    /// `force` when the host has another interface by the name of one that is to come back.
    pub fn delete(&self, force: bool) -> Result<()> {
        let Some(_lock) = self.folder.lock()?.filter(|_| !self.is_another_now()) else {
            // Somebody else removed it while we waited, which is all that `force` wants.
            return if force { Ok(()) } else { Err(self.not_found()) };
        };
        if !force {
            self.require("delete", &[Status::Stopped])?;
            self.undisturbed("delete")?;
        }
        // Before the first process: without a cgroup, the others are told by it.
        self.cgroup.kill_all()?;
        if let Some(init) = self.init_pid() {
            // Outside of the cgroup only if floe was killed between its birth and its placing.
            let _ = send_signal(init, nix::libc::SIGKILL);
        }
        self.cgroup.destroy()?;
        if network::is_needed(self.config()) {
            match network::take_back(&self.folder, self.record.checkpointed) {
                Err(error) if force => tracing::warn!("{}", error.in_full()),
                other => other?,
            }
        }
        if let Some(group) = self.group().unwrap_or_else(|error| {
            // It is gone with its file system.
            tracing::warn!("{}", error.in_full());
            None
        }) {
            group.remove()?;
        }
        let state = oci_state(&self.record, Status::Stopped, None);
        self.folder.remove()?;
        hooks::run_all("poststop", &self.record.config.hooks.poststop, &state);
        Ok(())
    }

    /// The hardware addresses of the ends in the container of the pairs that were made for it, by their number among the
    /// configuration's `networks`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn hardware_addresses(&self) -> Result<BTreeMap<usize, MacAddress>> {
        network::hardware_addresses(&self.folder)
    }

    /// Before a checkpoint ends it: its network outlives it until [`Container::release_network`], so that no interface of the
    /// host ends with it.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn hold_network(&self) -> Result<()> {
        match self.init_pid().filter(|_| network::is_needed(self.config())) {
            Some(init) => network::hold(&self.folder, init),
            None => Ok(()),
        }
    }

    /// After a checkpoint, which has ended it or has not: the network of one that has ended is taken back (pairs are removed,
    /// interfaces of the host given back), so that it can be restored before it is deleted.
    ///
    /// # Errors
    /// As [`Container::delete`].
    pub fn release_network(&self) -> Result<()> {
        if !network::is_needed(self.config()) {
            return Ok(());
        }
        let _lock = self.lock()?;
        match self.status() {
            Status::Stopped => network::take_back(&self.folder, true),
            _ => network::let_go(&self.folder),
        }
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] unless it runs; [`Error::FreezeTimeout`].
    pub fn pause(&self) -> Result<()> {
        let _lock = self.lock()?;
        self.undisturbed("pause")?;
        self.require("pause", &[Status::Running, Status::Created])?;
        self.cgroup.freeze()
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] unless it is paused.
    pub fn resume(&self) -> Result<()> {
        let _lock = self.lock()?;
        self.undisturbed("resume")?;
        self.require("resume", &[Status::Paused])?;
        self.cgroup.thaw()
    }

    /// Writes down, before anything is frozen, that this process is in the middle of `verb`.
    ///
    /// # Errors
    /// [`Error::Busy`] if another live process is.
    pub fn begin_journal(&self, verb: Verb) -> Result<JournalGuard> {
        let _lock = self.lock()?;
        self.undisturbed(verb.name())?;
        let journal = Journal::begin(verb, self.cgroup.is_frozen()?)?;
        self.folder.write_json(JOURNAL, &journal)?;
        Ok(JournalGuard { folder: Some(self.folder.clone()) })
    }

    /// Writes down that a checkpoint is about to end it, so that a restore may take its name; or that it did not.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn mark_checkpointed(&mut self, ended: bool) -> Result<()> {
        let _lock = self.lock()?;
        self.record.checkpointed = ended;
        self.folder.write_json(RECORD_FILE, &self.record)
    }
}

/// What of a record tells one container of a name from the next.
#[derive(Deserialize)]
struct Identity {
    init: Option<ProcessId>,
}

fn send_signal(pid: Pid, signal: i32) -> Result<()> {
    crate::sys::kill(pid, signal)
        .map_err(|error| Error::call("kill", format!("process {pid} with signal {signal}"), error))
}

/// Ends a journal entry when the work is over.
#[derive(Debug)]
pub struct JournalGuard {
    folder: Option<Folder>,
}

impl JournalGuard {
    /// The work is over, and the container in a state that needs no repair.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn end(mut self) -> Result<()> {
        self.folder.take().map_or(Ok(()), |folder| folder.remove_file(JOURNAL))
    }
}

impl Drop for JournalGuard {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            let _ = folder.remove_file(JOURNAL);
        }
    }
}

/// The state of a container as `runtime.md` of the OCI runtime specification has it.
pub(crate) fn oci_state(record: &Record, status: Status, init: Option<Pid>) -> Value {
    let mut state = json!({
        "ociVersion": OCI_VERSION,
        "id": record.id.as_str(),
        "status": status.to_string(),
        "bundle": record.bundle,
        "rootfs": record.config.rootfs,
        "created": record.created,
        "owner": "",
        "pid": init.map_or(0, Pid::as_raw),
    });
    if !record.config.annotations.is_empty() {
        state["annotations"] = json!(record.config.annotations);
    }
    state
}
