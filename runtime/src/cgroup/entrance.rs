//! How a process gets itself into a cgroup.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The ways into a container's cgroup, for a process that goes there itself.
///
/// Moved from outside, by its number in `cgroup.procs`, it costs the kernel a pause in which no process of the host
/// may fork or end, once for each hierarchy: some milliseconds in all. A thread that moves itself needs none of that, nor
/// does a process that is made in its place (`clone3(2)`, `CLONE_INTO_CGROUP`).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// The directory of version 2 in which it is made.
    pub directory: Option<PathBuf>,
    /// The file `tasks` of each version 1 hierarchy, into which it writes 0.
    pub tasks: Vec<PathBuf>,
}

impl Entrance {
    /// Opens all of it, with the rights and the paths of the host.
    pub(crate) fn open(&self) -> Result<Doors> {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let open = |path: &PathBuf, flags| {
            openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(Error::at("open", path))
        };
        let directory = |path| open(path, OFlags::PATH | OFlags::DIRECTORY);
        let tasks = |path: &PathBuf| Ok((path.clone(), open(path, OFlags::WRONLY)?));
        Ok(Doors {
            directory: self.directory.as_ref().map(directory).transpose()?,
            tasks: self.tasks.iter().map(tasks).collect::<Result<_>>()?,
        })
    }
}

/// An [`Entrance`] whose files are open.
#[derive(Debug)]
pub(crate) struct Doors {
    /// The directory of version 2.
    pub(crate) directory: Option<OwnedFd>,
    /// The file of each version 1 hierarchy, with its path.
    pub(crate) tasks: Vec<(PathBuf, OwnedFd)>,
}

impl Doors {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.directory.is_none() && self.tasks.is_empty()
    }

    /// The version 1 hierarchies. The caller has a single thread, and only that one is moved.
    pub(crate) fn enter(self) -> Result<()> {
        for (path, file) in self.tasks {
            File::from(file).write_all(b"0").map_err(Error::at("enter by", &path))?;
        }
        Ok(())
    }
}
