//! From an OCI bundle's `config.json` to [`Config`].
//!
//! What the specification allows and this runtime cannot do is refused, with the key that asks for it: a container
//! that runs with less protection than its configuration says would be worse than none.

mod hooks;
mod linux;
mod memory_policy;
mod mount_options;
mod mounts;
mod process;
mod resctrl;
mod resources;
mod scheduling;
mod seccomp;
mod template;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::Config;
use super::source::Source;
use crate::error::{Error, Result};

pub use mount_options::mount_options;
pub use process::from_json as process_from_json;
pub use resources::from_json as resources_from_json;
pub use template::template;

/// Reads the text of the `config.json` at `file`; relative paths in it are relative to `bundle`.
///
/// # Errors
/// [`Error::Json`], [`Error::BadConfig`], [`Error::Unsupported`].
pub fn from_json(text: &[u8], file: &Path, bundle: &Path) -> Result<Config> {
    let source = Source { file };
    let spec: Spec = parse(text, "OCI configuration", "", source)?;
    from_spec(&spec, source, bundle)
}

/// Parses `text`; what has the wrong type is named by its key, below `prefix`.
fn parse<T: DeserializeOwned>(
    text: &[u8],
    what: &'static str,
    prefix: &str,
    source: Source<'_>,
) -> Result<T> {
    let broken = |error| source.broken(what, error);
    let text = &*scheduling::as_oci_spec_spells(text).map_err(broken)?;
    let mut parser = serde_json::Deserializer::from_slice(text);
    match serde_path_to_error::deserialize(&mut parser) {
        Ok(parsed) => {
            parser.end().map_err(broken)?;
            refuse_zero_bytes(text, prefix, source)?;
            Ok(parsed)
        }
        // What is no JSON at all has a line and a column instead.
        Err(found) if is_json(text) && found.path().iter().next().is_some() => {
            Err(source.bad(format!("{prefix}{}", found.path()), found.inner().to_string()))
        }
        Err(found) => Err(broken(found.into_inner())),
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// A zero byte ends a text for the kernel: a path or a name would be another one than is written in the file.
fn refuse_zero_bytes(text: &[u8], prefix: &str, source: Source<'_>) -> Result<()> {
    const ESCAPED: &[u8] = br"\u0000";
    if !text.windows(ESCAPED.len()).any(|part| part == ESCAPED) {
        return Ok(());
    }
    let whole: Value = serde_json::from_slice(text).unwrap_or_default();
    match key_of_zero_byte(&whole) {
        Some(key) => Err(source.bad(format!("{prefix}{key}"), "holds a zero byte")),
        // A backslash in front of it, or in a part that isn't read.
        None => Ok(()),
    }
}

fn key_of_zero_byte(value: &Value) -> Option<String> {
    let below = |own: String, rest: String| match rest.as_str() {
        "" => own,
        rest if rest.starts_with('[') => format!("{own}{rest}"),
        rest => format!("{own}.{rest}"),
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .find_map(|(number, one)| key_of_zero_byte(one).map(|rest| below(format!("[{number}]"), rest))),
        Value::Object(map) => map.iter().find_map(|(name, one)| match name.contains('\0') {
            true => Some(name.escape_default().to_string()),
            false => key_of_zero_byte(one).map(|rest| below(name.clone(), rest)),
        }),
        _ => None,
    }
}

/// Longest host and domain name (`__NEW_UTS_LEN` of `include/uapi/linux/utsname.h`), in bytes.
const NAME_MAX: usize = 64;

/// A host or domain name; an empty one is none.
fn name(given: &Option<String>, key: &str, source: Source<'_>) -> Result<Option<String>> {
    match given.clone().filter(|name| !name.is_empty()) {
        Some(name) if name.len() > NAME_MAX => {
            Err(source
                .bad(key, format!("is longer than {NAME_MAX} bytes, which is all that the kernel keeps")))
        }
        name => Ok(name),
    }
}

/// The root file system, without links.
fn rootfs(given: &Path, source: Source<'_>, bundle: &Path) -> Result<PathBuf> {
    let given = bundle.join(given);
    let found = std::fs::canonicalize(&given).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::at("open root.path", &given)(error),
        _ => Error::Missing { what: "root file system", path: given.clone() },
    })?;
    // A file system that is closed even to root (FUSE without allow_other, NFS that squashes root) may be open to the
    // container's own; the process that becomes it says whether it is.
    let is_folder = match std::fs::metadata(&found) {
        Ok(about) => about.is_dir(),
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    if !is_folder {
        return Err(source.bad("root.path", format!("{} is no directory", found.display())));
    }
    if found == Path::new("/") {
        return Err(source.unsupported(
            "root.path",
            "a container in the host's own root would share all its files; use a folder",
        ));
    }
    Ok(found)
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
    let namespaces = linux::namespaces(&linux, source)?;
    let config = Config {
        rootfs: rootfs(root.path(), source, bundle)?,
        readonly: root.readonly().unwrap_or(false),
        propagation: linux::propagation(&linux, source)?,
        hostname: name(spec.hostname(), "hostname", source)?,
        domainname: name(spec.domainname(), "domainname", source)?,
        uid_mappings: linux::mappings(linux.uid_mappings().as_deref()),
        gid_mappings: linux::mappings(linux.gid_mappings().as_deref()),
        mounts: mounts::convert_all(spec.mounts().as_deref().unwrap_or_default(), source, bundle)?,
        devices: linux::devices(&linux, source)?,
        masked_paths: paths(linux.masked_paths(), "linux.maskedPaths", source)?,
        readonly_paths: paths(linux.readonly_paths(), "linux.readonlyPaths", source)?,
        sysctl: linux::sysctl(&linux, source)?,
        process: process::convert(process, source)?,
        resources: resources::convert(linux.resources().as_ref(), source)?,
        cgroup_path: linux::cgroup_path(&linux, source)?,
        hooks: hooks::convert(spec, source)?,
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
        pivot_dir: None,
        mount_label: linux.mount_label().clone().filter(|label| !label.is_empty()),
        time_offsets: linux::time_offsets(&linux, source)?,
    };
    linux::check(&config, source)?;
    mounts::check(&config, source)?;
    Ok(config)
}

fn paths(list: &Option<Vec<String>>, key: &str, source: Source<'_>) -> Result<Vec<PathBuf>> {
    let convert = |(number, path): (usize, &String)| match path.starts_with('/') {
        true => Ok(PathBuf::from(path)),
        false => Err(source.bad(format!("{key}[{number}]"), "must be absolute")),
    };
    list.iter().flatten().enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests;
