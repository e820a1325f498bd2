//! From a native configuration, the JSON of libcontainer's `configs.Config`, to [`Config`].
//!
//! The names are those of 2016 and 2017 (runc 0.1 to 1.0-rc4), when that structure had the fields of the reference, and
//! those that were added or respelled later where they mean the same. As Go reads JSON, so is it read here: the case of
//! a key does not matter, and `null` is the same as a key that isn't there. Unlike there, a key that nobody knows is
//! refused: it may have been meant to protect something.
//!
//! What both forms can say is put into OCI's words and converted as a bundle is, so that one place decides what is
//! right; a refusal then names the native key. What only the native form can say is set on the model afterwards.

mod cgroups;
mod keys;
mod mounts;
mod process;
mod seccomp;
mod user;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::network::{self, FieldError, Network, NetworkJson, Route, RouteJson};
use super::{Config, Hook, oci};
use crate::config::source::Source;
use crate::error::Result;

pub use process::ProcessArguments;

/// What messages call it.
const WHAT: &str = "native configuration";

/// A configuration file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Native {
    no_pivot_root: bool,
    parent_death_signal: i32,
    pivot_dir: PathBuf,
    rootfs: PathBuf,
    readonlyfs: bool,
    rootpropagation: i64,
    mounts: Vec<mounts::Mount>,
    devices: Vec<cgroups::Device>,
    mount_label: String,
    hostname: String,
    domainname: String,
    namespaces: Vec<Namespace>,
    capabilities: Option<process::Capabilities>,
    networks: Vec<NetworkJson>,
    routes: Vec<RouteJson>,
    cgroups: cgroups::Cgroup,
    apparmor_profile: String,
    process_label: String,
    rlimits: Vec<process::Rlimit>,
    oom_score_adj: Option<i64>,
    umask: Option<u32>,
    additional_groups: Vec<String>,
    #[serde(alias = "uidmappings")]
    uid_mappings: Vec<IdMap>,
    #[serde(alias = "gidmappings")]
    gid_mappings: Vec<IdMap>,
    mask_paths: Vec<String>,
    readonly_paths: Vec<String>,
    sysctl: BTreeMap<String, String>,
    seccomp: Option<seccomp::Seccomp>,
    no_new_privileges: bool,
    hooks: Hooks,
    version: String,
    labels: Vec<String>,
    no_new_keyring: bool,
    /// That the caller is an ordinary user, which shows by itself.
    #[serde(alias = "rootless_euid", alias = "rootless_cgroups")]
    rootless: bool,
    /// Beyond libcontainer: what is executed, as OCI's `process`.
    process: Option<Value>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    r#type: String,
    #[serde(default)]
    path: String,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct IdMap {
    #[serde(alias = "containerid")]
    container_id: u32,
    #[serde(alias = "hostid")]
    host_id: u32,
    size: u32,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Hooks {
    prestart: Vec<Command>,
    createruntime: Vec<Command>,
    createcontainer: Vec<Command>,
    startcontainer: Vec<Command>,
    poststart: Vec<Command>,
    poststop: Vec<Command>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// A program, with a time limit in nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Command {
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    dir: PathBuf,
    timeout: Option<i64>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Reads the text of the configuration at `file`; relative paths in it are relative to its folder. What is executed comes
/// from `process`, and what that leaves open from the file.
///
/// Returns the configuration in OCI's words too, as far as those reach: for those who read what a container was made of.
///
/// # Errors
/// [`Error::Json`](crate::Error::Json), [`Error::BadConfig`](crate::Error::BadConfig) and
/// [`Error::Unsupported`](crate::Error::Unsupported), each with the key as it is written in the file.
pub fn from_json(text: &[u8], file: &Path, process: &ProcessArguments) -> Result<(Vec<u8>, Config)> {
    let native = parse(text, file)?;
    let source = Source { file };
    native.refuse_unknown(source)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let spec = native.in_oci_words(process, folder, source)?;
    let text = serde_json::to_vec_pretty(&spec).map_err(|error| source.broken(WHAT, error))?;
    let mut config = oci::from_json(&text, file, folder).map_err(keys::in_native_words)?;
    native.set_the_rest(&mut config, source)?;
    Ok((text, config))
}

/// Whether a text is a native configuration and not an OCI one, which always has `ociVersion`.
#[must_use]
pub fn is_native(text: &[u8]) -> bool {
    serde_json::from_slice::<Map<String, Value>>(text).is_ok_and(|map| {
        !map.contains_key("ociVersion") && map.keys().any(|key| key.eq_ignore_ascii_case("rootfs"))
    })
}

fn parse(text: &[u8], file: &Path) -> Result<Native> {
    let source = Source { file };
    let value: Value = serde_json::from_slice(text).map_err(|error| source.broken(WHAT, error))?;
    serde_path_to_error::deserialize(keys::normal(value)).map_err(|error| {
        let key = error.path().to_string();
        source.bad(key, error.into_inner().to_string())
    })
}

impl Native {
    fn refuse_unknown(&self, source: Source<'_>) -> Result<()> {
        source.none_unknown("", &self.unknown)?;
        source.none_unknown_of("namespaces", self.namespaces.iter().map(|entry| &entry.unknown))?;
        source.none_unknown_of("uid_mappings", self.uid_mappings.iter().map(|entry| &entry.unknown))?;
        source.none_unknown_of("gid_mappings", self.gid_mappings.iter().map(|entry| &entry.unknown))?;
        source.none_unknown_of("mounts", self.mounts.iter().map(|entry| &entry.unknown))?;
        source.none_unknown_of("devices", self.devices.iter().map(|entry| &entry.unknown))?;
        source.none_unknown_of("rlimits", self.rlimits.iter().map(|entry| &entry.unknown))?;
        source.none_unknown("Hooks", &self.hooks.unknown)?;
        for (point, hooks) in self.hooks.points() {
            source.none_unknown_of(&format!("Hooks.{point}"), hooks.iter().map(|hook| &hook.unknown))?;
        }
        self.cgroups.refuse_unknown(source)?;
        self.seccomp.as_ref().map_or(Ok(()), |seccomp| seccomp.refuse_unknown(source))
    }

    fn in_oci_words(&self, process: &ProcessArguments, folder: &Path, source: Source<'_>) -> Result<Value> {
        if self.rootfs.as_os_str().is_empty() {
            return Err(source.bad("rootfs", "is missing; it names the root file system"));
        }
        let ids = |maps: &[IdMap]| -> Vec<Value> {
            maps.iter()
                .map(
                    |map| json!({ "containerID": map.container_id, "hostID": map.host_id, "size": map.size }),
                )
                .collect()
        };
        let mut linux = json!({
            "namespaces": self.namespaces(source)?,
            "uidMappings": ids(&self.uid_mappings),
            "gidMappings": ids(&self.gid_mappings),
            "devices": cgroups::nodes(&self.devices, source)?,
            "maskedPaths": self.mask_paths,
            "readonlyPaths": self.readonly_paths,
            "sysctl": self.sysctl,
            "resources": self.cgroups.resources(source)?,
        });
        if let Some(path) = self.cgroups.path(source)? {
            linux["cgroupsPath"] = json!(path);
        }
        if self.rootpropagation != 0 {
            linux["rootfsPropagation"] =
                json!(mounts::propagation(self.rootpropagation).ok_or_else(|| {
                    source.bad(
                        "rootPropagation",
                        format!("{:#x} is no propagation of mount(2)", self.rootpropagation),
                    )
                })?);
        }
        if !self.mount_label.is_empty() {
            linux["mountLabel"] = json!(self.mount_label);
        }
        if let Some(seccomp) = &self.seccomp {
            linux["seccomp"] = seccomp.in_oci_words(source)?;
        }
        Ok(json!({
            "ociVersion": crate::container::OCI_VERSION,
            "root": { "path": self.rootfs, "readonly": self.readonlyfs },
            "hostname": self.hostname,
            "domainname": self.domainname,
            "mounts": mounts::in_oci_words(&self.mounts, source)?,
            "process": self.process(process, &folder.join(&self.rootfs), source)?,
            "annotations": self.annotations(source)?,
            "hooks": self.hooks.in_oci_words(),
            "linux": linux,
        }))
    }

    fn namespaces(&self, source: Source<'_>) -> Result<Vec<Value>> {
        let convert = |(number, namespace): (usize, &Namespace)| {
            let name = match namespace.r#type.as_str() {
                "NEWNET" => "network",
                "NEWPID" => "pid",
                "NEWNS" => "mount",
                "NEWUTS" => "uts",
                "NEWIPC" => "ipc",
                "NEWUSER" => "user",
                "NEWCGROUP" => "cgroup",
                "NEWTIME" => "time",
                other => {
                    let problem = format!("{other:?} is no kind of namespace; they are written as NEWPID");
                    return Err(source.bad(format!("namespaces[{number}].type"), problem));
                }
            };
            let mut value = json!({ "type": name });
            if !namespace.path.is_empty() {
                value["path"] = json!(namespace.path);
            }
            Ok(value)
        };
        self.namespaces.iter().enumerate().map(convert).collect()
    }

    /// `NAME=VALUE` each, as libcontainer kept annotations.
    fn annotations(&self, source: Source<'_>) -> Result<BTreeMap<&str, &str>> {
        let split = |(number, label): (usize, &'_ String)| match label.split_once('=') {
            Some((name, _)) if !name.is_empty() => Ok(number),
            _ => Err(source.bad(format!("labels[{number}]"), "is not of the form NAME=VALUE")),
        };
        self.labels.iter().enumerate().try_for_each(|entry| split(entry).map(drop))?;
        Ok(self.labels.iter().filter_map(|label| label.split_once('=')).collect())
    }

    fn set_networks(&self, config: &mut Config) -> Result<(), FieldError> {
        for (number, network) in self.networks.iter().enumerate() {
            let network = Network::try_from(network.clone());
            config.networks.push(network.map_err(|error| error.below(format!("networks[{number}]")))?);
        }
        for (number, route) in self.routes.iter().enumerate() {
            let route = Route::try_from(route.clone());
            config.routes.push(route.map_err(|error| error.below(format!("routes[{number}]")))?);
        }
        network::check(config)
    }

    /// What OCI has no words for.
    fn set_the_rest(&self, config: &mut Config, source: Source<'_>) -> Result<()> {
        config.no_pivot = self.no_pivot_root;
        config.no_new_keyring = self.no_new_keyring;
        config.systemd_cgroup = self.cgroups.systemd;
        let _ = (self.rootless, &self.version);
        self.hooks.set_time_limits(config, source)?;
        self.set_networks(config).map_err(|error| source.bad(error.key, error.problem))?;
        mounts::set_the_rest(&self.mounts, config, source)?;
        config.parent_death_signal = match self.parent_death_signal {
            0 => None,
            signal @ 1..=64 => Some(signal),
            _ => {
                return Err(
                    source.bad("parent_death_signal", "must be 0 (none) or a signal's number, 1 to 64")
                );
            }
        };
        if self.pivot_dir.components().any(|part| part == Component::ParentDir) {
            return Err(source.bad("pivot_dir", "holds `..`; say where it is in the container"));
        }
        config.pivot_dir = Some(self.pivot_dir.clone()).filter(|folder| !folder.as_os_str().is_empty());
        Ok(())
    }
}

impl Hooks {
    fn points(&self) -> [(&'static str, &Vec<Command>); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.createruntime),
            ("createContainer", &self.createcontainer),
            ("startContainer", &self.startcontainer),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }

    fn in_oci_words(&self) -> Value {
        let hook =
            |command: &Command| json!({ "path": command.path, "args": command.args, "env": command.env });
        self.points()
            .into_iter()
            .map(|(point, hooks)| (point.to_owned(), hooks.iter().map(hook).collect::<Value>()))
            .collect::<Map<_, _>>()
            .into()
    }

    /// To the nanosecond, where OCI knows seconds; and the folder, which OCI does not know.
    fn set_time_limits(&self, config: &mut Config, source: Source<'_>) -> Result<()> {
        let hooks = &mut config.hooks;
        let made = [
            &mut hooks.prestart,
            &mut hooks.create_runtime,
            &mut hooks.create_container,
            &mut hooks.start_container,
            &mut hooks.poststart,
            &mut hooks.poststop,
        ];
        for ((point, written), made) in self.points().into_iter().zip(made) {
            for (number, (command, hook)) in written.iter().zip(made).enumerate() {
                let key = format!("Hooks.{point}[{number}]");
                hook.timeout = command.time_limit(&key, source)?;
                hook.dir = command.folder(&key, source)?;
            }
        }
        Ok(())
    }
}

impl Command {
    fn time_limit(&self, key: &str, source: Source<'_>) -> Result<Option<Duration>> {
        match self.timeout {
            None => Ok(None),
            Some(nanoseconds @ 1..) => Ok(Some(Duration::from_nanos(nanoseconds.unsigned_abs()))),
            Some(_) => Err(source.bad(format!("{key}.timeout"), "must be above 0 (nanoseconds)")),
        }
    }

    fn folder(&self, key: &str, source: Source<'_>) -> Result<Option<PathBuf>> {
        let folder = Some(self.dir.clone()).filter(|folder| !folder.as_os_str().is_empty());
        match folder.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            true => Err(source.bad(format!("{key}.dir"), "must be absolute")),
            false => Ok(folder),
        }
    }

    /// One that runs before or after a mount. Unlike a hook's, its arguments begin behind the program's name.
    fn of_mount(&self, key: &str, source: Source<'_>) -> Result<Hook> {
        source.none_unknown(key, &self.unknown)?;
        if !self.path.is_absolute() {
            return Err(source.bad(format!("{key}.path"), "must be absolute"));
        }
        let name = self.path.to_string_lossy().into_owned();
        Ok(Hook {
            path: self.path.clone(),
            args: std::iter::once(name).chain(self.args.iter().cloned()).collect(),
            env: self.env.clone(),
            dir: self.folder(key, source)?,
            timeout: self.time_limit(key, source)?,
        })
    }
}

#[cfg(test)]
mod tests;
