//! From an OCI bundle's `config.json` to [`Config`].
//!
//! What the specification allows and this runtime cannot do is refused, with the key that asks for it: a container
//! that runs with less protection than its configuration says would be worse than none.

mod linux;
mod memory_policy;
mod mounts;
mod process;
mod resctrl;
mod resources;
mod scheduling;
mod seccomp;
mod template;

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;
use serde::de::DeserializeOwned;

use super::{Config, Hook, Hooks};
use crate::error::{Error, Result};

pub use process::from_json as process_from_json;
pub use resources::from_json as resources_from_json;
pub use template::template;

/// Where messages point to: the file, and helpers that name a key in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
}

impl Source<'_> {
    pub(super) fn bad(&self, key: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::BadConfig { path: self.file.to_owned(), key: key.into(), problem: problem.into() }
    }

    pub(super) fn unsupported(&self, key: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Unsupported { path: self.file.to_owned(), key: key.into(), reason: reason.into() }
    }

    /// Refuses `key` if it is there.
    pub(super) fn refuse<T>(&self, value: &Option<T>, key: &str, reason: &str) -> Result<()> {
        if value.is_some() { Err(self.unsupported(key, reason)) } else { Ok(()) }
    }
}

/// Reads the text of the `config.json` at `file`; relative paths in it are relative to `bundle`.
///
/// # Errors
/// [`Error::Json`], [`Error::BadConfig`], [`Error::Unsupported`].
pub fn from_json(text: &[u8], file: &Path, bundle: &Path) -> Result<Config> {
    let spec: Spec = parse(text, file, "OCI configuration", "")?;
    from_spec(&spec, Source { file }, bundle)
}

/// Reads JSON. A value that is not what its key asks for is told by that key, with `prefix` before it.
fn parse<T: DeserializeOwned>(text: &[u8], file: &Path, what: &'static str, prefix: &str) -> Result<T> {
    let broken = |source| Error::Json { path: file.to_owned(), what, source };
    let text = scheduling::as_oci_spec_spells(text).map_err(broken)?;
    let mut json = serde_json::Deserializer::from_slice(&text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let key = error.path().to_string();
        let source = error.into_inner();
        match source.classify() {
            serde_json::error::Category::Data if key != "." => {
                Source { file }.bad(format!("{prefix}{key}"), format!("is not understood: {source}"))
            }
            _ => broken(source),
        }
    })?;
    json.end().map_err(broken)?;
    Ok(value)
}

fn from_spec(spec: &Spec, source: Source<'_>, bundle: &Path) -> Result<Config> {
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| source.bad("root", "is missing; it names the root file system"))?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| source.bad("process", "is missing; it says what is executed"))?;
    let linux = spec.linux().clone().unwrap_or_default();
    let given = bundle.join(root.path());
    let rootfs = std::fs::canonicalize(&given)
        .map_err(|_| Error::Missing { what: "root file system", path: given })?;
    if rootfs == Path::new("/") {
        return Err(source.unsupported(
            "root.path",
            "a container in the host's own root would share all its files; use a folder",
        ));
    }
    let namespaces = linux::namespaces(&linux, source)?;
    let mounts = spec.mounts().iter().flatten().enumerate();
    let config = Config {
        rootfs,
        readonly: root.readonly().unwrap_or(false),
        propagation: linux::propagation(&linux, source)?,
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        uid_mappings: linux::mappings(linux.uid_mappings().as_deref()),
        gid_mappings: linux::mappings(linux.gid_mappings().as_deref()),
        mounts: mounts
            .map(|(number, mount)| mounts::convert(mount, number, source, bundle))
            .collect::<Result<_>>()?,
        devices: linux::devices(&linux, source)?,
        masked_paths: paths(linux.masked_paths()),
        readonly_paths: paths(linux.readonly_paths()),
        sysctl: linux.sysctl().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect(),
        process: process::convert(process, source)?,
        resources: resources::convert(linux.resources().as_ref(), source)?,
        cgroup_path: linux::cgroup_path(&linux, source)?,
        hooks: hooks(spec, source)?,
        annotations: spec
            .annotations()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        namespaces,
        no_pivot: false,
        no_new_keyring: false,
        networks: Vec::new(),
        routes: Vec::new(),
        net_devices: linux::net_devices(&linux, source)?,
        personality: linux::personality(&linux, source)?,
        memory_policy: memory_policy::convert(&linux, source)?,
        intel_rdt: resctrl::convert(&linux, source)?,
        parent_death_signal: None,
        seccomp: linux.seccomp().as_ref().map(|one| seccomp::convert(one, source)).transpose()?,
        systemd_cgroup: false,
    };
    linux::refuse_unsupported(&linux, source)?;
    linux::check(&config, source)?;
    Ok(config)
}

fn paths(list: &Option<Vec<String>>) -> Vec<PathBuf> {
    list.iter().flatten().map(PathBuf::from).collect()
}

fn hooks(spec: &Spec, source: Source<'_>) -> Result<Hooks> {
    let Some(hooks) = spec.hooks() else { return Ok(Hooks::default()) };
    let inside = "hooks inside the container's namespaces are not run yet; use createRuntime or poststart";
    for (list, key) in [
        (hooks.create_container(), "hooks.createContainer"),
        (hooks.start_container(), "hooks.startContainer"),
    ] {
        source.refuse(&list.as_ref().filter(|list| !list.is_empty()), key, inside)?;
    }
    let prestart = convert_hooks(hooks.prestart(), "hooks.prestart", source)?;
    Ok(Hooks {
        prestart,
        create_runtime: convert_hooks(hooks.create_runtime(), "hooks.createRuntime", source)?,
        create_container: Vec::new(),
        start_container: Vec::new(),
        poststart: convert_hooks(hooks.poststart(), "hooks.poststart", source)?,
        poststop: convert_hooks(hooks.poststop(), "hooks.poststop", source)?,
    })
}

fn convert_hooks(
    list: &Option<Vec<oci_spec::runtime::Hook>>,
    key: &str,
    source: Source<'_>,
) -> Result<Vec<Hook>> {
    let convert = |(number, hook): (usize, &oci_spec::runtime::Hook)| {
        if !hook.path().is_absolute() {
            return Err(source.bad(format!("{key}[{number}].path"), "must be absolute"));
        }
        let timeout = match hook.timeout() {
            Some(seconds) if seconds <= 0 => {
                return Err(source.bad(format!("{key}[{number}].timeout"), "must be above 0"));
            }
            Some(seconds) => Some(Duration::from_secs(seconds.unsigned_abs())),
            None => None,
        };
        Ok(Hook {
            path: hook.path().clone(),
            args: hook.args().clone().unwrap_or_default(),
            env: hook.env().clone().unwrap_or_default(),
            timeout,
        })
    };
    list.iter().flatten().enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests;
