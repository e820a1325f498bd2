//! Mounts that are made first and attached when they are complete.
//!
//! With the mount calls of Linux 5.2 and 5.12 (`fsopen(2)`, `open_tree(2)`, `mount_setattr(2)`, `move_mount(2)`) a
//! mount has all its flags before anybody can see it, and is attached to a descriptor. So there is no second lookup
//! of its path between mounting and setting flags that could end elsewhere (CVE-2021-30465).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::MsFlags;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags as Attr, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
    move_mount, open_tree,
};

use crate::config::{MountFlags, NO_SYMLINK_FOLLOW, Propagation};
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

    /// As [`Detached::copy_of_path`]; a link at the end of `source` is not followed but bound.
    pub(super) fn copy_of_link(source: &Path, recursive: bool) -> Result<Self> {
        let flags = tree_flags(recursive) | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        open_tree(CWD, source, flags).map(Self).map_err(Error::at("bind", source))
    }

    /// A tree that another process has made.
    pub(super) fn given(tree: OwnedFd) -> Self {
        Self(tree)
    }

    /// Its descriptor, for another process.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.0
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

    /// Gives a bind mount the flags that its options ask for, as [`MountFlags`] has it: those and no others, where the
    /// kernel lets go of the others.
    pub(super) fn choose(&self, flags: MountFlags, name: &Path) -> Result<()> {
        if flags.is_empty() {
            return Ok(());
        }
        let mut all = MountFlags { set: flags.set, clear: flags.clear };
        all.clear.insert(UNLESS_ASKED.difference(flags.set));
        if flags.set.intersects(ACCESS_TIME) {
            all.clear.insert(MsFlags::MS_NODIRATIME.difference(flags.set));
        }
        match self.change(all, false, name) {
            Err(Error::Call { source, .. }) if source.raw_os_error() == Some(nix::libc::EPERM) => {}
            other => return other,
        }
        // Some of them are locked (mount_namespaces(7)): only what was expressly asked for, then. Not following links is
        // never locked.
        let mut named = flags;
        named.clear.insert(NO_SYMLINK_FOLLOW.difference(flags.set));
        self.change(named, false, name)
    }

    /// The ids of its files are those that `user_namespace` maps them to. With `recursive` also of what is mounted below.
    pub(super) fn map_ids(&self, user_namespace: BorrowedFd<'_>, recursive: bool, name: &Path) -> Result<()> {
        let attr = MountAttr {
            set: u64::from(Attr::MOUNT_ATTR_IDMAP.bits()),
            userns_fd: u64::try_from(user_namespace.as_raw_fd()).unwrap_or(u64::MAX),
            ..MountAttr::default()
        };
        mount_setattr(self.as_fd(), recursive, &attr).map_err(|errno| match errno {
            nix::errno::Errno::EINVAL => Error::Refused {
                problem: format!(
                    "cannot map the ids of {}: its file system does not do that on this kernel, or it is mapped already",
                    name.display()
                ),
                hint: "take the mapping out of `mounts` in config.json, or use another file system",
            },
            errno => Error::call("map the ids of", name.display(), errno),
        })
    }

    /// Changes flags and options of the file system that is mounted there, as `mount -o remount` does.
    pub(super) fn reconfigure(&self, flags: MountFlags, data: &str, name: &Path) -> Result<()> {
        let context = fspick(&self.0, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)
            .map_err(Error::at("fspick", name))?;
        let opposite = [
            (MsFlags::MS_RDONLY, "rw"),
            (MsFlags::MS_SYNCHRONOUS, "async"),
            (MsFlags::MS_MANDLOCK, "nomand"),
            (MsFlags::MS_LAZYTIME, "nolazytime"),
        ];
        let cleared = opposite.iter().filter(|(flag, _)| flags.clear.contains(*flag));
        let configured = set_options(&context, flags.set, data)
            .and_then(|()| {
                cleared.into_iter().try_for_each(|(_, option)| fsconfig_set_flag(&context, *option))
            })
            .and_then(|()| fsconfig_reconfigure(&context));
        configured
            .map_err(|error| explained(&context, &format!("(again) at {}", name.display()), data, error))?;
        self.change(flags, false, name)
    }

    /// Whether it is the root of a mount. `statx(2)`, Linux 5.8.
    pub(super) fn is_mount(&self, name: &Path) -> Result<bool> {
        let about =
            statx(&self.0, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(Error::at("statx", name))?;
        Ok(about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
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
///
/// `MS_I_VERSION` is not among them: file systems that count versions do so by themselves, and the kernel has no general
/// option for it any more. `MS_SILENT` is about the kernel's log.
const OF_THE_FILE_SYSTEM: [(MsFlags, &str); 5] = [
    (MsFlags::MS_RDONLY, "ro"),
    (MsFlags::MS_SYNCHRONOUS, "sync"),
    (MsFlags::MS_DIRSYNC, "dirsync"),
    (MsFlags::MS_MANDLOCK, "mand"),
    (MsFlags::MS_LAZYTIME, "lazytime"),
];

/// The three values of the time of access.
const ACCESS_TIME: MsFlags = MsFlags::MS_NOATIME.union(MsFlags::MS_STRICTATIME).union(MsFlags::MS_RELATIME);

/// What a bind mount with flags of its own does not take over from its source.
const UNLESS_ASKED: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NOSUID)
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(NO_SYMLINK_FOLLOW);

fn configure(context: &OwnedFd, label: &Path, flags: MsFlags, data: &str) -> Result<(), Errno> {
    fsconfig_set_string(context, "source", label)?;
    set_options(context, flags, data)?;
    fsconfig_create(context)
}

fn set_options(context: &OwnedFd, flags: MsFlags, data: &str) -> Result<(), Errno> {
    for (flag, name) in OF_THE_FILE_SYSTEM {
        if flags.contains(flag) {
            fsconfig_set_flag(context, name)?;
        }
    }
    for (key, value) in options(data) {
        match value {
            Some(value) if value.len() > VALUE_MAX => return Err(Errno::TOOBIG),
            Some(value) => fsconfig_set_string(context, key, value)?,
            None => fsconfig_set_flag(context, key)?,
        }
    }
    Ok(())
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
        (NO_SYMLINK_FOLLOW, Attr::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let bits = |of: MsFlags| {
        let chosen = plain.iter().filter(|(flag, _)| of.contains(*flag));
        chosen.fold(0, |all, (_, attr)| all | u64::from(attr.bits()))
    };
    let (mut set, mut clear) = (bits(flags.set), bits(flags.clear));
    // One field: whichever value is chosen, the others go. Taking one back means the kernel's default, relatime (0).
    if (flags.set | flags.clear).intersects(ACCESS_TIME) {
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
