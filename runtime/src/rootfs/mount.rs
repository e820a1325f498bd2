//! One mount of the configuration.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::fs::{FileType, PROC_SUPER_MAGIC, fstat, fstatfs};

use super::beneath::{Found, Root};
use super::detached::Detached;
use super::{cgroup, copy};
use crate::config::{Config, Mount, MountFlags, MountKind, NamespaceKind};
use crate::error::{Error, Result};

/// Files of /proc that may be mounted over, as runc allows them: they show the host's numbers, and programs such as
/// lxcfs put the container's there.
const SHOWN_OTHERWISE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Makes it beneath `root`.
pub(super) fn make(root: &Root, mount: &Mount, config: &Config) -> Result<()> {
    match &mount.kind {
        MountKind::Bind { recursive } => {
            let (tree, place) = bound(root, mount, *recursive)?;
            finish(mount, &tree, &place)
        }
        MountKind::Cgroup => cgroup::make(root, mount, config),
        MountKind::Filesystem(kind) => {
            let (tree, place) = fresh(root, mount, kind, config)?;
            finish(mount, &tree, &place)
        }
    }
}

/// Attaches it and sets its propagation; that comes last, since attaching to a shared mount changes it.
pub(super) fn finish(mount: &Mount, tree: &Detached, place: &Found) -> Result<()> {
    tree.attach(place.as_fd(), &mount.destination)?;
    mount.propagation.iter().try_for_each(|one| tree.propagate(*one, &mount.destination))
}

fn bound(root: &Root, mount: &Mount, recursive: bool) -> Result<(Detached, Found)> {
    let source = mount.source.as_deref().unwrap_or(Path::new(""));
    let tree = Detached::copy_of_path(source, recursive)?;
    let kind = fstat(&tree).map_err(Error::at("stat", source))?.st_mode;
    let place = match FileType::from_raw_mode(kind) {
        FileType::Directory => root.folder(&mount.destination)?,
        _ => root.file(&mount.destination)?,
    };
    check_proc(mount, &place, is_proc(&tree)?)?;
    tree.change(mount.flags, false, &mount.destination)?;
    tree.change(mount.recursive_flags, true, &mount.destination)?;
    Ok((tree, place))
}

fn fresh(root: &Root, mount: &Mount, kind: &str, config: &Config) -> Result<(Detached, Found)> {
    let place = root.folder(&mount.destination)?;
    if matches!(kind, "proc" | "sysfs") {
        check_ordinary(mount, &place, kind)?;
    }
    check_proc(mount, &place, kind == "proc")?;
    let label = mount.source.clone().unwrap_or_else(|| PathBuf::from(kind));
    let data = data_for(mount, kind, &place, config)?;
    // A tmpfs is read-only as a mount, not as a file system: something has to be put into it, here or by a restore.
    let later = if kind == "tmpfs" { mount.flags.set & MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let tree = Detached::filesystem(kind, &label, mount.flags.set & !later, &data)?;
    if mount.copy_up && kind == "tmpfs" {
        copy::contents(place.as_fd(), tree.as_fd(), &mount.destination)?;
    }
    tree.change(MountFlags { set: later, ..MountFlags::default() }, false, &mount.destination)?;
    tree.change(mount.recursive_flags, true, &mount.destination)?;
    Ok((tree, place))
}

/// /proc and /sys have to be where they are said to be: an image in which they are links would get a second one
/// elsewhere, and no protection of its paths here (CVE-2019-19921).
fn check_ordinary(mount: &Mount, place: &Found, kind: &str) -> Result<()> {
    if place.path.components().eq(mount.destination.components()) {
        return Ok(());
    }
    Err(refused(
        mount,
        format!(
            "{kind} must be mounted on an ordinary directory, and there is a link to {}",
            place.path.display()
        ),
    ))
}

/// What security modules and masks rely on in /proc must not be covered by something that looks like it.
fn check_proc(mount: &Mount, place: &Found, is_proc: bool) -> Result<()> {
    let path = &place.path;
    if path == Path::new("/proc") {
        return if is_proc {
            Ok(())
        } else {
            Err(refused(mount, "only a proc file system can be mounted at /proc"))
        };
    }
    if !path.starts_with("/proc") || SHOWN_OTHERWISE.iter().any(|allowed| path == Path::new(allowed)) {
        return Ok(());
    }
    Err(refused(mount, "it lies inside /proc, where nothing may be covered"))
}

fn refused(mount: &Mount, why: impl std::fmt::Display) -> Error {
    let problem = format!("cannot mount at {}: {why}", mount.destination.display());
    Error::Refused { problem, hint: "take it out of `mounts` in config.json, or repair the image" }
}

fn is_proc(tree: &Detached) -> Result<bool> {
    let system = fstatfs(tree).map_err(Error::at("statfs", "the source of a bind mount"))?;
    Ok(system.f_type == PROC_SUPER_MAGIC)
}

/// The options of the file system itself.
///
/// A tmpfs has the mode of the directory under it unless it says another (as runc does). A user namespace may not map
/// the group that devpts is to belong to (5, "tty"); then terminals belong to their openers' group.
fn data_for(mount: &Mount, kind: &str, place: &Found, config: &Config) -> Result<String> {
    let given = mount.data.split(',').filter(|option| !option.is_empty());
    match kind {
        "tmpfs" if !place.new && !mount.data.split(',').any(|option| option.starts_with("mode=")) => {
            let mode = fstat(place).map_err(Error::at("stat", &mount.destination))?.st_mode & 0o7777;
            let mode = format!("mode={mode:04o}");
            Ok([mode.as_str()].into_iter().chain(given).collect::<Vec<_>>().join(","))
        }
        "devpts" if config.namespace(NamespaceKind::User).is_some() => {
            let mapped = |option: &&str| {
                let gid = option.strip_prefix("gid=").and_then(|gid| gid.parse().ok());
                gid.is_none_or(|gid: u32| config.host_gid(gid).is_some())
            };
            Ok(given.filter(mapped).collect::<Vec<_>>().join(","))
        }
        _ => Ok(mount.data.clone()),
    }
}
