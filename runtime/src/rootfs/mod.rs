//! The container's view of the file system, made in its mount namespace.
//!
//! 1. [`prepare`]: everything is mounted beneath the root while the host's paths still exist. No path of the
//!    configuration is resolved by the kernel's ordinary rules there, but name by name beneath the root, so that a
//!    link in an image leads nowhere else; and each mount is complete before it is attached.
//! 2. [`enter`]: the root becomes `/` (pivot_root(2)) and the host's is let go.
//! 3. [`protect`]: paths are masked and made read-only, the last thing before the program's own rights are set.
//!
//! Linux 5.12 is needed, for mount_setattr(2).

mod beneath;
mod cgroup;
mod copy;
mod detached;
mod devices;
mod mount;
mod pivot;
mod protect;
mod restore;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::mount::MsFlags;

use crate::config::{Config, NamespaceKind, Propagation};
use crate::error::{Error, Result};
use beneath::Root;
use detached::Detached;

pub(crate) use devices::dev_is_bound;
pub(crate) use pivot::enter;
pub(crate) use protect::{hold_proc, protect, set_parameters};
pub use restore::{RestoreRoot, protect_restored};

/// Mounts everything beneath the root.
pub(crate) fn prepare(config: &Config) -> Result<()> {
    if config.creates(NamespaceKind::Mount) {
        let propagation = config.propagation.unwrap_or(Propagation::Slave { recursive: true });
        set_propagation(Path::new("/"), propagation.flags())?;
    }
    detach_from_shared(&config.rootfs)?;
    bind_onto_itself(&config.rootfs)?;
    let root = Root::open(&config.rootfs)?;
    for mount in &config.mounts {
        mount::make(&root, mount, config)?;
    }
    devices::make(&root, config)
}

/// pivot_root(2) wants a mount point.
fn bind_onto_itself(rootfs: &Path) -> Result<()> {
    let place = Root::open(rootfs)?;
    Detached::copy_of(place.as_fd(), true, rootfs)?.attach(place.as_fd(), rootfs)
}

/// Puts `source`, a device for instance, at `path` beneath `/`, where an empty file is made if nothing is.
pub(crate) fn bind_file(source: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let place = Root::open(Path::new("/"))?.file(path)?;
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
