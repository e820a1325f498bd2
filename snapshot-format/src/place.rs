//! A file that has no name until it is whole.
//!
//! On Linux it has none at all (`O_TMPFILE`, open(2), Linux 3.11): a killed writer leaves nothing behind. Where the
//! file system cannot do that, it has a name of its own beside the place that it is for. A file that is there already
//! can only be replaced by rename(2), for which the new one needs such a name for a moment.

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
        let target = resolve(target).map_err(|source| Error::io("create", target, source))?;
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let nameless = open_nameless(&folder).map_err(|source| Error::io("create", &target, source))?;
        let (file, beside) = match nameless {
            Some(file) => (file, None),
            None => {
                let beside = neighbour(&target);
                let file = open_new(&beside).map_err(|source| Error::io("create", &beside, source))?;
                (file, Some(beside))
            }
        };
        Ok(Self { file, target, folder, beside })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the file its name, replacing what was there, and makes the name last.
    pub(crate) fn publish(mut self) -> Result<PathBuf> {
        let named = match &self.beside {
            Some(_) => false,
            None => self.link_once()?,
        };
        if !named {
            let beside = self.beside.get_or_insert_with(|| neighbour(&self.target));
            // Should this fail, the name beside is taken away when `self` is dropped.
            std::fs::rename(beside, &self.target)
                .map_err(|source| Error::io("rename to", &self.target, source))?;
            self.beside = None;
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::io("sync", &self.folder, source))?;
        Ok(self.target.clone())
    }

    /// Gives the nameless file its name, if nothing has it yet; else one beside, and `false`.
    fn link_once(&mut self) -> Result<bool> {
        match link(&self.file, &self.target) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                let beside = neighbour(&self.target);
                link(&self.file, &beside).map_err(|source| Error::io("link", &beside, source))?;
                self.beside = Some(beside);
                Ok(false)
            }
            Err(source) => Err(Error::io("link", &self.target, source)),
        }
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// What a file of this name would replace: at the end of links, and nothing but a regular file. A device or a pipe
/// is never replaced, as rename(2) would.
fn resolve(target: &Path) -> std::io::Result<PathBuf> {
    use std::io::{Error, ErrorKind};
    if target.file_name().is_none() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let found = match std::fs::symlink_metadata(target) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(target.to_owned()),
        Err(error) => return Err(error),
    };
    let end = if found.is_symlink() { std::fs::canonicalize(target)? } else { target.to_owned() };
    match std::fs::symlink_metadata(&end)?.file_type() {
        kind if kind.is_file() => Ok(end),
        kind if kind.is_dir() => Err(ErrorKind::IsADirectory.into()),
        _ => Err(Error::new(ErrorKind::AlreadyExists, "it is no regular file, and is not replaced")),
    }
}

/// A hidden name beside `target`, different for each writer.
fn neighbour(target: &Path) -> PathBuf {
    use std::hash::{BuildHasher, Hasher};
    // With what is added it stays within the 255 bytes of a file name, however long the target's is.
    let name: String = target.file_name().unwrap_or_default().to_string_lossy().chars().take(48).collect();
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
    use rustix::io::Errno;
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        // Without /proc; needs CAP_DAC_READ_SEARCH.
        Err(Errno::NOENT) => rustix::fs::linkat(file, "", CWD, path, AtFlags::EMPTY_PATH).map_err(Into::into),
        done => done.map_err(Into::into),
    }
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
    fn a_name_as_long_as_names_can_be_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("é".repeat(127));
        for content in ["first", "second"] {
            let unnamed = Unnamed::create(&target).unwrap();
            unnamed.file().write_all(content.as_bytes()).unwrap();
            unnamed.publish().unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link_and_what_is_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        Unnamed::create(&link).unwrap().publish().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());

        let socket = dir.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let aside = dir.path().join("aside");
        std::os::unix::fs::symlink(&socket, &aside).unwrap();
        for refused in [&socket, &aside, &dir.path().to_owned()] {
            assert!(matches!(Unnamed::create(refused), Err(Error::Io { call: "create", .. })), "{refused:?}");
        }
    }

    #[test]
    fn where_files_need_names_it_has_one_beside() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("web.tar.zst");
        let named = |published: bool| {
            let beside = neighbour(&target);
            let file = open_new(&beside).unwrap();
            let folder = dir.path().to_owned();
            let unnamed = Unnamed { file, target: target.clone(), folder, beside: Some(beside) };
            match published {
                true => drop(unnamed.publish().unwrap()),
                false => drop(unnamed),
            }
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
        };
        assert!(named(false).is_empty());
        assert_eq!(named(true), ["web.tar.zst"]);
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
