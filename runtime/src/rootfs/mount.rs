//! One mount of the configuration.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::beneath::{Found, Root};
use super::{bind, cgroup, set_propagation};
use crate::config::{Config, Mount, MountFlags, MountKind, NamespaceKind};
use crate::error::{Error, Result};
use crate::sys::{MountAttr, mount_setattr};

/// Makes it beneath `root`.
pub(crate) fn make(root: &Root, mount: &Mount, config: &Config) -> Result<()> {
    match &mount.kind {
        MountKind::Bind { recursive } => bound(root, mount, *recursive)?,
        MountKind::Cgroup => return cgroup::make(root, mount, config),
        MountKind::Filesystem(kind) => fresh(root, mount, kind, config)?,
    }
    let target = target(root, &mount.destination)?;
    for propagation in &mount.propagation {
        set_propagation(&target.path(), propagation.flags())?;
    }
    if !mount.recursive_flags.is_empty() {
        let attr = MountAttr {
            set: attributes(mount.recursive_flags.set),
            clear: attributes(mount.recursive_flags.clear),
            ..MountAttr::default()
        };
        mount_setattr(std::os::fd::AsFd::as_fd(&target), true, &attr)
            .map_err(Error::at("mount_setattr", &mount.destination))?;
    }
    Ok(())
}

/// What is mounted at `path` now: looked up again, since what was opened before a mount lies under it.
pub(super) fn target(root: &Root, path: &Path) -> Result<Found> {
    root.find(path)?.ok_or_else(|| Error::call("open in the container", path.display(), Errno::ENOENT))
}

fn bound(root: &Root, mount: &Mount, recursive: bool) -> Result<()> {
    let source = mount.source.as_deref().unwrap_or(Path::new(""));
    let meta = std::fs::metadata(source).map_err(Error::at("find the source of a bind mount", source))?;
    let place = if meta.is_dir() { root.folder(&mount.destination)? } else { root.file(&mount.destination)? };
    bind(source, &place.path(), recursive)?;
    if mount.flags.is_empty() {
        return Ok(());
    }
    remount(&target(root, &mount.destination)?.path(), mount.flags)
        .map_err(|error| Error::call("set the flags of", mount.destination.display(), error))
}

/// Changes the flags of a bind mount. What the source's mount has and nobody cleared stays: in a user namespace such
/// flags are locked (mount_namespaces(7)), and leaving one out is refused.
pub(super) fn remount(path: &Path, flags: MountFlags) -> Result<(), Errno> {
    let present = present_flags(path)? & !flags.clear;
    let all = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags.set | present;
    nix::mount::mount(None::<&str>, path, None::<&str>, all, None::<&str>)
}

fn present_flags(path: &Path) -> Result<MsFlags, Errno> {
    use nix::sys::statvfs::FsFlags;
    let present = nix::sys::statvfs::statvfs(path)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(pairs
        .into_iter()
        .filter(|(have, _)| present.contains(*have))
        .fold(MsFlags::empty(), |all, (_, flag)| all | flag))
}

fn fresh(root: &Root, mount: &Mount, kind: &str, config: &Config) -> Result<()> {
    let place = root.folder(&mount.destination)?;
    let copy = if mount.copy_up && kind == "tmpfs" { Some(contents(&place.path())?) } else { None };
    let data = data_for(mount, kind, config);
    let label = mount.source.clone().unwrap_or_else(|| PathBuf::from(kind));
    let data = (!data.is_empty()).then_some(data);
    nix::mount::mount(Some(&label), &place.path(), Some(kind), mount.flags.set, data.as_deref()).map_err(
        |error| {
            let on = format!(
                "{kind} at {} ({})",
                mount.destination.display(),
                data.as_deref().unwrap_or("no options")
            );
            Error::call("mount", on, error)
        },
    )?;
    if let Some(copy) = copy {
        let target = target(root, &mount.destination)?;
        put(copy, &target.path())?;
    }
    Ok(())
}

/// A user namespace may not map the group that devpts is to belong to (5, "tty"); without it terminals belong to
/// their openers' group.
fn data_for(mount: &Mount, kind: &str, config: &Config) -> String {
    if kind != "devpts" || !config.creates(NamespaceKind::User) {
        return mount.data.clone();
    }
    let known = |option: &&str| {
        option
            .strip_prefix("gid=")
            .and_then(|gid| gid.parse().ok())
            .is_none_or(|gid: u32| config.host_gid(gid).is_some())
    };
    mount.data.split(',').filter(known).collect::<Vec<_>>().join(",")
}

/// The flags of mount(2) as those of mount_setattr(2).
fn attributes(flags: MsFlags) -> u64 {
    use rustix::mount::MountAttrFlags as Attr;
    let pairs = [
        (MsFlags::MS_RDONLY, Attr::MOUNT_ATTR_RDONLY),
        (MsFlags::MS_NOSUID, Attr::MOUNT_ATTR_NOSUID),
        (MsFlags::MS_NODEV, Attr::MOUNT_ATTR_NODEV),
        (MsFlags::MS_NOEXEC, Attr::MOUNT_ATTR_NOEXEC),
        (MsFlags::MS_NODIRATIME, Attr::MOUNT_ATTR_NODIRATIME),
        (MsFlags::MS_NOATIME, Attr::MOUNT_ATTR_NOATIME),
        (MsFlags::MS_STRICTATIME, Attr::MOUNT_ATTR_STRICTATIME),
    ];
    pairs
        .into_iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .fold(0, |all, (_, attr)| all | u64::from(attr.bits()))
}

/// A folder's content, held open from before something is mounted over it.
struct Contents(std::fs::File);

fn contents(folder: &Path) -> Result<Contents> {
    std::fs::File::open(folder).map(Contents).map_err(Error::at("open", folder))
}

/// Copies it with tar's rules: modes, owners, links and times as they were.
fn put(contents: Contents, target: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let source = PathBuf::from(format!("/proc/self/fd/{}", contents.0.as_raw_fd()));
    copy_folder(&source, target)
}

fn copy_folder(source: &Path, target: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    for entry in std::fs::read_dir(source).map_err(Error::at("read", source))? {
        let entry = entry.map_err(Error::at("read", source))?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let meta = entry.metadata().map_err(Error::at("stat", &from))?;
        if meta.is_dir() {
            std::fs::create_dir(&to).map_err(Error::at("mkdir", &to))?;
            copy_folder(&from, &to)?;
        } else if meta.is_symlink() {
            let link = std::fs::read_link(&from).map_err(Error::at("readlink", &from))?;
            std::os::unix::fs::symlink(&link, &to).map_err(Error::at("symlink", &to))?;
        } else if meta.is_file() {
            std::fs::copy(&from, &to).map_err(Error::at("copy", &from))?;
        } else {
            continue;
        }
        std::os::unix::fs::lchown(&to, Some(meta.uid()), Some(meta.gid()))
            .map_err(Error::at("chown", &to))?;
        if !meta.is_symlink() {
            let mode = std::fs::Permissions::from_mode(meta.mode() & 0o7777);
            std::fs::set_permissions(&to, mode).map_err(Error::at("chmod", &to))?;
        }
    }
    Ok(())
}
