//! floe's own program, in a form that a container cannot overwrite.
//!
//! The process that becomes the container's runs floe's code for a moment. A program in the container that gets hold
//! of `/proc/PID/exe` then could write to floe's file on the host (CVE-2019-5736). So the child is executed from a
//! sealed copy in memory (memfd_create(2), F_SEAL_WRITE), which nobody can change.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::{Error, Result};

/// The copy, by a path that can be executed as long as the file is held.
///
/// Its number is above `above`, so that descriptors that are handed on do not take its place.
pub(crate) fn sealed(above: i32) -> Result<(PathBuf, File)> {
    let own = "/proc/self/exe";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 and later want to be told that it will be executed; older ones do not know the flag.
    let memory = memfd_create("floe", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("floe", flags))
        .map_err(Error::at("memfd_create", "floe"))?;
    let mut copy = File::from(memory);
    let mut source = File::open(own).map_err(Error::at("open", own))?;
    std::io::copy(&mut source, &mut copy).map_err(Error::at("copy", own))?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
        .map_err(Error::at("seal", "the copy of floe"))?;
    let copy =
        rustix::io::fcntl_dupfd_cloexec(&copy, above).map_err(Error::at("duplicate", "the copy of floe"))?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())), File::from(copy)))
}
