//! Paths beneath the container's root.
//!
//! A path of the configuration goes through directories that belong to an image or, in a shared volume, to somebody
//! else's running container. It must not lead out of the root, whatever links stand there and whoever exchanges a
//! directory for a link meanwhile. So it is walked name by name: each is opened in the directory before it without
//! following (`O_NOFOLLOW`), and links are followed here, on a stack of the directories that are held open. `..` goes
//! down that stack and never below the root. What is found is a descriptor, and it is used as one.
//!
//! A folder on which something is mounted can still be renamed, from a mount namespace in which nothing is mounted
//! there. So the way into the file systems at the top whose content matters (`/proc`, `/sys`, `/dev`) does not go by
//! name: [`Root::keep`] holds what was mounted, and it is that which the walk enters.
//!
//! Why this and not `openat2(2)` with `RESOLVE_IN_ROOT`: `docs/decisions/0007-paths-beneath-the-root.md`.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, fstat, mkdirat, openat, readlinkat, statx};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Most links in one path; the kernel's own limit (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;

/// The root of a container.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    /// What is mounted on folders of the root, by their names.
    kept: Vec<(OsString, OwnedFd)>,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Something found beneath a root: an `O_PATH` descriptor.
#[derive(Debug)]
pub(crate) struct Found {
    fd: OwnedFd,
    /// Where it is as seen from the root: absolute, without links.
    pub(crate) path: PathBuf,
    /// What it is; a link only from [`Root::entry`].
    pub(crate) kind: FileType,
    /// Whether it was made by this call.
    pub(crate) new: bool,
}

impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What to make where a path ends in nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Nothing,
    Folder,
    File,
}

impl Root {
    /// Opens the directory at `path`, with ordinary lookup.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(Error::at("open", path))?;
        Ok(Self { fd, kept: Vec::new() })
    }

    /// The directory that `fd` is a descriptor of.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let fd = fd.try_clone_to_owned().map_err(Error::at("duplicate", "a directory's descriptor"))?;
        Ok(Self { fd, kept: Vec::new() })
    }

    /// From now on the folder `name` of the root is `mount`, which was mounted there, whatever is found by its name.
    pub(crate) fn keep(&mut self, name: &OsStr, mount: BorrowedFd<'_>) -> Result<()> {
        let fd = mount.try_clone_to_owned().map_err(Error::at("duplicate", "a mount's descriptor"))?;
        self.kept.retain(|(other, _)| other != name);
        self.kept.push((name.to_owned(), fd));
        Ok(())
    }

    /// The same root for one who has changed into it.
    pub(crate) fn entered(self) -> Result<Self> {
        Ok(Self { kept: self.kept, ..Self::open(Path::new("/"))? })
    }

    /// Whether every folder that is kept is still found by its name.
    ///
    /// # Errors
    /// [`Error::Child`]: somebody has put it elsewhere meanwhile, and what a program sees by that name is not what was
    /// mounted, masked and made read-only.
    pub(crate) fn check_kept(&self) -> Result<()> {
        for (name, fd) in &self.kept {
            let shown = Path::new("/").join(name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = openat(&self.fd, name, flags, Mode::empty()).map_err(Error::at("open", &shown))?;
            if mount_id(&found, &shown)? != mount_id(fd, &shown)? {
                return Err(Error::start(format!(
                    "{} was moved elsewhere by somebody while the container was made",
                    shown.display()
                )));
            }
        }
        Ok(())
    }

    /// What `path` leads to, links being followed within the root; `None` if it does not exist.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<Found>> {
        match self.walk(path, Make::Nothing) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(Error::call("open in the container", path.display(), error)),
        }
    }

    /// The folder `path`, made with all that is missing above it (mode 0755).
    pub(crate) fn folder(&self, path: &Path) -> Result<Found> {
        let found =
            self.walk(path, Make::Folder).map_err(Error::at("make the folder in the container", path))?;
        match found.kind {
            FileType::Directory => Ok(found),
            _ => Err(Error::call("make the folder in the container", path.display(), Errno::NOTDIR)),
        }
    }

    /// What is at `path` and is no folder; an empty file is made if nothing is, with the folders above it.
    pub(crate) fn file(&self, path: &Path) -> Result<Found> {
        let found = self.walk(path, Make::File).map_err(Error::at("make the file in the container", path))?;
        match found.kind {
            FileType::Directory => {
                Err(Error::call("make the file in the container", path.display(), Errno::ISDIR))
            }
            _ => Ok(found),
        }
    }

    /// The folder that `path` lies in, made if it is missing, and the last name of `path`.
    pub(crate) fn parent<'a>(&self, path: &'a Path) -> Result<(Found, &'a OsStr)> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::call("create in the container", path.display(), Errno::INVAL))?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    /// What is at `path` itself, be it a link: the last name is not followed. An empty file is made if nothing is.
    pub(crate) fn entry(&self, path: &Path) -> Result<Found> {
        let failed = |error| Error::call("make the file in the container", path.display(), error);
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut new = false;
        let fd = match openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                new = match openat(&parent, name, create, Mode::from(0o644)) {
                    Ok(_) => true,
                    Err(Errno::EXIST) => false,
                    Err(error) => return Err(failed(error)),
                };
                openat(&parent, name, flags, Mode::empty())
            }
            other => other,
        };
        let fd = fd.map_err(failed)?;
        let kind = FileType::from_raw_mode(fstat(&fd).map_err(failed)?.st_mode);
        Ok(Found { fd, path: parent.path.join(name), kind, new })
    }

    fn walk(&self, path: &Path, make: Make) -> Result<Found, Errno> {
        let mut walk = Walk { root: self, stack: Vec::new(), todo: VecDeque::new(), links: 0, new: false };
        walk.put_in_front(path);
        while let Some(name) = walk.todo.pop_front() {
            if name == ".." {
                walk.stack.pop();
            } else if let Some(end) = walk.step(&name, make)? {
                return Ok(end);
            }
        }
        walk.directory()
    }
}

/// A walk that is under way.
struct Walk<'a> {
    root: &'a Root,
    /// The directories from below the root to where it is.
    stack: Vec<(OwnedFd, OsString)>,
    /// The names that are still to go; `..` among them.
    todo: VecDeque<OsString>,
    links: u32,
    new: bool,
}

impl Walk<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root.fd.as_fd(), |(fd, _)| fd.as_fd())
    }

    fn path(&self) -> PathBuf {
        let root = PathBuf::from("/");
        self.stack.iter().fold(root, |path, (_, name)| path.join(name))
    }

    /// The walk ended in a directory.
    fn directory(&mut self) -> Result<Found, Errno> {
        let path = self.path();
        let fd = match self.stack.pop() {
            Some((fd, _)) => fd,
            None => rustix::io::fcntl_dupfd_cloexec(&self.root.fd, 3)?,
        };
        Ok(Found { fd, path, kind: FileType::Directory, new: self.new })
    }

    /// Takes one name; returns what the walk ends at, if that is no directory.
    fn step(&mut self, name: &OsStr, make: Make) -> Result<Option<Found>, Errno> {
        let fd = self.open(name, make)?;
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Directory => {
                self.stack.push((fd, name.to_owned()));
                Ok(None)
            }
            FileType::Symlink => {
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = PathBuf::from(OsString::from_vec(readlinkat(&fd, "", Vec::new())?.into_bytes()));
                self.put_in_front(&target);
                Ok(None)
            }
            kind if self.todo.is_empty() => {
                Ok(Some(Found { fd, path: self.path().join(name), kind, new: self.new }))
            }
            _ => Err(Errno::NOTDIR),
        }
    }

    fn open(&mut self, name: &OsStr, make: Make) -> Result<OwnedFd, Errno> {
        if self.stack.is_empty()
            && let Some((_, kept)) = self.root.kept.iter().find(|(other, _)| other == name)
        {
            return rustix::io::fcntl_dupfd_cloexec(kept, 3);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(self.here(), name, flags, Mode::empty()) {
            Err(Errno::NOENT) if make != Make::Nothing => {}
            other => return other,
        }
        let made = match (make, self.todo.is_empty()) {
            (Make::File, true) => {
                let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(self.here(), name, create, Mode::from(0o644)).map(drop)
            }
            _ => mkdirat(self.here(), name, Mode::from(0o755)),
        };
        match made {
            // It came into being meanwhile: what it is, the next look tells.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        self.new = made.is_ok() && self.todo.is_empty();
        openat(self.here(), name, flags, Mode::empty())
    }

    /// What comes next is `path`, before what was still to go.
    fn put_in_front(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.todo.push_front(name.to_owned()),
                Component::ParentDir => self.todo.push_front("..".into()),
                Component::RootDir => self.stack.clear(),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }
}

/// The number of the mount that `fd` lies in. `statx(2)`, Linux 5.8.
fn mount_id(fd: &OwnedFd, name: &Path) -> Result<u64> {
    statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map(|about| about.stx_mnt_id)
        .map_err(Error::at("statx", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_in_an_image_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/outside", dir.path().join("link")).unwrap();
        symlink("../../..", dir.path().join("up")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.folder(Path::new("/outside/deep")).unwrap();
        let found = root.file(Path::new("/link/file")).unwrap();
        assert!(dir.path().join("outside/file").is_file());
        assert_eq!(found.path, Path::new("/outside/file"));
        root.folder(Path::new("/up/inside")).unwrap();
        assert!(dir.path().join("inside").is_dir());
        let found = root.folder(Path::new("/outside/../../../b")).unwrap();
        assert_eq!(found.path, Path::new("/b"));
        assert!(dir.path().join("b").is_dir());
        assert!(root.find(Path::new("/nothing")).unwrap().is_none());
        assert!(root.find(Path::new("/outside/file/beyond")).unwrap().is_none());
    }

    #[test]
    fn what_a_dangling_link_points_to_is_made_within_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let found = root.folder(Path::new("/var/run/secrets")).unwrap();
        assert_eq!(found.path, Path::new("/run/secrets"));
        assert!(found.new);
        assert!(dir.path().join("run/secrets").is_dir());
        assert!(!root.folder(Path::new("/run/secrets")).unwrap().new);
    }

    #[test]
    fn links_that_turn_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let error = Root::open(dir.path()).unwrap().folder(Path::new("/a/c")).unwrap_err();
        assert!(error.to_string().contains("/a/c"), "{error}");
    }

    #[test]
    fn a_magic_link_of_proc_is_not_followed() {
        let root = Root::open(Path::new("/proc/self")).unwrap();
        // /proc/self/root says "/", which is this root itself here.
        assert_eq!(root.find(Path::new("/root")).unwrap().unwrap().path, Path::new("/"));
    }

    #[test]
    fn an_entry_is_a_link_itself() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/elsewhere", dir.path().join("link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let found = root.entry(Path::new("/link")).unwrap();
        assert_eq!((found.kind, found.new), (FileType::Symlink, false));
        assert!(!dir.path().join("elsewhere").exists());
        let found = root.entry(Path::new("/deep/new")).unwrap();
        assert_eq!((found.kind, found.new), (FileType::RegularFile, true));
        assert_eq!(found.path, Path::new("/deep/new"));
    }

    #[test]
    fn a_folder_that_is_kept_is_entered_whatever_has_its_name() {
        let (dir, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(mount.path().join("file"), "").unwrap();
        symlink("/nowhere", dir.path().join("proc")).unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let mut root = Root::open(dir.path()).unwrap();
        root.keep(OsStr::new("proc"), Root::open(mount.path()).unwrap().as_fd()).unwrap();
        for path in ["/proc/file", "/a/../proc/file", "proc/file"] {
            assert_eq!(root.find(Path::new(path)).unwrap().unwrap().path, Path::new("/proc/file"));
        }
        assert!(root.find(Path::new("/a/proc/file")).unwrap().is_none(), "only at the top");
    }

    #[test]
    fn a_file_is_no_folder_and_the_other_way_round() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.file(Path::new("/file")).unwrap();
        root.folder(Path::new("/folder")).unwrap();
        assert!(root.folder(Path::new("/file")).is_err());
        assert!(root.file(Path::new("/folder")).is_err());
    }
}
