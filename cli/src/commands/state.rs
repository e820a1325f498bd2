//! `floe state`

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use floe_runtime::{Container, ContainerId, OCI_VERSION, Status, Store};
use nix::unistd::Pid;
use serde::Serialize;

use super::say;
use crate::args::Globals;

/// Arguments of `state`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let store = Store::open(&globals.root)?;
    let container = store.container(&ContainerId::parse(&arguments.id)?)?;
    say(&format!("{}\n", serde_json::to_string_pretty(&Seen::of(&container, store.root()))?))?;
    Ok(ExitCode::SUCCESS)
}

/// A container as `state` and `list` show it: the state of the OCI runtime specification with runc's additions, in
/// runc's order.
#[derive(Debug, Serialize)]
pub struct Seen {
    #[serde(rename = "ociVersion")]
    oci_version: &'static str,
    pub id: String,
    /// 0 when it is stopped.
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// Who made it: the owner of its folder below the state directory.
    pub owner: String,
}

impl Seen {
    pub fn of(container: &Container, root: &Path) -> Self {
        Self {
            oci_version: OCI_VERSION,
            id: container.id().to_string(),
            pid: container.init_pid().map_or(0, Pid::as_raw),
            status: container.status(),
            bundle: container.bundle().to_owned(),
            rootfs: container.rootfs().to_owned(),
            created: container.created().to_owned(),
            annotations: container.config().annotations.clone(),
            owner: owner(&root.join(&*container.id().folder_name())).unwrap_or_default(),
        }
    }
}

/// The name of a folder's owner, or the number where it has none.
fn owner(folder: &Path) -> Option<String> {
    let uid = folder.metadata().ok()?.uid();
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    Some(user.map_or_else(|| format!("#{uid}"), |user| user.name))
}
