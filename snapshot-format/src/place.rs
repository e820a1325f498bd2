//! A file that has no name until it is whole.
//!
//! On Linux it has none at all (`O_TMPFILE`, open(2), Linux 3.11): a killed writer leaves nothing behind. Where the
//! file system cannot do that, it has a name of its own beside the place that it is for.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The unfinished file. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Unnamed {
    file: File,
    target: PathBuf,
    folder: PathBuf,
    /// Its own name, where it has one.
    beside: Option<PathBuf>,
}

impl Unnamed {
    /// Makes one that is to become `target`, mode 0600.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if target.file_name().is_none() || target.is_dir() {
            let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::io("create", target, source));
        }
        let nameless = open_nameless(&folder).map_err(|source| Error::io("create", target, source))?;
        let (file, beside) = match nameless {
            Some(file) => (file, None),
            None => {
                let beside = neighbour(target);
                let file = open_new(&beside).map_err(|source| Error::io("create", &beside, source))?;
                (file, Some(beside))
            }
        };
        Ok(Self { file, target: target.to_owned(), folder, beside })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the file its name, replacing what was there, and makes the name last.
    pub(crate) fn publish(mut self) -> Result<PathBuf> {
        let beside = match self.beside.take() {
            Some(beside) => beside,
            None => {
                let beside = neighbour(&self.target);
                link(&self.file, &beside).map_err(|source| Error::io("link", &beside, source))?;
                beside
            }
        };
        if let Err(source) = std::fs::rename(&beside, &self.target) {
            let _ = std::fs::remove_file(&beside);
            return Err(Error::io("rename to", &self.target, source));
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::io("sync", &self.folder, source))?;
        Ok(self.target.clone())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// A hidden name beside `target`, different for each writer.
fn neighbour(target: &Path) -> PathBuf {
    use std::hash::{BuildHasher, Hasher};
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // The standard library's hasher is keyed at random for each of them.
    let salt = std::collections::hash_map::RandomState::new().build_hasher().finish();
    target.with_file_name(format!(".{name}.floe-{:x}-{salt:016x}", std::process::id()))
}

fn open_new(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// `None` where the file system has no nameless files.
#[cfg(target_os = "linux")]
fn open_nameless(folder: &Path) -> std::io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    match rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from(0o600)) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_nameless(_: &Path) -> std::io::Result<Option<File>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(Into::into)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_appears_only_when_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("web.tar.zst");
        std::fs::write(&target, "old").unwrap();
        let unnamed = Unnamed::create(&target).unwrap();
        unnamed.file().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        unnamed.publish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dropped_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let unnamed = Unnamed::create(&dir.path().join("x")).unwrap();
        unnamed.file().write_all(b"half").unwrap();
        drop(unnamed);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
