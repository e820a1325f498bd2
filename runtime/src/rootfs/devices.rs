//! Device nodes and the links that every container has.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, Uid, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::beneath::Root;
use super::bind;
use crate::config::{Config, Device, DeviceKind, MountKind, NamespaceKind};
use crate::error::{Error, Result};

/// Links of the OCI runtime specification ("Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Makes them, unless `/dev` is bound from the host, whose nodes are not ours to change.
pub(crate) fn make(root: &Root, config: &Config) -> Result<()> {
    let bound = config
        .mounts
        .iter()
        .any(|mount| mount.destination == Path::new("/dev") && matches!(mount.kind, MountKind::Bind { .. }));
    if bound {
        return Ok(());
    }
    for device in &config.devices {
        node(root, device, config)?;
    }
    for (target, path) in LINKS {
        link(root, target, Path::new(path))?;
    }
    if root.find(Path::new("/dev/pts/ptmx"))?.is_some() {
        link(root, "pts/ptmx", Path::new("/dev/ptmx"))?;
    }
    Ok(())
}

fn link(root: &Root, target: &str, path: &Path) -> Result<()> {
    let (parent, name) = root.parent(path)?;
    match symlinkat(target, &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::call("symlink in the container", path.display(), error)),
    }
}

fn node(root: &Root, device: &Device, config: &Config) -> Result<()> {
    // A user namespace may not make device nodes that work (mknod(2)): the host's are bound there.
    let joined = config.namespace(NamespaceKind::User).is_some();
    if joined {
        let host = host_node(device);
        return bind(&host, &root.file(&device.path)?.path(), false);
    }
    let (parent, name) = root.parent(&device.path)?;
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let failed = |call| Error::at(call, &device.path);
    match mknodat(&parent, name, kind, Mode::from(device.mode), makedev(device.major, device.minor)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(Errno::PERM) => return bind(&host_node(device), &root.file(&device.path)?.path(), false),
        Err(error) => return Err(failed("mknod in the container")(error)),
    }
    // The umask took bits away.
    let found = super::mount::target(root, &device.path)?;
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        &found.path(),
        nix::sys::stat::Mode::from_bits_truncate(device.mode),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .map_err(Error::at("chmod in the container", &device.path))?;
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    rustix::fs::chownat(found.as_fd(), "", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH)
        .map_err(failed("chown in the container"))
}

/// Where the host has a device: under its number, whatever the container calls it.
fn host_node(device: &Device) -> PathBuf {
    let kind = if device.kind == DeviceKind::Block { "block" } else { "char" };
    let by_number = PathBuf::from(format!("/dev/{kind}/{}:{}", device.major, device.minor));
    if by_number.exists() { by_number } else { device.path.clone() }
}
