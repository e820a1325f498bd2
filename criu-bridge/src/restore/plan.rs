//! What stands for the outside on this host now.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use floe_runtime::Blueprint;
use floe_runtime::cgroup::Cgroup;
use floe_runtime::config::{Config, MountKind as ConfigMount, NamespaceKind};
use floe_snapshot_format::Source;
use floe_snapshot_format::criu::pagemap;

use crate::checkpoint::Tools;
use crate::checkpoint::rounds::MEMORY_KEY;
use crate::checkpoint::seal::{CHOICES_KEY, OUTSIDE_KEY, layout, layout_of};
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::outside::{MountKind, Outside, OutsideMount};
use crate::record::{Native, Record};
use crate::scratch::Scratch;

/// A restore, planned.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bundle: PathBuf,
    /// Whether that is a native configuration's.
    pub(crate) native: bool,
    pub(crate) spec: Vec<u8>,
    pub(crate) config: Config,
    pub(crate) outside: Outside,
    pub(crate) choices: Choices,
    /// This host's record of the snapshot.
    pub(crate) record: Option<Record>,
    /// Whether the container was paused.
    pub(crate) paused: bool,
    /// Whether this host made it, byte for byte, of a container of this very bundle.
    pub(crate) own: bool,
    /// Whether this host made it, byte for byte.
    pub(crate) made_here: bool,
    criu: String,
    /// Names of its processes, by their pids in the container.
    pub(crate) names: BTreeMap<i32, String>,
}

/// What is to be restored: of the bundle that was named, or else of what this host remembers.
fn blueprint(bundle: Option<&Path>, record: Option<&Record>) -> Result<Blueprint> {
    let known = record.map(|record| record.bundle.as_path());
    let found = bundle.or(known).ok_or_else(|| Error::Unfit {
        what: "this host has no record of it, so it does not know the bundle".to_owned(),
        hint: "name the bundle with --bundle DIR".to_owned(),
    })?;
    let found =
        std::fs::canonicalize(found).map_err(|source| Error::call("find the bundle", found, source))?;
    if let (None, Some(Native { spec, config })) = (bundle, record.and_then(|record| record.native.as_ref()))
    {
        let (spec, config) = (spec.clone().into_bytes(), config.clone());
        return Ok(Blueprint { bundle: found, spec, config, native: true });
    }
    Ok(Blueprint::of_bundle(&found)?)
}

/// What was chosen at the checkpoint and has to be said again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Choices {
    pub(crate) tcp_established: bool,
    pub(crate) tcp_close: bool,
    pub(crate) file_locks: bool,
    pub(crate) ext_unix_sk: bool,
    pub(crate) shell_job: bool,
    pub(crate) link_remap: bool,
    pub(crate) empty_network: bool,
}

impl Plan {
    /// What the container is made of.
    pub(crate) fn blueprint(&self) -> Blueprint {
        let (bundle, spec, config) = (self.bundle.clone(), self.spec.clone(), self.config.clone());
        Blueprint { bundle, spec, config, native: self.native }
    }

    pub(crate) fn make(archive: &dyn Source, bundle: Option<&Path>, tools: Tools<'_>) -> Result<Self> {
        let manifest = archive.manifest();
        let part = |key: &str| manifest.extra.get(key).cloned().unwrap_or_default();
        let unfit = |what: String| Error::Unfit {
            what,
            hint: "restore it with the floe that wrote it, or a newer one".to_owned(),
        };
        if manifest.extra.contains_key(MEMORY_KEY) {
            return Err(Error::Unfit {
                what: "it holds memory only: the first round of a dump in several".to_owned(),
                hint: "restore the dump that was made with --parent-path on top of it".to_owned(),
            });
        }
        let foreign = !manifest.extra.contains_key(OUTSIDE_KEY);
        if manifest.cpu.architecture != std::env::consts::ARCH {
            return Err(Error::Unfit {
                what: format!(
                    "it was made on {} and this is {}",
                    manifest.cpu.architecture,
                    std::env::consts::ARCH
                ),
                hint: "restore it on a machine of its kind".to_owned(),
            });
        }
        let record = tools.records.find(&manifest.snapshot)?;
        // A record of another configuration is of another snapshot with this one's id.
        let record = record.filter(|record| record.spec_digest == manifest.container.spec_digest);
        let named = bundle.is_some();
        let Blueprint { bundle, spec, mut config, native } = blueprint(bundle, record.as_ref())?;
        let same_spec = blake3::hash(&spec).to_hex().as_str() == manifest.container.spec_digest;
        let made_here = record.as_ref().is_some_and(|record| record.manifest == archive.manifest_digest());
        let own = same_spec && made_here;
        if !same_spec && !foreign {
            tools.progress.warn(&format!(
                "{} is not the configuration that the snapshot was made with",
                bundle.join("config.json").display()
            ));
        }
        if let Some(record) = record.as_ref().filter(|_| own) {
            super::cgroups::as_they_were(&mut config, record);
            if !named {
                super::mounts::as_they_were(&mut config, record);
            }
        }
        let (outside, choices) = if foreign {
            (super::foreign::outside(archive, &config)?, super::foreign::choices(archive)?)
        } else {
            let outside = serde_json::from_value(part(OUTSIDE_KEY))
                .map_err(|error| unfit(format!("what it had outside is not understood ({error})")))?;
            let choices = serde_json::from_value(part(CHOICES_KEY))
                .map_err(|error| unfit(format!("how it was made is not understood ({error})")))?;
            (outside, choices)
        };
        let paused = manifest.container.paused;
        Ok(Self {
            bundle,
            spec,
            config,
            native,
            outside,
            choices,
            record,
            paused,
            own,
            made_here,
            criu: manifest.criu.clone(),
            names: manifest.tasks.iter().map(|task| (task.pid.cast_signed(), task.name.clone())).collect(),
        })
    }

    /// Page maps are rewritten where the CRIU of this host counts pages in another field than the one that dumped:
    /// 4.1 reads the maps of 4.2 as empty, without a word.
    pub(crate) fn adapt(&self, scratch: &Scratch, criu: &Criu) -> Result<()> {
        let wanted = layout(criu.version().page_wire());
        // Who wrote images that floe did not write is not known.
        if !self.criu.is_empty() && layout_of(&self.criu) == wanted {
            return Ok(());
        }
        for name in scratch.names()?.into_iter().filter(|name| name.starts_with("pagemap-")) {
            let (pages_id, runs) = pagemap::decode(&scratch.read(&name)?)?;
            scratch.replace(&name, &pagemap::encode(pages_id, &runs, wanted)?)?;
        }
        Ok(())
    }

    /// For each mount from outside, its key and the place on this host that is mounted there.
    pub(crate) fn mounts(&self, cgroup: &dyn Cgroup) -> Result<Vec<(String, PathBuf)>> {
        let place = |mount: &OutsideMount| Ok((mount.key().to_owned(), self.source_of(mount, cgroup)?));
        let mut found = self.outside.mounts.iter().map(place).collect::<Result<Vec<_>>>()?;
        // What masks files has one key for all of them.
        found.sort();
        found.dedup();
        match found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Error::Unfit {
                what: format!(
                    "{} and {} of this host would have to be mounted under one name, {}",
                    pair[0].1.display(),
                    pair[1].1.display(),
                    pair[0].0
                ),
                hint: "give the bundle the mounts of the container that it was made of".to_owned(),
            }),
            None => Ok(found),
        }
    }

    /// The snapshot gives the name only. What is behind it comes from the configuration that the caller accepted.
    fn source_of(&self, mount: &OutsideMount, cgroup: &dyn Cgroup) -> Result<PathBuf> {
        let destination = Path::new(&mount.destination);
        if let MountKind::Cgroup(name) = &mount.kind {
            return cgroup_folder(name, cgroup).ok_or_else(|| Error::Unfit {
                what: format!(
                    "{} was the cgroup hierarchy {name}, which this host does not have",
                    mount.destination
                ),
                hint: "restore it on a host with the same cgroup version".to_owned(),
            });
        }
        let given = self.config.mounts.iter().find(|given| given.destination == destination);
        if let Some((ConfigMount::Bind { .. }, Some(source))) =
            given.map(|given| (&given.kind, &given.source))
        {
            return Ok(source.clone());
        }
        let masked = self.config.masked_paths.iter().any(|path| path == destination);
        if masked {
            return Ok(PathBuf::from("/dev/null"));
        }
        if let Some(device) = self.config.devices.iter().find(|device| device.path == destination) {
            return Ok(device.path.clone());
        }
        // Read-only paths are bound onto themselves, within the root file system.
        if let Some(path) = self.config.readonly_paths.iter().find(|path| *path == destination) {
            return Ok(self.config.rootfs.join(path.strip_prefix("/").unwrap_or(path)));
        }
        Err(Error::Unfit {
            what: format!(
                "something of the host was mounted at {}, which the bundle does not mount",
                mount.destination
            ),
            hint: "add the mount to the bundle's config.json".to_owned(),
        })
    }

    /// Whether a network namespace has to be there before its processes, joined or made.
    pub(crate) fn network_is_outside(&self) -> bool {
        self.outside.namespaces.iter().any(|namespace| namespace.kind == "net")
    }

    /// The namespaces that the container shares with others, opened where the configuration has them now; `network` is
    /// the one that floe has made of the configuration.
    pub(crate) fn namespaces(&self, network: Option<OwnedFd>) -> Result<Vec<(String, OwnedFd)>> {
        let mut found = Vec::new();
        let mut network = network;
        for namespace in &self.outside.namespaces {
            if namespace.kind == "net"
                && let Some(made) = network.take()
            {
                found.push((namespace.key.clone(), made));
                continue;
            }
            let kind = if namespace.kind == "pid" { NamespaceKind::Pid } else { NamespaceKind::Network };
            let path = self.config.namespace(kind).and_then(|given| given.path.clone()).ok_or_else(|| {
                Error::Unfit {
                    what: format!(
                        "it shared its {} namespace, and the bundle names none to join",
                        namespace.kind
                    ),
                    hint: "give the namespace a path in the bundle's config.json".to_owned(),
                }
            })?;
            let file = std::fs::File::open(&path).map_err(|source| Error::call("open", &path, source))?;
            found.push((namespace.key.clone(), OwnedFd::from(file)));
        }
        Ok(found)
    }
}

/// The layout of page maps that this CRIU reads.
pub(super) fn layout_for(criu: &Criu) -> pagemap::Layout {
    layout(criu.version().page_wire())
}

/// The container's folder in the hierarchy `name`, which is named as its mount point is.
fn cgroup_folder(name: &str, cgroup: &dyn Cgroup) -> Option<PathBuf> {
    let known = cgroup.directories();
    let named = |hierarchy: &str| {
        hierarchy == name
            || hierarchy.strip_prefix("name=") == Some(name)
            || (hierarchy.is_empty() && name == "unified")
    };
    known.into_iter().find(|(hierarchy, _)| named(hierarchy)).map(|(_, path)| path)
}
