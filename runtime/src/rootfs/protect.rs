//! What a container must not see or change, when it is inside its root.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::fs::{FileType, fstat, makedev};

use super::beneath::Root;
use super::detached::Detached;
use super::label;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::proc::Proc;

/// Masks paths, makes others read-only, and at last the root.
pub(crate) fn protect(config: &Config, root: &Root) -> Result<()> {
    for path in &config.readonly_paths {
        make_readonly(root, path)?;
    }
    for path in &config.masked_paths {
        mask(root, path, config.mount_label.as_deref())?;
    }
    root.check_kept()?;
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

fn mask(root: &Root, path: &Path, mount_label: Option<&str>) -> Result<()> {
    let Some(found) = root.find(path)? else { return Ok(()) };
    let tree = match found.kind {
        FileType::Directory => {
            let data = mount_label.map_or(String::new(), |label| label::option("tmpfs", "", label));
            Detached::filesystem("tmpfs", Path::new("tmpfs"), MsFlags::MS_RDONLY, &data)?
        }
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

/// Sets kernel parameters of the container's own namespaces. `proc` is the host's: the parameters that it shows are
/// those of the namespaces of whoever opens them.
pub(crate) fn set_parameters(proc: &Proc, parameters: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in parameters {
        let path = parameter_path(name);
        match proc.write(&path, value) {
            // Something is mounted there: floe runs in a container itself.
            Err(Error::Call { source, .. }) if source.raw_os_error() == Some(nix::libc::EXDEV) => {
                Proc::private()?.write(&path, value)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// Below /proc. Dots separate; a slash stands for a dot within a name, as for sysctl(8).
fn parameter_path(name: &str) -> PathBuf {
    Path::new("sys").join(name.split('.').map(|part| part.replace('/', ".")).collect::<Vec<_>>().join("/"))
}
