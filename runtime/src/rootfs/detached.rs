//! Mounts that are made first and attached when they are complete.
//!
//! With the mount calls of Linux 5.2 and 5.12 (`fsopen(2)`, `open_tree(2)`, `mount_setattr(2)`, `move_mount(2)`) a
//! mount has all its flags before anybody can see it, and is attached to a descriptor. So there is no second lookup
//! of its path between mounting and setting flags that could end elsewhere (CVE-2021-30465).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::MsFlags;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags as Attr, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::config::{MountFlags, Propagation};
use crate::error::{Error, Result};
use crate::sys::{MountAttr, mount_setattr};

/// The bits of `MOUNT_ATTR__ATIME` (`include/uapi/linux/mount.h`): one field of three values, not three flags.
const ATIME: u64 = 0x70;

/// Longest value of one option that `fsconfig(2)` takes, in bytes without its terminator.
const VALUE_MAX: usize = 255;

/// A mount (or a tree of them) that is not attached, or was attached by [`Detached::attach`]; then this is still a
/// descriptor of its root.
#[derive(Debug)]
pub(super) struct Detached(OwnedFd);

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Detached {
    /// What is at the host's path `source`, a second time; with `recursive` all mounts below it too.
    pub(super) fn copy_of_path(source: &Path, recursive: bool) -> Result<Self> {
        open_tree(CWD, source, tree_flags(recursive)).map(Self).map_err(Error::at("bind", source))
    }

    /// What `source` is a descriptor of, a second time. `name` is for messages.
    pub(super) fn copy_of(source: BorrowedFd<'_>, recursive: bool, name: &Path) -> Result<Self> {
        open_tree(source, "", tree_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
            .map(Self)
            .map_err(Error::at("bind", name))
    }

    /// The mount itself that `root` is a descriptor of the root of.
    pub(super) fn of(root: BorrowedFd<'_>) -> Result<Self> {
        root.try_clone_to_owned().map(Self).map_err(Error::at("duplicate", "a mount's descriptor"))
    }

    /// A new instance of a file system. `label` is what `/proc/mounts` shows as its source, `data` its own options,
    /// comma-separated. A failure holds the kernel's own words where it has some.
    pub(super) fn filesystem(kind: &str, label: &Path, flags: MsFlags, data: &str) -> Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|error| Error::call("fsopen", format!("the file system type {kind:?}"), error))?;
        let configured = configure(&context, label, flags, data);
        configured
            .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags)))
            .map(Self)
            .map_err(|error| explained(&context, kind, data, error))
    }

    /// Sets and clears flags, with `recursive` of all mounts below it too. `name` is for messages.
    pub(super) fn change(&self, flags: MountFlags, recursive: bool, name: &Path) -> Result<()> {
        if flags.is_empty() {
            return Ok(());
        }
        let (set, clear) = changes(flags);
        let attr = MountAttr { set, clear, ..MountAttr::default() };
        mount_setattr(self.as_fd(), recursive, &attr)
            .map_err(Error::at("set the flags of the mount at", name))
    }

    /// Makes it read-only, with `recursive` all mounts below it too.
    pub(super) fn make_readonly(&self, recursive: bool, name: &Path) -> Result<()> {
        self.change(MountFlags { set: MsFlags::MS_RDONLY, clear: MsFlags::empty() }, recursive, name)
    }

    /// Changes with whom it shares mount events. `name` is for messages.
    pub(super) fn propagate(&self, propagation: Propagation, name: &Path) -> Result<()> {
        let flags = propagation.flags();
        let attr = MountAttr { propagation: (flags & !MsFlags::MS_REC).bits(), ..MountAttr::default() };
        mount_setattr(self.as_fd(), flags.contains(MsFlags::MS_REC), &attr)
            .map_err(Error::at("set the propagation of the mount at", name))
    }

    /// Mounts it on what `place` is a descriptor of. `name` is for messages.
    pub(super) fn attach(&self, place: BorrowedFd<'_>, name: &Path) -> Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.0, "", place, "", flags).map_err(Error::at("mount at", name))
    }
}

fn tree_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Flags that belong to the file system, not to the mount: it takes them as options without a value.
const OF_THE_FILE_SYSTEM: [(MsFlags, &str); 6] = [
    (MsFlags::MS_RDONLY, "ro"),
    (MsFlags::MS_SYNCHRONOUS, "sync"),
    (MsFlags::MS_DIRSYNC, "dirsync"),
    (MsFlags::MS_MANDLOCK, "mand"),
    (MsFlags::MS_LAZYTIME, "lazytime"),
    (MsFlags::MS_I_VERSION, "iversion"),
];

fn configure(context: &OwnedFd, label: &Path, flags: MsFlags, data: &str) -> Result<(), Errno> {
    for (flag, name) in OF_THE_FILE_SYSTEM {
        if flags.contains(flag) {
            fsconfig_set_flag(context, name)?;
        }
    }
    fsconfig_set_string(context, "source", label)?;
    for (key, value) in options(data) {
        match value {
            Some(value) if value.len() > VALUE_MAX => return Err(Errno::TOOBIG),
            Some(value) => fsconfig_set_string(context, key, value)?,
            None => fsconfig_set_flag(context, key)?,
        }
    }
    fsconfig_create(context)
}

/// The options of `data`. A comma within double quotes doesn't separate: SELinux contexts have such.
fn options(data: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut quoted = false;
    let separates = move |letter: char| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    };
    data.split(separates).filter(|option| !option.is_empty()).map(|option| match option.split_once('=') {
        Some((key, value)) => (key, Some(value.trim_matches('"'))),
        None => (option, None),
    })
}

fn explained(context: &OwnedFd, kind: &str, data: &str, error: Errno) -> Error {
    let options = if data.is_empty() { "no options" } else { data };
    let mut text = format!("{kind} with {options}");
    if error == Errno::TOOBIG {
        text.push_str(" (an option's value may have 255 bytes)");
    }
    // One message a read, with "e ", "w " or "i " in front; ENODATA when there are no more.
    let mut line = [0u8; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        text.push_str(&format!(" [{}]", String::from_utf8_lossy(&line[..length]).trim()));
    }
    Error::call("mount", text, error)
}

/// The flags of a new mount.
fn attributes(flags: MsFlags) -> Attr {
    Attr::from_bits_retain(changes(MountFlags { set: flags, clear: MsFlags::empty() }).0 as u32)
}

/// The bits to set and to clear for `mount_setattr(2)`.
fn changes(flags: MountFlags) -> (u64, u64) {
    let plain = [
        (MsFlags::MS_RDONLY, Attr::MOUNT_ATTR_RDONLY),
        (MsFlags::MS_NOSUID, Attr::MOUNT_ATTR_NOSUID),
        (MsFlags::MS_NODEV, Attr::MOUNT_ATTR_NODEV),
        (MsFlags::MS_NOEXEC, Attr::MOUNT_ATTR_NOEXEC),
        (MsFlags::MS_NODIRATIME, Attr::MOUNT_ATTR_NODIRATIME),
    ];
    let bits = |of: MsFlags| {
        let chosen = plain.iter().filter(|(flag, _)| of.contains(*flag));
        chosen.fold(0, |all, (_, attr)| all | u64::from(attr.bits()))
    };
    let access_time = MsFlags::MS_NOATIME | MsFlags::MS_STRICTATIME | MsFlags::MS_RELATIME;
    let (mut set, mut clear) = (bits(flags.set), bits(flags.clear));
    // One field: whichever value is chosen, the others go. Taking one back means the kernel's default, relatime (0).
    if (flags.set | flags.clear).intersects(access_time) {
        clear |= ATIME;
    }
    if flags.set.contains(MsFlags::MS_NOATIME) {
        set |= u64::from(Attr::MOUNT_ATTR_NOATIME.bits());
    } else if flags.set.contains(MsFlags::MS_STRICTATIME) {
        set |= u64::from(Attr::MOUNT_ATTR_STRICTATIME.bits());
    }
    (set, clear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_apart() {
        let found: Vec<_> = options("mode=755,newinstance,,context=\"a:b,c\",size=64k").collect();
        let context = ("context", Some("a:b,c"));
        assert_eq!(found, [("mode", Some("755")), ("newinstance", None), context, ("size", Some("64k"))]);
        assert_eq!(options("").count(), 0);
    }

    #[test]
    fn access_time_is_one_field() {
        let change = |set, clear| changes(MountFlags { set, clear });
        assert_eq!(change(MsFlags::MS_NOATIME, MsFlags::empty()), (0x10, 0x70));
        assert_eq!(change(MsFlags::MS_STRICTATIME, MsFlags::empty()), (0x20, 0x70));
        assert_eq!(change(MsFlags::MS_RELATIME, MsFlags::empty()), (0, 0x70));
        assert_eq!(change(MsFlags::empty(), MsFlags::MS_NOATIME), (0, 0x70));
        assert_eq!(change(MsFlags::MS_RDONLY | MsFlags::MS_NOSUID, MsFlags::MS_NOEXEC), (3, 8));
        assert_eq!(change(MsFlags::MS_SYNCHRONOUS, MsFlags::empty()), (0, 0), "not a flag of the mount");
    }
}
