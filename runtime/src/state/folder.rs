//! A container's folder: files that are replaced as a whole, and a lock that ends with its holder.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Longest file that is read back: records of containers with thousands of mounts are a megabyte.
const SIZE_LIMIT: u64 = 64 << 20;

/// The folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(PathBuf);

/// Held while something is changed.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it; `false` if it is there already.
    pub(crate) fn create(&self) -> Result<bool> {
        match fs::DirBuilder::new().mode(0o700).create(&self.0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::call("mkdir", self.0.display(), error)),
        }
    }

    /// Waits until nobody else changes anything here. `None` if the folder is gone by then.
    pub(crate) fn lock(&self) -> Result<Option<Lock>> {
        loop {
            let file = match File::open(&self.0) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::call("open", self.0.display(), error)),
            };
            let inode = file.metadata().map_err(Error::at("stat", &self.0))?.ino();
            let lock = Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, errno)| Error::call("flock", self.0.display(), errno))?;
            // Another folder may have taken the name while we waited for the old one's lock.
            if fs::metadata(&self.0).is_ok_and(|meta| meta.ino() == inode) {
                return Ok(Some(Lock(lock)));
            }
        }
    }

    /// Replaces `name`: the old content or the new one, never anything between.
    ///
    /// Nothing is synced to a disk: the record of a container is worth something as long as its processes live, and a
    /// crash of the host ends them. What has to outlive a boot is kept elsewhere.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        // One writer at a time holds the lock, so one name is enough; a killed writer's is overwritten.
        let beside = self.0.join(format!(".{name}.new"));
        let written = || -> std::io::Result<()> {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(content)?;
            fs::rename(&beside, &path)
        };
        written().map_err(Error::at("write", &path))
    }

    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.0.join(name);
        let text =
            serde_json::to_vec(value).map_err(|source| Error::Json { path, what: "record", source })?;
        self.write(name, &text)
    }

    /// `None` if it is missing.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.0.join(name);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut content = Vec::new();
            File::open(&path)?.take(SIZE_LIMIT).read_to_end(&mut content)?;
            Ok(content)
        };
        match read() {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::call("read", path.display(), error)),
        }
    }

    pub(crate) fn read_json<T: DeserializeOwned>(&self, name: &str, what: &'static str) -> Result<Option<T>> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        let path = self.0.join(name);
        serde_json::from_slice(&text).map(Some).map_err(|source| Error::Json { path, what, source })
    }

    /// Removes `name`; that it is gone already is no failure.
    pub(crate) fn remove_file(&self, name: &str) -> Result<()> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::call("remove", path.display(), error))
            }
            _ => Ok(()),
        }
    }

    /// Ends the mount that keeps a network namespace alive, if there is one.
    pub(crate) fn release_namespace(&self) -> Result<()> {
        // Not mounted is as good: the mount was another mount namespace's, or floe was killed before it was made.
        let _ = nix::mount::umount2(&self.0.join(HELD_NAMESPACE), nix::mount::MntFlags::MNT_DETACH);
        self.remove_file(HELD_NAMESPACE)
    }

    /// Removes everything. A mount point in it that a killed restore left is unmounted first.
    pub(crate) fn remove(&self) -> Result<()> {
        let mounted = self.0.join(RESTORE_ROOT);
        if mounted.exists() {
            let _ = nix::mount::umount2(&mounted, nix::mount::MntFlags::MNT_DETACH);
            // Not empty: still mounted, and what lies beneath is the container's root file system.
            match fs::remove_dir(&mounted) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::call("remove", mounted.display(), error));
                }
                _ => {}
            }
        }
        let removed = match fs::remove_dir_all(&self.0) {
            // A namespace is held there still, which nobody else unmounts.
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                self.release_namespace()?;
                fs::remove_dir_all(&self.0)
            }
            other => other,
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::call("remove", self.0.display(), error))
            }
            _ => Ok(()),
        }
    }
}

/// Where a network namespace is kept alive that interfaces of the host were moved into.
pub(crate) const HELD_NAMESPACE: &str = "netns";

/// Where the root file system is bound while CRIU restores.
pub(crate) const RESTORE_ROOT: &str = "restore-root";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("web"));
        assert!(folder.create().unwrap());
        assert!(!folder.create().unwrap());
        assert_eq!(folder.read("state.json").unwrap(), None);
        folder.write("state.json", b"one").unwrap();
        folder.write("state.json", b"two").unwrap();
        assert_eq!(folder.read("state.json").unwrap().unwrap(), b"two");
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert!(folder.lock().unwrap().is_none());
    }

    #[test]
    fn a_lock_is_for_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("web"));
        folder.create().unwrap();
        let held = folder.lock().unwrap().unwrap();
        let other = folder.clone();
        let waiter = std::thread::spawn(move || other.lock().unwrap().is_some());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waiter.is_finished());
        drop(held);
        assert!(waiter.join().unwrap());
    }
}
