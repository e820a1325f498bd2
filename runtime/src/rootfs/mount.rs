//! One mount of the configuration.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::fs::{PROC_SUPER_MAGIC, fstat, fstatfs, readlinkat, symlinkat};
use rustix::io::Errno;

use super::beneath::{Found, Root};
use super::bind::{self, Outside};
use super::detached::Detached;
use super::{cgroup, copy, label};
use crate::config::{Config, Mount, MountFlags, MountKind, NamespaceKind, SourceLink};
use crate::error::{Error, Result};
use crate::proc::ROOT as PROC_ROOT;

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

/// What the container's protection is in, or relies on: [`Root::keep`].
const KEPT: [&str; 3] = ["proc", "sys", "dev"];

/// Makes mount `number` of the configuration beneath `root`.
pub(super) fn make(root: &mut Root, number: usize, config: &Config, outside: &mut dyn Outside) -> Result<()> {
    let Some(mount) = config.mounts.get(number) else { return Ok(()) };
    match &mount.kind {
        MountKind::Bind { .. } if copies_link(mount)? => copy_link(root, mount),
        MountKind::Bind { recursive } => {
            let tree = bind::source(mount, *recursive, number, outside)?;
            let place = bind::place(root, mount, &tree)?;
            check_proc(mount, &place, is_proc(&tree)?)?;
            tree.choose(mount.flags, &mount.destination)?;
            tree.change(mount.recursive_flags, true, &mount.destination)?;
            finish(root, mount, &tree, &place)
        }
        MountKind::Cgroup => cgroup::make(root, mount, config),
        MountKind::Filesystem(kind) => {
            let (tree, place) = fresh(root, mount, kind, config)?;
            finish(root, mount, &tree, &place)
        }
        MountKind::Remount { bind } => remount(root, mount, *bind),
    }
}

/// Attaches it and sets its propagation; that comes last, since attaching to a shared mount changes it.
pub(super) fn finish(root: &mut Root, mount: &Mount, tree: &Detached, place: &Found) -> Result<()> {
    tree.attach(place.as_fd(), &mount.destination)?;
    if let Some(name) = KEPT.iter().find(|name| place.path == Path::new("/").join(name)) {
        root.keep(name.as_ref(), tree.as_fd())?;
    }
    mount.propagation.iter().try_for_each(|one| tree.propagate(*one, &mount.destination))
}

/// What is mounted there already gets the flags and, unless only the mount itself is meant, the options.
fn remount(root: &Root, mount: &Mount, bind: bool) -> Result<()> {
    let nothing = || refused(mount, "nothing is mounted there that could be mounted again");
    let place = root.find(&mount.destination)?.ok_or_else(nothing)?;
    let tree = Detached::of(place.as_fd())?;
    if !tree.is_mount(&mount.destination)? {
        return Err(nothing());
    }
    if bind {
        tree.choose(mount.flags, &mount.destination)?;
    } else {
        tree.reconfigure(mount.flags, &mount.data, &mount.destination)?;
    }
    tree.change(mount.recursive_flags, true, &mount.destination)?;
    mount.propagation.iter().try_for_each(|one| tree.propagate(*one, &mount.destination))
}

fn fresh(root: &Root, mount: &Mount, kind: &str, config: &Config) -> Result<(Detached, Found)> {
    let place = root.folder(&mount.destination)?;
    if matches!(kind, "proc" | "sysfs") {
        check_ordinary(mount, &place, kind)?;
    }
    check_proc(mount, &place, kind == "proc")?;
    let name = mount.source.clone().unwrap_or_else(|| PathBuf::from(kind));
    let mut data = data_for(mount, kind, &place, config)?;
    if let Some(label) = &config.mount_label {
        data = label::option(kind, &data, label);
    }
    // A tmpfs is read-only as a mount, not as a file system: something has to be put into it, here or by a restore.
    let later = if kind == "tmpfs" { mount.flags.set & MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let tree = Detached::filesystem(kind, &name, mount.flags.set.difference(later), &data)?;
    if let (Some(label), "mqueue") = (&config.mount_label, kind) {
        label::set(tree.as_fd(), label, &mount.destination)?;
    }
    if mount.copy_up {
        copy::contents(place.as_fd(), tree.as_fd(), &mount.destination)?;
    }
    tree.change(MountFlags { set: later, ..MountFlags::default() }, false, &mount.destination)?;
    tree.change(mount.recursive_flags, true, &mount.destination)?;
    Ok((tree, place))
}

/// Whether a link is made instead of a mount.
fn copies_link(mount: &Mount) -> Result<bool> {
    let Some(source) = mount.source.as_deref().filter(|_| mount.source_link == SourceLink::Copy) else {
        return Ok(false);
    };
    let about = std::fs::symlink_metadata(source).map_err(Error::at("stat", source))?;
    Ok(about.file_type().is_symlink())
}

/// One of the same content that is there already will do; anything else in its place is not ours to remove.
fn copy_link(root: &Root, mount: &Mount) -> Result<()> {
    let source = mount.source.as_deref().unwrap_or(Path::new(""));
    let target = std::fs::read_link(source).map_err(Error::at("readlink", source))?;
    let (parent, name) = root.parent(&mount.destination)?;
    match symlinkat(&target, &parent, name) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => match readlinkat(&parent, name, Vec::new()) {
            Ok(there) if there.as_bytes() == target.as_os_str().as_bytes() => Ok(()),
            _ => Err(refused(mount, "something else is in the place of the link")),
        },
        Err(error) => Err(Error::call("symlink in the container", mount.destination.display(), error)),
    }
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

/// Whether it is a procfs as a whole: a folder of one is not what programs expect at /proc.
fn is_proc(tree: &Detached) -> Result<bool> {
    let system = fstatfs(tree).map_err(Error::at("statfs", "the source of a bind mount"))?;
    let about = fstat(tree).map_err(Error::at("stat", "the source of a bind mount"))?;
    Ok(system.f_type == PROC_SUPER_MAGIC && about.st_ino == PROC_ROOT)
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
                gid.is_none_or(|gid: u32| is_mapped(gid, config))
            };
            Ok(given.filter(mapped).collect::<Vec<_>>().join(","))
        }
        _ => Ok(mount.data.clone()),
    }
}

/// Whether the user namespace has this group. That of one which is joined is known to the kernel only.
fn is_mapped(gid: u32, config: &Config) -> bool {
    if config.creates(NamespaceKind::User) {
        return config.host_gid(gid).is_some();
    }
    std::fs::read_to_string("/proc/self/gid_map").is_ok_and(|map| maps(&map, gid))
}

/// The lines are `inside outside count` (user_namespaces(7)).
fn maps(map: &str, gid: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map_while(|field| field.parse::<u32>().ok());
        let (first, count) = (numbers.next(), numbers.nth(1));
        matches!((first, count), (Some(first), Some(count)) if gid.checked_sub(first).is_some_and(|place| place < count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read() {
        let map = "         0     100000          5\n         6 4294967294          1\n";
        assert!(maps(map, 0) && maps(map, 4) && maps(map, 6));
        assert!(!maps(map, 5) && !maps(map, 7) && !maps("", 0));
    }
}
