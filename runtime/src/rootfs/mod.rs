//! The container's view of the file system, made in its mount namespace.
//!
//! 1. [`prepare`]: everything is mounted beneath the root while the host's paths still exist. No path of the
//!    configuration is resolved by the kernel's ordinary rules there, but name by name beneath the root, so that a
//!    link in an image leads nowhere else; and each mount is complete before it is attached. Sources that only the
//!    host's root can reach, and mapped ids, are made by floe itself ([`Outside`]).
//! 2. [`enter`]: the root becomes `/` (pivot_root(2)) and the host's is let go.
//! 3. [`protect`]: paths are masked and made read-only, the last thing before the program's own rights are set.
//!
//! The [`Root`] of the first step goes through all of them, since it holds what was mounted.
//!
//! Linux 5.12 is needed, for mount_setattr(2).

mod beneath;
mod bind;
mod cgroup;
mod copy;
mod detached;
mod devices;
mod label;
mod modes;
mod mount;
mod pivot;
mod protect;
mod restore;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::mount::MsFlags;

use crate::config::{Config, Hook, Mount, NamespaceKind, Propagation};
use crate::error::{Error, Result};
use crate::hooks;
use detached::Detached;
use modes::ExactModes;

pub(crate) use beneath::Root;
pub(crate) use bind::{Outside, tree_for};
pub(crate) use devices::dev_is_bound;
pub(crate) use label::{change_sources, is_enabled as has_selinux};
pub(crate) use pivot::enter;
pub(crate) use protect::{protect, set_parameters};
pub use restore::{RestoreRoot, protect_restored};

/// Mounts everything beneath the root, and returns that.
pub(crate) fn prepare(config: &Config, outside: &mut dyn Outside) -> Result<Root> {
    if config.creates(NamespaceKind::Mount) {
        let propagation = config.propagation.unwrap_or(Propagation::Slave { recursive: true });
        set_propagation(Path::new("/"), propagation.flags())?;
    }
    detach_from_shared(&config.rootfs)?;
    bind_onto_itself(&config.rootfs)?;
    let mut root = Root::open(&config.rootfs)?;
    for number in 0..config.mounts.len() {
        let key = || format!("mounts[{number}]");
        commands("premount", number, config, |mount| &mount.before)?;
        let exact = ExactModes::begin();
        mount::make(&mut root, number, config, outside).map_err(|error| with_key(error, &key()))?;
        drop(exact);
        commands("postmount", number, config, |mount| &mount.after)?;
    }
    let _exact = ExactModes::begin();
    devices::make(&root, config)?;
    Ok(root)
}

/// Programs of one mount, which are told its destination.
fn commands(
    point: &'static str,
    number: usize,
    config: &Config,
    which: fn(&Mount) -> &Vec<Hook>,
) -> Result<()> {
    config.mounts.get(number).map_or(Ok(()), |mount| {
        hooks::run(point, which(mount), &serde_json::json!({ "destination": mount.destination }))
    })
}

/// With the key of the configuration that asks for what failed.
fn with_key(error: Error, key: &str) -> Error {
    match error {
        Error::Call { call, on, source } => Error::Call { call, on: format!("{on} ({key})"), source },
        Error::Refused { problem, hint } => Error::Refused { problem: format!("{key}: {problem}"), hint },
        other => other,
    }
}

/// pivot_root(2) wants a mount point.
fn bind_onto_itself(rootfs: &Path) -> Result<()> {
    let place = Root::open(rootfs)?;
    Detached::copy_of(place.as_fd(), true, rootfs)?.attach(place.as_fd(), rootfs)
}

/// Puts `source`, a terminal for instance, at `path` beneath the root, where an empty file is made if nothing is. A link
/// there is covered, not followed: it could lead to a file that must be neither covered nor opened as a terminal
/// (CVE-2025-52565).
pub(crate) fn bind_file(root: &Root, source: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let _exact = ExactModes::begin();
    let place = root.entry(path)?;
    Detached::copy_of(source, false, path)?.attach(place.as_fd(), path)
}

/// pivot_root(2) refuses a root whose parent mount propagates to others; with it made private, nothing of what
/// follows is seen outside either.
fn detach_from_shared(rootfs: &Path) -> Result<()> {
    let mut folder = rootfs;
    loop {
        match nix::mount::mount(None::<&str>, folder, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>) {
            Ok(()) => return Ok(()),
            // Not a mount point: its parent is asked.
            Err(nix::errno::Errno::EINVAL) => match folder.parent() {
                Some(parent) => folder = parent,
                None => return Ok(()),
            },
            Err(error) => return Err(Error::call("make private", folder.display(), error)),
        }
    }
}

fn set_propagation(path: &Path, flags: MsFlags) -> Result<()> {
    nix::mount::mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .map_err(Error::at("change propagation of", path))
}
