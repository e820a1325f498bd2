//! Paths beneath the container's root.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The root of a container that is being made, as seen from outside.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
}

/// Something found beneath a root.
#[derive(Debug)]
pub(crate) struct Found(OwnedFd);

impl Found {
    /// A path by which mount(2) and its like reach exactly this.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(Error::at("open", path))?;
        Ok(Self { fd })
    }

    /// What `path` leads to, links being followed within the root; `None` if it does not exist.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<Found>> {
        match self.lookup(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(Found(fd))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(Error::call("open in the container", path.display(), error)),
        }
    }

    fn lookup(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        // A rename beneath the root while it is looked up makes the kernel ask for another try.
        for _ in 0..100 {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The folder `path`, made with all that is missing above it (mode 0755).
    pub(crate) fn folder(&self, path: &Path) -> Result<Found> {
        let mut at = PathBuf::from("/");
        let mut found = self.must(&at)?;
        for name in parts(path)? {
            at.push(name);
            found = match self.find(&at)? {
                Some(next) => next,
                None => {
                    match mkdirat(&found, name, Mode::from(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(Error::call("mkdir in the container", at.display(), error)),
                    }
                    self.must(&at)?
                }
            };
        }
        Ok(found)
    }

    /// The file `path`, made empty if it is missing, with the folders above it.
    pub(crate) fn file(&self, path: &Path) -> Result<Found> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&parent, name, flags, Mode::from(0o755)) {
            Ok(_) | Err(Errno::EXIST) => self.must(path),
            Err(error) => Err(Error::call("create in the container", path.display(), error)),
        }
    }

    /// The folder that `path` lies in, made if it is missing, and the last part of `path`.
    pub(crate) fn parent<'a>(&self, path: &'a Path) -> Result<(Found, &'a OsStr)> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::call("create in the container", path.display(), Errno::INVAL))?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    fn must(&self, path: &Path) -> Result<Found> {
        self.lookup(path, OFlags::PATH).map(Found).map_err(Error::at("open in the container", path))
    }
}

/// The names in an absolute path.
fn parts(path: &Path) -> Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::call(
                    "use a path with `..` in the container",
                    path.display(),
                    Errno::INVAL,
                ));
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_an_image_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/outside", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("../../..", dir.path().join("up")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.folder(Path::new("/outside/deep")).unwrap();
        root.file(Path::new("/link/file")).unwrap();
        assert!(dir.path().join("outside/file").is_file());
        root.folder(Path::new("/up/inside")).unwrap();
        assert!(dir.path().join("inside").is_dir());
        assert!(root.folder(Path::new("/a/../../b")).is_err());
        assert!(root.find(Path::new("/nothing")).unwrap().is_none());
    }
}
