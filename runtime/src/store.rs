//! The containers of one state directory.

use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::unistd::Pid;

use crate::bundle::{Blueprint, CONFIG_FILE};
use crate::cgroup::{Cgroup, Place};
use crate::config::Config;
use crate::config::network::InterfaceName;
use crate::container::{Container, Status, oci_state};
use crate::error::{Error, Result};

use crate::hooks;
use crate::id::{ContainerId, HASHED};
use crate::launch::{self, Streams, Waiting};
use crate::making::{self, Half, Prepared, Reservation};
use crate::network;
use crate::privilege;
use crate::resctrl;
use crate::state::{Folder, JOURNAL, Journal, ProcessId, Record, Verb};
use crate::undo::Undo;

/// How names of folders begin that are being filled. No container has such a name.
const UNFINISHED: &str = "@new-";

/// Name of the record.
pub(crate) const RECORD_FILE: &str = "state.json";

/// The containers below one state directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// What a caller may choose about a new container.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// Where the master of its terminal is sent; needed if the configuration asks for a terminal.
    pub console: Option<OwnedFd>,
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: u32,
    /// Change the root without pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Its standard streams; the caller's where nothing is given.
    pub streams: Streams,
    /// Let systemd make the cgroup.
    pub systemd_cgroup: bool,
}

impl Store {
    /// Opens the state directory, making it if it is missing (for nobody else), and repairs what killed floes left: a
    /// container that a dead checkpoint froze is thawed, a restore that died is taken back whole.
    ///
    /// # Errors
    /// [`Error::Call`] if the folder cannot be made or read. What cannot be repaired is a warning: one broken
    /// container must not keep the others from being reached.
    pub fn open(root: &Path) -> Result<Self> {
        let mode = privilege::root_mode();
        fs::DirBuilder::new().recursive(true).mode(mode).create(root).map_err(Error::at("mkdir", root))?;
        let root = fs::canonicalize(root).map_err(Error::at("open", root))?;
        check_owner(&root)?;
        let store = Self { root };
        store.repair()?;
        Ok(store)
    }

    /// The state directory, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The container `id`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Json`] if its record is damaged.
    pub fn container(&self, id: &ContainerId) -> Result<Container> {
        let folder = self.folder(id);
        match folder.read_json::<Record>(RECORD_FILE, "container record")? {
            Some(record) => Container::new(folder, record),
            None => Err(Error::NotFound { id: id.clone(), root: self.root.clone() }),
        }
    }

    /// Every container, by name. One whose record cannot be read is left out with a warning.
    ///
    /// # Errors
    /// [`Error::Call`] if the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Container>> {
        let mut found = Vec::new();
        for id in self.ids()? {
            match self.container(&id) {
                Ok(container) => found.push(container),
                // Deleted meanwhile, or being made.
                Err(Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!("container {id}: {}", error.in_full()),
            }
        }
        Ok(found)
    }

    /// A container that lives at a bridge of the host with an address that `config` gives another one there, `id`: that
    /// address, and the bridge.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn who_has_an_address(
        &self,
        id: &ContainerId,
        config: &Config,
    ) -> Result<Option<(ContainerId, IpAddr, InterfaceName)>> {
        if config.networks.is_empty() {
            return Ok(None);
        }
        let others = self.list()?.into_iter();
        let living = others.filter(|other| other.id() != id && other.status() != Status::Stopped);
        let found = living
            .filter_map(|other| Some((other.id().clone(), network::in_common(config, other.config())?)))
            .next();
        Ok(found.map(|(id, (address, bridge))| (id, address, bridge)))
    }

    fn ids(&self) -> Result<Vec<ContainerId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(Error::at("read", &self.root))? {
            let entry = entry.map_err(Error::at("read", &self.root))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|_| is_dir) else { continue };
            ids.extend(match name.starts_with(HASHED) {
                true => long_id(&Folder::new(entry.path())),
                false => ContainerId::parse(name).ok(),
            });
        }
        ids.sort();
        Ok(ids)
    }

    /// Removes what is left of a container without a readable record. Nothing there is no failure.
    ///
    /// Its cgroup is the one that the configuration kept beside the record names. Where there is no record at all,
    /// its maker was killed before it made a cgroup, and one of that name is somebody else's.
    ///
    /// # Errors
    /// [`Error::Call`]; [`Error::KillTimeout`].
    pub fn remove_remains(&self, id: &ContainerId) -> Result<()> {
        let folder = self.folder(id);
        let Some(_lock) = folder.lock()? else { return Ok(()) };
        if folder.read(RECORD_FILE)?.is_some() {
            let spec = folder.read_json::<serde_json::Value>(CONFIG_FILE, "OCI configuration").ok().flatten();
            let named = spec.as_ref().and_then(|spec| spec["linux"]["cgroupsPath"].as_str());
            if let Some(cgroup) = Place::named(named.filter(|path| !path.is_empty()), id)?.open()? {
                cgroup.kill_all()?;
                cgroup.destroy()?;
            }
        }
        if let Err(error) = network::take_back(&folder, false) {
            tracing::warn!("{}", error.in_full());
        }
        folder.remove()
    }

    fn folder(&self, id: &ContainerId) -> Folder {
        Folder::new(self.root.join(&*id.folder_name()))
    }

    /// Makes a container of the bundle: its process is there and waits for `start`. It is a child of the caller.
    ///
    /// # Errors
    /// Any of [`Error`]; nothing of the container is left then.
    pub fn create(&self, id: &ContainerId, bundle: &Path, options: CreateOptions) -> Result<Container> {
        self.create_of(id, || Blueprint::of_bundle(bundle), options)
    }

    /// As [`Store::create`], of a blueprint that is read while the process starts.
    ///
    /// # Errors
    /// Any of [`Error`]; nothing of the container is left then.
    pub fn create_of(
        &self,
        id: &ContainerId,
        blueprint: impl FnOnce() -> Result<Blueprint>,
        options: CreateOptions,
    ) -> Result<Container> {
        let waiting = Waiting::start(options.preserve_fds, &options.streams)?;
        let mut blueprint = blueprint()?;
        let config = &mut blueprint.config;
        config.no_pivot |= options.no_pivot;
        config.no_new_keyring |= options.no_new_keyring;
        config.systemd_cgroup |= options.systemd_cgroup;
        check_terminal(config, options.console.is_some())?;
        // Before the name is taken and the cgroup made: the process has its own to do meanwhile.
        let begun = launch::begin(waiting, making::plan(id, config, &self.folder(id), options.console))?;
        self.prepare(id, blueprint)?.launch(begun)
    }

    /// Takes the name `id` and makes everything of the container but its process.
    pub(crate) fn prepare(&self, id: &ContainerId, blueprint: Blueprint) -> Result<Prepared> {
        let mut undo = Undo::default();
        let half = self.begin(id, blueprint, None, &mut undo)?;
        Ok(Prepared { half, undo })
    }

    /// Takes the name `id` for a container whose processes somebody else brings to life. Its cgroup is made, without
    /// limits.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is taken (unless by a container that a checkpoint ended, which is replaced).
    pub fn reserve(&self, id: &ContainerId, blueprint: Blueprint) -> Result<Reservation> {
        if let Ok(old) = self.container(id)
            && old.was_checkpointed()
            && old.status() == Status::Stopped
        {
            old.delete(false)?;
        }
        let mut undo = Undo::default();
        let half = self.begin(id, blueprint, Some(Journal::begin(Verb::Restore, false)?), &mut undo)?;
        Ok(Reservation { half, undo, ahead: None })
    }

    /// The name is taken and written down, before anything else of the container is made.
    fn begin(
        &self,
        id: &ContainerId,
        blueprint: Blueprint,
        journal: Option<Journal>,
        undo: &mut Undo,
    ) -> Result<Half> {
        let Blueprint { bundle, spec, config, native } = blueprint;
        privilege::check(&config)?;
        let folder = self.folder(id);
        let record = Record {
            id: id.clone(),
            bundle,
            native,
            created: now(),
            init: None,
            maker: ProcessId::own(),
            checkpointed: false,
            cgroup: Place::of(&config, id)?,
            config,
            extra: Default::default(),
        };
        let cgroup: Arc<dyn Cgroup> = record.open_cgroup()?.into();
        self.appear(&folder, &spec, &record, journal.as_ref())?;
        let (hooks, state) =
            (record.config.hooks.poststop.clone(), oci_state(&record, Status::Stopped, None));
        undo.push("run the poststop hooks", move || {
            hooks::run_all("poststop", &hooks, &state);
            Ok(())
        });
        let removed = folder.clone();
        undo.push("remove the container's folder", move || removed.remove());
        if network::is_needed(&record.config) {
            let folder = folder.clone();
            undo.push("take the container's network back", move || network::take_back(&folder, true));
        }
        match cgroup.claim() {
            // What is in there is not to be touched.
            Err(error @ Error::CgroupInUse { .. }) => return Err(error),
            // It may have made some of the directories.
            Err(error) => return cgroup.destroy().and(Err(error)),
            Ok(()) => {}
        }
        let destroyed = Arc::clone(&cgroup);
        undo.push("remove the cgroup", move || destroyed.kill_all().and_then(|()| destroyed.destroy()));
        let group = resctrl::Group::of(&record.config, id)?;
        if let Some(group) = &group {
            group.make(undo)?;
        }
        Ok(Half { folder, record, cgroup, group })
    }

    /// Gives the container its folder, with everything in it from the first moment: it is filled under another name.
    /// A floe that is killed meanwhile leaves no half-made container, and the other name goes with the next command.
    fn appear(&self, folder: &Folder, spec: &[u8], record: &Record, journal: Option<&Journal>) -> Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let new = Folder::new(self.root.join(format!("{UNFINISHED}{}-{number}", std::process::id())));
        // Of an earlier process with our number.
        new.remove()?;
        new.create()?;
        let filled = new
            .write(CONFIG_FILE, spec)
            .and_then(|()| journal.map_or(Ok(()), |journal| new.write_json(JOURNAL, journal)))
            .and_then(|()| new.write_json(RECORD_FILE, record));
        let moved = filled.and_then(|()| match fs::rename(new.path(), folder.path()) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                Err(Error::Exists { id: record.id.clone() })
            }
            other => other.map_err(Error::at("make", folder.path())),
        });
        if moved.is_err() {
            new.remove()?;
        }
        moved
    }

    /// Folders that were never finished.
    fn remove_unfinished(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root).map_err(Error::at("read", &self.root))?.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)) else { continue };
            let maker = rest.split('-').next().and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
            if maker.and_then(ProcessId::of).is_none() {
                Folder::new(entry.path()).remove()?;
            }
        }
        Ok(())
    }

    fn repair(&self) -> Result<()> {
        self.remove_unfinished()?;
        for id in self.ids()? {
            if let Err(error) = self.repair_one(&id) {
                tracing::warn!(
                    "container {id} was left half done and cannot be repaired: {}",
                    error.in_full()
                );
            }
        }
        Ok(())
    }

    fn repair_one(&self, id: &ContainerId) -> Result<()> {
        let folder = self.folder(id);
        // Every command does this for every container: for one that nobody is in the middle of it costs a look.
        let dead = || {
            let journal = folder.read_json::<Journal>(JOURNAL, "journal")?;
            Ok::<_, Error>(journal.filter(|journal| !journal.owner.is_alive()))
        };
        if dead()?.is_none() {
            return Ok(());
        }
        let Some(_lock) = folder.lock()? else { return Ok(()) };
        // Looked at again: another floe may have repaired it meanwhile.
        let (Some(journal), Some(record)) =
            (dead()?, folder.read_json::<Record>(RECORD_FILE, "container record")?)
        else {
            return Ok(());
        };
        let cgroup = record.open_cgroup()?;
        match journal.verb {
            Verb::Restore if record.init.is_none() || record.maker.is_some() => {
                tracing::warn!("container {id}: a restore of it was killed; what was left is removed");
                cgroup.kill_all()?;
                cgroup.destroy()?;
                if let Some(group) = resctrl::Group::of(&record.config, id)? {
                    group.remove()?;
                }
                if network::is_needed(&record.config) {
                    network::take_back(&folder, true)?;
                }
                return folder.remove();
            }
            // All of it was there, and it goes on by itself.
            Verb::Restore => {}
            Verb::Checkpoint => {
                tracing::warn!("container {id}: a checkpoint of it was killed; it is set going again");
                match journal.was_paused {
                    true => cgroup.freeze()?,
                    false => cgroup.thaw()?,
                }
            }
        }
        folder.remove_file(JOURNAL)
    }
}

/// The name of a container whose folder is not called so.
fn long_id(folder: &Folder) -> Option<ContainerId> {
    let record = folder.read_json::<Record>(RECORD_FILE, "container record").ok().flatten()?;
    Some(record.id)
}

/// Records name processes that are killed and mounts that are removed: nobody but root and the caller may write them.
fn check_owner(root: &Path) -> Result<()> {
    let about = fs::metadata(root).map_err(Error::at("stat", root))?;
    let ours = about.uid() == 0 || about.uid() == nix::unistd::geteuid().as_raw();
    if ours && about.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::Refused {
        problem: format!("others may write to the state directory {}", root.display()),
        hint: "make it yours alone (chown, chmod go-w), or choose another --root",
    })
}

fn check_terminal(config: &Config, console: bool) -> Result<()> {
    match (config.process.terminal, console) {
        (true, false) => Err(Error::Refused {
            problem: "process.terminal is true in config.json, and nobody takes the terminal".to_owned(),
            hint: "pass --console-socket, or use `floe run` without --detach",
        }),
        (false, true) => Err(Error::Refused {
            problem: "--console-socket was given, and process.terminal is false in config.json".to_owned(),
            hint: "leave it out, or set process.terminal",
        }),
        _ => Ok(()),
    }
}

/// The time in RFC 3339, UTC, to the second.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
