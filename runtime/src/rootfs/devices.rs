//! Device nodes and the links that every container has.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::beneath::Root;
use super::detached::Detached;
use super::with_key;
use crate::config::{Config, Device, DeviceKind, MountKind, NamespaceKind};
use crate::error::{Error, Result};
use crate::proc::Proc;

/// Links of the OCI runtime specification ("Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Makes them, unless `/dev` is bound from the host, whose nodes are not ours to change.
pub(super) fn make(root: &Root, config: &Config) -> Result<()> {
    if dev_is_bound(config) {
        return Ok(());
    }
    for device in &config.devices {
        node(root, device, config).map_err(|error| with_key(error, "linux.devices"))?;
    }
    for (target, path) in LINKS {
        link(root, target, Path::new(path))?;
    }
    // As runc makes it: where the kernel offers its memory as a file, a mask is what hides it.
    if Path::new("/proc/kcore").exists() {
        link(root, "/proc/kcore", Path::new("/dev/core"))?;
    }
    if root.find(Path::new("/dev/pts/ptmx"))?.is_some() {
        replace_ptmx(root)?;
    }
    Ok(())
}

/// Whether the last mount at `/dev` is the host's.
pub(crate) fn dev_is_bound(config: &Config) -> bool {
    let last = config.mounts.iter().rfind(|mount| mount.destination == Path::new("/dev"));
    last.is_some_and(|mount| matches!(mount.kind, MountKind::Bind { .. }))
}

fn link(root: &Root, target: &str, path: &Path) -> Result<()> {
    let (parent, name) = root.parent(path)?;
    match symlinkat(target, &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::call("symlink in the container", path.display(), error)),
    }
}

/// Terminals are those of the container's own devpts.
fn replace_ptmx(root: &Root) -> Result<()> {
    let path = Path::new("/dev/ptmx");
    let (parent, name) = root.parent(path)?;
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => link(root, "pts/ptmx", path),
        Err(error) => Err(Error::call("remove in the container", path.display(), error)),
    }
}

fn node(root: &Root, device: &Device, config: &Config) -> Result<()> {
    // The device of a node that a user namespace made can't be opened (`mknod(2)`): the host's are bound there.
    if config.namespace(NamespaceKind::User).is_some() && device.kind != DeviceKind::Fifo {
        return bind(root, device);
    }
    let (parent, name) = root.parent(&device.path)?;
    let number = makedev(device.major, device.minor);
    let is_it = |kind: FileType, found: u64| {
        kind == file_type(device.kind) && (kind == FileType::Fifo || found == number)
    };
    match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_it(FileType::from_raw_mode(stat.st_mode), stat.st_rdev) => return Ok(()),
        // Something else in an image, such as an empty file: a container must not write to it as to a device.
        Ok(_) => unlinkat(&parent, name, AtFlags::empty())
            .map_err(Error::at("replace in the container", &device.path))?,
        Err(Errno::NOENT) => {}
        Err(error) => return Err(Error::call("stat in the container", device.path.display(), error)),
    }
    match mknodat(&parent, name, file_type(device.kind), Mode::from_raw_mode(device.mode), number) {
        Ok(()) => {}
        // No CAP_MKNOD, as in a container that runs containers.
        Err(Errno::PERM) if device.kind != DeviceKind::Fifo => return bind(root, device),
        Err(error) => return Err(Error::call("mknod in the container", device.path.display(), error)),
    }
    // By a descriptor that is known to be the node: its name may be another's already, in a shared volume.
    let failed = |call| Error::at(call, &device.path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(&parent, name, flags, Mode::empty()).map_err(failed("open in the container"))?;
    let stat = fstat(&made).map_err(failed("stat in the container"))?;
    if !is_it(FileType::from_raw_mode(stat.st_mode), stat.st_rdev) {
        return Err(Error::start(format!("{} was exchanged while it was made", device.path.display())));
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .map_err(failed("chown in the container"))?;
    // The default ACL of a folder takes bits away, as an umask would.
    if stat.st_mode & 0o7777 != device.mode {
        Proc::of_host()?.change_mode(made.as_fd(), Mode::from_raw_mode(device.mode), &device.path)?;
    }
    Ok(())
}

fn bind(root: &Root, device: &Device) -> Result<()> {
    let host = host_node(device);
    let tree = Detached::copy_of_path(&host, false)?;
    let stat = fstat(&tree).map_err(Error::at("stat", &host))?;
    let same = FileType::from_raw_mode(stat.st_mode) == file_type(device.kind)
        && stat.st_rdev == makedev(device.major, device.minor);
    if !same {
        let problem =
            format!("{} on the host is not the device {}:{}", host.display(), device.major, device.minor);
        return Err(Error::Refused {
            problem,
            hint: "make that device on the host, or take it out of linux.devices",
        });
    }
    tree.attach(root.entry(&device.path)?.as_fd(), &device.path)
}

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    }
}

/// Where the host has a device: by its own name, or under its number, whatever the container calls it.
fn host_node(device: &Device) -> PathBuf {
    let kind = if device.kind == DeviceKind::Block { "block" } else { "char" };
    let by_number = PathBuf::from(format!("/dev/{kind}/{}:{}", device.major, device.minor));
    let by_name = rustix::fs::stat(&device.path);
    let fits = by_name.is_ok_and(|stat| stat.st_rdev == makedev(device.major, device.minor));
    if !fits && by_number.exists() { by_number } else { device.path.clone() }
}
