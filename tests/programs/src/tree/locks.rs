//! Locks on files: of an open file, of a process, of an open file's range. CRIU dumps them only if it is asked to.

use std::fs::File;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::getpid;

use super::{Node, Part, files};
use crate::report::Report;

/// Locks the files of a node, where locks are wanted.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    if node.settings.locks && node.index.is_multiple_of(13) {
        parts.push(Box::new(Locks::new(node)?));
    }
    Ok(())
}

struct Locks {
    whole: Flock<File>,
    ranges: File,
    path: std::path::PathBuf,
}

/// A lock on ten bytes.
fn range(kind: i32, start: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: 10, l_pid: 0 }
}

impl Locks {
    fn new(node: &Node) -> Result<Self> {
        let path = node.settings.folder.join(format!("locked-{}", node.index));
        let whole = files::create(&path, OFlag::O_RDWR)?;
        let whole = Flock::lock(whole, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| error)
            .context("flock")?;
        let ranges = files::open(&path, OFlag::O_RDWR)?;
        fcntl(&ranges, FcntlArg::F_SETLK(&range(libc::F_WRLCK, 100))).context("F_SETLK")?;
        fcntl(&ranges, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, 200))).context("F_OFD_SETLK")?;
        Ok(Self { whole, ranges, path })
    }

    /// Who keeps another description from locking ten bytes: the kind of lock, and the process or -1 for a
    /// description.
    fn holder(&self, start: i64) -> Result<(i32, i32)> {
        let other = files::open(&self.path, OFlag::O_RDWR)?;
        let mut wanted = range(libc::F_WRLCK, start);
        fcntl(&other, FcntlArg::F_OFD_GETLK(&mut wanted))?;
        // Closing any descriptor of a file drops this process's own range locks on it: they are taken again.
        drop(other);
        fcntl(&self.ranges, FcntlArg::F_SETLK(&range(libc::F_WRLCK, 100)))?;
        Ok((wanted.l_type.into(), wanted.l_pid))
    }
}

impl Part for Locks {
    fn look(&mut self, _round: u32, report: &mut Report) {
        // First, before a second description of the file is opened and closed.
        if let Some(found) = report.works("lock of a process", self.holder(100)) {
            report.same("lock of a process", &(libc::F_WRLCK, getpid().as_raw()), &found);
        }
        if let Some(found) = report.works("lock of a description", self.holder(200)) {
            report.same("lock of a description", &(libc::F_RDLCK, -1), &found);
        }
        if let Some(other) = report.works("open a locked file", files::open(&self.path, OFlag::O_RDWR)) {
            let refused = Flock::lock(other, FlockArg::LockExclusiveNonblock).err().map(|(_, error)| error);
            report.same("lock of an open file", &Some(Errno::EWOULDBLOCK), &refused);
        }
        if let Some(()) = report.works("own lock", self.whole.relock(FlockArg::LockExclusiveNonblock)) {
            let again = fcntl(&self.ranges, FcntlArg::F_SETLK(&range(libc::F_WRLCK, 100)));
            report.works("lock of a process", again);
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        Ok(())
    }
}
