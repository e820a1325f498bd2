//! What a container must not see or change, when it is inside its root.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, makedev, open};
use rustix::io::Errno;

use super::beneath::Root;
use super::detached::Detached;
use crate::config::Config;
use crate::error::{Error, Result};

/// Masks paths, makes others read-only, and at last the root.
pub(crate) fn protect(config: &Config) -> Result<()> {
    let root = Root::open(Path::new("/"))?;
    for path in &config.readonly_paths {
        make_readonly(&root, path)?;
    }
    for path in &config.masked_paths {
        mask(&root, path)?;
    }
    if config.readonly {
        // The descriptor of the root mount itself, not a copy.
        let tree = Detached::of(root.as_fd())?;
        tree.make_readonly(false, Path::new("/"))?;
    }
    Ok(())
}

fn make_readonly(root: &Root, path: &Path) -> Result<()> {
    let Some(found) = root.find(path)? else { return Ok(()) };
    let tree = Detached::copy_of(found.as_fd(), true, path)?;
    tree.make_readonly(true, path)?;
    tree.attach(found.as_fd(), path)
}

fn mask(root: &Root, path: &Path) -> Result<()> {
    let Some(found) = root.find(path)? else { return Ok(()) };
    let tree = match found.kind {
        FileType::Directory => Detached::filesystem("tmpfs", Path::new("tmpfs"), MsFlags::MS_RDONLY, "")?,
        _ => Detached::copy_of(null(root)?.as_fd(), false, path)?,
    };
    tree.attach(found.as_fd(), path)
}

/// The container's null device. What covers a secret must be it, not something that an image has in its place.
fn null(root: &Root) -> Result<super::beneath::Found> {
    let wrong =
        |what: &str| Error::start(format!("/dev/null in the container {what}, and masked paths need it"));
    let found = root.find(Path::new("/dev/null"))?.ok_or_else(|| wrong("does not exist"))?;
    let stat = fstat(&found).map_err(Error::at("stat", "/dev/null"))?;
    if found.kind != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(wrong("is not the null device"));
    }
    Ok(found)
}

/// Sets kernel parameters of the container's own namespaces. `proc` is the host's /proc: the parameters that it shows
/// are those of the namespaces of whoever opens them.
pub(crate) fn set_parameters(proc: &OwnedFd, parameters: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in parameters {
        let path = Path::new("sys").join(name.replace('.', "/"));
        let shown = PathBuf::from("/proc").join(&path);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            rustix::fs::openat(proc, &path, flags, Mode::empty()).map_err(Error::at("open", &shown))?;
        rustix::io::write(&file, value.as_bytes())
            .map_err(|error| Error::call("write", format!("{value:?} to {}", shown.display()), error))?;
    }
    Ok(())
}

/// The host's /proc, held open over the change of root: a container needs none of its own, and may have something
/// else in its place. To be closed before the program is executed.
pub(crate) fn hold_proc() -> Result<OwnedFd> {
    let path = Path::new("/proc");
    let proc = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::at("open", path))?;
    match fstatfs(&proc).map(|system| system.f_type) {
        Ok(PROC_SUPER_MAGIC) => Ok(proc),
        Ok(_) => Err(Error::call("open", "/proc (it is no proc file system)", Errno::INVAL)),
        Err(error) => Err(Error::call("statfs", "/proc", error)),
    }
}
