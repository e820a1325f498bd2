//! The standard streams that the process inherits.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, Uid, fstat, makedev, openat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::{self, StandardStream};

const STREAMS: [StandardStream; 3] = [StandardStream::Input, StandardStream::Output, StandardStream::Error];

fn stream(which: StandardStream) -> BorrowedFd<'static> {
    match which {
        StandardStream::Input => rustix::stdio::stdin(),
        StandardStream::Output => rustix::stdio::stdout(),
        StandardStream::Error => rustix::stdio::stderr(),
    }
}

/// Standard streams on the host's `/dev/null` are put on the container's own, if it has one: what a container holds
/// open of the host stands in the way of its checkpoint.
pub(super) fn reopen_null() -> Result<()> {
    let path = "/dev/null";
    // Not to wait at, or be tied to, what a container may have in its place.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(null) = openat(CWD, path, flags, Mode::empty()) else { return Ok(()) };
    if !is_null(&fstat(&null).map_err(Error::at("stat", path))?) {
        return Ok(());
    }
    rustix::fs::fcntl_setfl(&null, OFlags::RDWR).map_err(Error::at("fcntl", path))?;
    for which in STREAMS {
        if fstat(stream(which)).is_ok_and(|stat| is_null(&stat)) {
            sys::install_standard_stream(null.as_fd(), which).map_err(Error::at("dup2", path))?;
        }
    }
    Ok(())
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
}

/// Pipes and terminals become the user's, so that it can open them again as /dev/stdout. Files of the host stay whose
/// they are, and so do devices such as /dev/null.
pub(super) fn give(uid: u32) -> Result<()> {
    if uid == 0 {
        return Ok(());
    }
    STREAMS.into_iter().try_for_each(|which| give_one(stream(which), uid))
}

fn give_one(stream: BorrowedFd<'_>, uid: u32) -> Result<()> {
    let stat = fstat(stream).map_err(Error::at("stat", "a standard stream"))?;
    let is_private = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => true,
        FileType::CharacterDevice => rustix::termios::isatty(stream) && stat.st_rdev != makedev(5, 0),
        _ => false,
    };
    if !is_private || stat.st_uid == uid {
        return Ok(());
    }
    match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
        // Its owner isn't mapped in the user namespace, or its file system doesn't allow it; it can still be used.
        Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => Ok(()),
        Err(error) => Err(Error::call("chown", format!("a standard stream to {uid}"), error)),
    }
}
