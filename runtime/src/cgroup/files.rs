//! Reading and writing a cgroup's files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Error, Result};

/// Writes `value` in one call, as the kernel wants it. The file is never created: on a directory that is no cgroup
/// that would leave a regular file behind and look like success.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    let path = dir.join(file);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut open| open.write_all(value.as_bytes()))
        .map_err(|source| Error::call("write", format!("`{value}` to {}", path.display()), source))
}

/// The file's content without its last line feed.
pub(super) fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    let mut text = fs::read_to_string(&path).map_err(Error::at("read", &path))?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// As [`read`]; `None` where the file, or the cgroup as a whole, doesn't exist. A cgroup that is removed while it is
/// read says `ENODEV`.
pub(super) fn read_if_there(dir: &Path, file: &str) -> Result<Option<String>> {
    match read(dir, file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error says that the cgroup doesn't exist, or no longer.
pub(super) fn is_gone(error: &Error) -> bool {
    is(error, Errno::ENOENT) || is(error, Errno::ENODEV)
}

/// Whether the kernel refused it to this user, `cgroups(7)`: who moves a process needs a right also to where both cgroups
/// meet.
pub(super) fn is_denied(error: &Error) -> bool {
    is(error, Errno::EACCES) || is(error, Errno::EPERM)
}

/// Whether the kernel's answer was this one.
pub(super) fn is(error: &Error, errno: Errno) -> bool {
    matches!(error, Error::Call { source, .. } | Error::Limit { source, .. }
        if source.raw_os_error() == Some(errno as i32))
}

/// Makes a cgroup directory; one that exists is fine.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::call("mkdir", dir.display(), source))
        }
        _ => Ok(()),
    }
}
