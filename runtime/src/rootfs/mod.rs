//! The container's view of the file system, made in its mount namespace.
//!
//! 1. [`prepare`]: everything is mounted beneath the root while the host's paths still exist. No path of the
//!    configuration is resolved by the kernel's ordinary rules there: each is looked up beneath the root
//!    (openat2(2), RESOLVE_IN_ROOT, Linux 5.6), so that a link in an image leads nowhere else.
//! 2. [`enter`]: the root becomes `/` (pivot_root(2)) and the host's is let go.
//! 3. [`protect`]: paths are masked and made read-only, the last thing before the program's own rights are set.

mod beneath;
mod cgroup;
mod devices;
mod mount;
mod protect;
mod restore;

use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use crate::config::{Config, NamespaceKind, Propagation};
use crate::error::{Error, Result};
use beneath::Root;

pub(crate) use protect::{protect, set_parameters};
pub use restore::RestoreRoot;

/// Mounts everything beneath the root.
pub(crate) fn prepare(config: &Config) -> Result<()> {
    let own = config.creates(NamespaceKind::Mount);
    if own {
        let propagation = config.propagation.unwrap_or(Propagation::Slave { recursive: true });
        set_propagation(Path::new("/"), propagation.flags())?;
        detach_from_shared(&config.rootfs)?;
    }
    bind(&config.rootfs, &config.rootfs, true)?;
    let root = Root::open(&config.rootfs)?;
    for mount in &config.mounts {
        mount::make(&root, mount, config)?;
    }
    devices::make(&root, config)
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

pub(super) fn set_propagation(path: &Path, flags: MsFlags) -> Result<()> {
    nix::mount::mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .map_err(Error::at("change propagation of", path))
}

pub(super) fn bind(source: &Path, target: &Path, recursive: bool) -> Result<()> {
    let flags = if recursive { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
    nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(Error::at("bind", source))
}

/// Makes the root `/`, and lets the host's go.
pub(crate) fn enter(config: &Config) -> Result<()> {
    let rootfs = &config.rootfs;
    nix::unistd::chdir(rootfs).map_err(Error::at("chdir", rootfs))?;
    if config.no_pivot {
        nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(Error::at("move", rootfs))?;
        nix::unistd::chroot(".").map_err(Error::at("chroot", rootfs))?;
    } else {
        // Onto itself: the old root ends up above the new one, and needs no folder to be put in (pivot_root(2)).
        nix::unistd::pivot_root(".", ".").map_err(Error::at("pivot_root", rootfs))?;
        // What is unmounted now must not be unmounted on the host.
        set_propagation(Path::new("."), MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
        nix::mount::umount2(".", MntFlags::MNT_DETACH).map_err(Error::at("umount", "the host's root"))?;
    }
    nix::unistd::chdir("/").map_err(Error::at("chdir", "/"))?;
    Ok(())
}
