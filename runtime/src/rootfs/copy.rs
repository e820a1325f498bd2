//! Copying what a directory holds into the tmpfs that covers it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat, fchmod,
    fchown, mkdirat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Deepest nesting that is copied; each level holds two descriptors.
const MAX_DEPTH: usize = 128;

/// Copies everything in `from` to the empty directory `to`: directories, files and links with owner, mode and times.
/// Devices, sockets and fifos are left out. No link is followed. `name` is for messages.
pub(super) fn contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let (from, to) = (folder(from, "."), folder(to, "."));
    from.and_then(|from| entries(&from, &to?, 0)).map_err(Error::at("copy into the tmpfs at", name))
}

fn folder(parent: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn entries(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from(0o700))?;
            entries(&folder(from.as_fd(), name)?, &folder(to.as_fd(), name)?, depth + 1)?;
            chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
            chmodat(to, name, mode, AtFlags::empty())?;
        }
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut source = File::from(openat(from, name, read, Mode::empty())?);
            let mut target = File::from(openat(to, name, write, Mode::from(0o600))?);
            std::io::copy(&mut source, &mut target)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            fchown(&target, owner.0, owner.1)?;
            fchmod(&target, mode)?;
        }
        _ => return Ok(()),
    }
    utimensat(to, name, &times(&stat)?, AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Result<Timestamps, Errno> {
    let time = |seconds: i64, nanoseconds: u64| {
        i64::try_from(nanoseconds)
            .map(|tv_nsec| Timespec { tv_sec: seconds, tv_nsec })
            .map_err(|_| Errno::INVAL)
    };
    Ok(Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec)?,
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec)?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_is_copied_is_as_it_was() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("sub")).unwrap();
        fs::write(from.path().join("sub/file"), "text").unwrap();
        fs::set_permissions(from.path().join("sub/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(from.path().join("sub"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", from.path().join("link")).unwrap();
        nix::unistd::mkfifo(&from.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let (source, target) = (File::open(from.path()).unwrap(), File::open(to.path()).unwrap());
        contents(source.as_fd(), target.as_fd(), to.path()).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("sub/file")).unwrap(), "text");
        let (old, new) = (from.path().join("sub/file"), to.path().join("sub/file"));
        let (old, new) = (fs::metadata(old).unwrap(), fs::metadata(new).unwrap());
        assert_eq!((old.mode(), old.mtime(), old.mtime_nsec()), (new.mode(), new.mtime(), new.mtime_nsec()));
        assert_eq!(fs::metadata(to.path().join("sub")).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_link(to.path().join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(!to.path().join("fifo").exists());
    }
}
