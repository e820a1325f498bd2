//! A folder for CRIU's log and figures, where runc puts them (`--work-path`).
//!
//! Engines read them there: podman the figures, containerd the log of a failure. CRIU itself works in a tmpfs that is gone
//! afterwards; what is kept is copied, whether it succeeded or not.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::scratch::Scratch;

/// The opened folder.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    root: OwnedFd,
}

impl WorkFolder {
    /// Opens the folder; as runc does, it is made if only it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::call("mkdir", path, source));
            }
            _ => {}
        }
        let opened = OpenOptions::new().read(true).open(path);
        let folder = opened.map_err(|source| Error::call("open", path, source))?;
        if !folder.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::call("open", path, std::io::Error::from(ErrorKind::NotADirectory)));
        }
        Ok(Self { path: path.to_owned(), root: OwnedFd::from(folder) })
    }

    /// Copies what CRIU left of these names, replacing what was there. That it cannot is told: the work is done by then.
    pub(crate) fn keep(&self, scratch: &Scratch, names: &[&str], progress: &dyn Progress) {
        for name in names {
            let Ok(bytes) = scratch.read(name) else { continue };
            if let Err(source) = self.write(name, &bytes) {
                progress.warn(&format!(
                    "{}: {source}",
                    Error::call("write", self.path.join(name), source.kind())
                ));
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        // Removed first: whoever still reads the former one keeps it, and a link of this name is not followed.
        match rustix::fs::unlinkat(self.root.as_fd(), name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        File::from(openat(&self.root, name, flags, Mode::from(0o600))?).write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_log_is_replaced_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, aside) = (dir.path().join("work"), dir.path().join("aside"));
        let work = WorkFolder::open(&folder).unwrap();
        std::fs::write(&aside, "mine").unwrap();
        std::os::unix::fs::symlink(&aside, folder.join("dump.log")).unwrap();
        work.write("dump.log", b"first").unwrap();
        WorkFolder::open(&folder).unwrap().write("dump.log", b"2").unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("dump.log")).unwrap(), "2");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "mine");
        // What CRIU did not write is not there.
        if let Ok(scratch) = Scratch::new() {
            work.keep(&scratch, &["stats-dump"], &Silent);
        }
        assert!(!folder.join("stats-dump").exists());
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(WorkFolder::open(&dir.path().join("file")).is_err());
        assert!(WorkFolder::open(&dir.path().join("a/b")).is_err());
    }
}
