//! What a container must not see or change, when it is inside its root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use rustix::fs::{FileType, PROC_SUPER_MAGIC};

use super::bind;
use super::mount::remount;
use crate::config::{Config, MountFlags};
use crate::error::{Error, Result};

/// Masks paths, makes others read-only, and at last the root.
pub(crate) fn protect(config: &Config) -> Result<()> {
    for path in &config.readonly_paths {
        make_readonly(path)?;
    }
    for path in &config.masked_paths {
        mask(path)?;
    }
    if config.readonly {
        let flags = MountFlags { set: MsFlags::MS_RDONLY, clear: MsFlags::empty() };
        remount(Path::new("/"), flags).map_err(Error::at("make read-only", "/"))?;
    }
    Ok(())
}

fn make_readonly(path: &Path) -> Result<()> {
    if !exists(path)? {
        return Ok(());
    }
    bind(path, path, true)?;
    let flags = MountFlags { set: MsFlags::MS_RDONLY, clear: MsFlags::empty() };
    remount(path, flags).map_err(Error::at("make read-only", path))
}

fn mask(path: &Path) -> Result<()> {
    if !exists(path)? {
        return Ok(());
    }
    let folder = std::fs::metadata(path).map_err(Error::at("stat", path))?.is_dir();
    if folder {
        let flags = MsFlags::MS_RDONLY;
        return nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("size=0k"))
            .map_err(Error::at("mask", path));
    }
    let null = Path::new("/dev/null");
    check_null(null)?;
    bind(null, path, false)
}

/// What covers a secret must be the null device, not something that an image has put in its place.
fn check_null(null: &Path) -> Result<()> {
    let stat = rustix::fs::lstat(null).map_err(Error::at("stat", null))?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if device { Ok(()) } else { Err(Error::start("/dev/null in the container is not the null device")) }
}

fn exists(path: &Path) -> Result<bool> {
    match nix::sys::stat::stat(path) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
        Err(error) => Err(Error::call("stat", path.display(), error)),
    }
}

/// Sets kernel parameters of the container's own namespaces.
pub(crate) fn set_parameters(parameters: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in parameters {
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        let file = rustix::fs::open(
            &path,
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(Error::at("open", &path))?;
        // An image that has a folder in the place of /proc would take the value for itself.
        let system = rustix::fs::fstatfs(&file).map_err(Error::at("statfs", &path))?;
        if system.f_type != PROC_SUPER_MAGIC {
            return Err(Error::start(format!("{} is not in a proc file system", path.display())));
        }
        rustix::io::write(&file, value.as_bytes()).map_err(Error::at("write", &path))?;
    }
    Ok(())
}
