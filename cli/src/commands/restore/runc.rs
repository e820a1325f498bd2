//! What runc's `restore` may be told. What was allowed at the checkpoint floe's snapshots say themselves.

use clap::Args;
use floe_criu_bridge::restore::RuncForm;

use super::place::Place;
use crate::commands::checkpoint::runc::Told;

/// What may be told.
#[derive(Debug, Args)]
pub struct Runc {
    /// Bring TCP connections back.
    #[arg(long)]
    tcp_established: bool,
    /// Bring file locks back.
    #[arg(long)]
    file_locks: bool,
    /// Connect UNIX sockets whose other side was outside to whoever has that name now.
    #[arg(long)]
    ext_unix_sk: bool,
    /// The session or terminal belongs to a process outside.
    #[arg(long)]
    shell_job: bool,
    /// The label of a security module that its processes get: apparmor:NAME or selinux:LABEL.
    #[arg(long, value_name = "TYPE:NAME", value_parser = profile)]
    lsm_profile: Option<String>,
    /// The SELinux context that its mounts get.
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    #[command(flatten)]
    told: Told,
    /// Accepted for compatibility: CRIU changes the root by pivot_root(2) only.
    #[arg(long, hide = true)]
    no_pivot: bool,
    /// Accepted for compatibility: floe unpacks images before CRIU reads them, and only its own copy is used up.
    #[arg(long, hide = true)]
    auto_dedup: bool,
}

fn profile(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("apparmor" | "selinux", name)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("it is apparmor:NAME or selinux:LABEL".to_owned()),
    }
}

impl Runc {
    /// As the restore takes it.
    pub fn form(&self, place: &Place) -> RuncForm {
        RuncForm {
            extra: self.told.extra(place.work()),
            runs: place.typed().is_runcs(),
            tcp_established: self.tcp_established,
            file_locks: self.file_locks,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            lsm_profile: self.lsm_profile.clone(),
            lsm_mount_context: self.lsm_mount_context.clone(),
        }
    }
}
