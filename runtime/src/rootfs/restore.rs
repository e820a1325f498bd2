//! The root of a container that CRIU is to bring back.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::MntFlags;
use nix::unistd::Pid;

use super::beneath::Root;
use super::bind::in_mount_namespace;
use super::detached::Detached;
use crate::config::{Config, MountKind, NamespaceKind, Propagation, SourceLink};
use crate::error::{Error, Result};

/// A mount point of its own for the root file system, as CRIU wants one: it changes root to it and mounts there what
/// the container had. Dropped, it is unmounted; the container keeps its own.
#[derive(Debug)]
pub struct RestoreRoot {
    path: PathBuf,
}

impl RestoreRoot {
    /// Binds the root file system of `config` at the folder `path`, which is made, and makes the mount points in it
    /// that are missing (an image that was unpacked anew lacks those that the runtime made).
    ///
    /// # Errors
    /// [`Error::Call`]; nothing stays mounted then.
    pub fn prepare(config: &Config, path: &Path) -> Result<Self> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::call("mkdir", path.display(), error));
            }
            _ => {}
        }
        let private = Propagation::Private { recursive: true };
        let tree = Detached::copy_of_path(&config.rootfs, true)?;
        tree.propagate(private, path)?;
        tree.attach(Root::open(path)?.as_fd(), path)?;
        let root = Self { path: path.to_owned() };
        // Once more: attaching it to a shared mount has made it a shared one. What happens in it is nobody else's, and
        // its unmounting takes nothing from the host.
        tree.propagate(private, path)?;
        let inside = Root::open(path)?;
        for mount in config.mounts.iter().filter(|mount| !below_another(config, &mount.destination)) {
            match (&mount.kind, &mount.source) {
                // Nothing new is there.
                (MountKind::Remount { .. }, _) => continue,
                (MountKind::Bind { .. }, Some(source))
                    if mount.source_link != SourceLink::Follow && source.is_symlink() =>
                {
                    inside.entry(&mount.destination)?
                }
                (MountKind::Bind { .. }, Some(source)) if source.is_file() => {
                    inside.file(&mount.destination)?
                }
                _ => inside.folder(&mount.destination)?,
            };
        }
        Ok(root)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Gives a restored container what CRIU doesn't bring back of its mounts: a root that is read-only. Called when all of
/// the container's mounts are there and none of its processes runs yet; `init` is the first of them.
///
/// # Errors
/// [`Error::Call`] with what the kernel refused.
pub fn protect_restored(config: &Config, init: Pid) -> Result<()> {
    if !config.readonly || config.namespace(NamespaceKind::Mount).is_none() {
        return Ok(());
    }
    // Only who is in a mount namespace may change its mounts (mount_setattr(2)).
    in_mount_namespace(init, || {
        let root = Path::new("/");
        Detached::of(Root::open(root)?.as_fd())?.make_readonly(false, root)
    })
}

/// Whether `path` lies within another mount, whose content CRIU brings back.
fn below_another(config: &Config, path: &Path) -> bool {
    config.mounts.iter().any(|other| other.destination != path && path.starts_with(&other.destination))
}

impl Drop for RestoreRoot {
    fn drop(&mut self) {
        match nix::mount::umount2(&self.path, MntFlags::MNT_DETACH) {
            // A restore that failed has taken back the whole folder already, this mount included.
            Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
            Err(error) => tracing::warn!("umount {}: {error}", self.path.display()),
        }
        // The container's folder goes with the container; this is only the mount point.
        let _ = std::fs::remove_dir(&self.path);
    }
}
