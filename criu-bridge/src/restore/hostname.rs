//! Another host name than the one that the container had.

use std::fs::File;

use floe_runtime::config::{Config, NamespaceKind};
use nix::sched::CloneFlags;

use crate::apart;
use crate::error::{Error, Result};

/// Longest one that the kernel takes, in bytes (`__NEW_UTS_LEN` of uname(2)).
const LONGEST: usize = 64;

/// Notes it in the configuration.
///
/// # Errors
/// [`Error::Unfit`] where it has none of its own, or the kernel would not take it.
pub(super) fn choose(config: &mut Config, name: &str) -> Result<()> {
    if !config.creates(NamespaceKind::Uts) {
        return Err(Error::Unfit {
            what: "the container has no host name of its own (no new uts namespace)".to_owned(),
            hint: "leave --hostname out".to_owned(),
        });
    }
    if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
        return Err(Error::Unfit {
            what: format!("{name:?} is no host name"),
            hint: format!("give --hostname 1 to {LONGEST} bytes"),
        });
    }
    config.hostname = Some(name.to_owned());
    Ok(())
}

/// Gives it to the container whose first process is `init`, before anything in it can ask for it.
///
/// # Errors
/// [`Error::Call`].
pub(super) fn set(init: i32, name: &str) -> Result<()> {
    let path = format!("/proc/{init}/ns/uts");
    let namespace = File::open(&path).map_err(|source| Error::call("open", &path, source))?;
    apart::inside(&namespace, CloneFlags::CLONE_NEWUTS, &path, || {
        nix::unistd::sethostname(name).map_err(|errno| Error::call("sethostname", name, errno))
    })
}
