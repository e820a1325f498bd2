//! Mounts.

use std::path::PathBuf;

use nix::mount::MsFlags;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Hook, IdMapping};

/// `MS_NOSYMFOLLOW` (`include/uapi/linux/mount.h`, Linux 5.10), which nix doesn't name: links on the file system are
/// not followed.
pub const NO_SYMLINK_FOLLOW: MsFlags = MsFlags::from_bits_retain(0x100);

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// The source (a host path) at a second place.
    Bind {
        /// With everything that is mounted below it (`MS_REC`).
        recursive: bool,
    },
    /// The cgroup hierarchies as the container sees them: on v1 a tmpfs with one directory a hierarchy, on v2 the
    /// unified one.
    Cgroup,
    /// A new instance of a file system of this type: `proc`, `tmpfs`, `devpts`…
    Filesystem(String),
    /// Nothing new: what is mounted at the destination already gets other flags and options (`MS_REMOUNT`).
    Remount {
        /// The mount's own flags only (`MS_REMOUNT | MS_BIND`); otherwise the file system's too.
        bind: bool,
    },
}

/// Propagation of mount events, see `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// In both directions.
    Shared {
        /// Also for everything mounted below (`MS_REC`).
        recursive: bool,
    },
    /// From the peer here only.
    Slave {
        /// Also for everything mounted below (`MS_REC`).
        recursive: bool,
    },
    /// None.
    Private {
        /// Also for everything mounted below (`MS_REC`).
        recursive: bool,
    },
    /// None, and it can't be bound elsewhere.
    Unbindable {
        /// Also for everything mounted below (`MS_REC`).
        recursive: bool,
    },
}

impl Propagation {
    /// The flags for `mount(2)`.
    #[must_use]
    pub fn flags(self) -> MsFlags {
        let (flag, recursive) = match self {
            Self::Shared { recursive } => (MsFlags::MS_SHARED, recursive),
            Self::Slave { recursive } => (MsFlags::MS_SLAVE, recursive),
            Self::Private { recursive } => (MsFlags::MS_PRIVATE, recursive),
            Self::Unbindable { recursive } => (MsFlags::MS_UNBINDABLE, recursive),
        };
        if recursive { flag | MsFlags::MS_REC } else { flag }
    }
}

/// Flags that are set and flags that are expressly cleared.
///
/// A bind mount for which neither is given keeps its source's flags. Otherwise it has those that are set and no others,
/// as runc and `mount --bind -o` have it: only where the kernel does not let go of one (a user namespace, and a mount
/// that comes from outside of it) and nobody asked for that, it stays. A time of access that is not named is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags {
    /// Flags to set, of `MS_RDONLY`, `MS_NOSUID`, `MS_NODEV`, `MS_NOEXEC`, `MS_NOATIME`, `MS_RELATIME`,
    /// `MS_STRICTATIME`, `MS_NODIRATIME`, `MS_SYNCHRONOUS`, `MS_DIRSYNC`, `MS_MANDLOCK`, `MS_LAZYTIME`, `MS_I_VERSION`,
    /// `MS_SILENT`, [`NO_SYMLINK_FOLLOW`].
    #[serde(with = "bits")]
    pub set: MsFlags,
    /// Flags to clear, of the same; disjoint from `set`.
    #[serde(with = "bits")]
    pub clear: MsFlags,
}

impl Default for MountFlags {
    fn default() -> Self {
        Self { set: MsFlags::empty(), clear: MsFlags::empty() }
    }
}

impl MountFlags {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }
}

/// Whose the files of a bind mount are as they are seen through it: `MOUNT_ATTR_IDMAP` of `mount_setattr(2)`, Linux
/// 5.12. Which file systems can do it depends on the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountIds {
    /// For each id on the file system the one that stands for it; `None` takes the map of the container's user
    /// namespace.
    pub maps: Option<IdMaps>,
    /// Also for everything mounted below the source (`ridmap`).
    pub recursive: bool,
}

/// A map of users and one of groups, both with at least one range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Users: `container` is the id on the file system, `host` the one outside of every user namespace.
    pub uids: Vec<IdMapping>,
    /// Groups, alike.
    pub gids: Vec<IdMapping>,
}

/// What happens when the source of a bind mount is a symbolic link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceLink {
    /// What it leads to is bound.
    #[default]
    Follow,
    /// The link itself is bound (crun's `src-nofollow`).
    Bind,
    /// A link of the same content is made at the destination, and nothing is bound (crun's `copy-symlink`).
    Copy,
}

/// The SELinux label of a bind mount's source is changed to that of the container's mounts (libcontainer's `relabel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relabel {
    /// Without the categories, so that other containers may use it too.
    #[serde(rename = "z")]
    Shared,
    /// With them.
    #[serde(rename = "Z")]
    Private,
}

/// One mount of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, an absolute path inside the container; resolved beneath the root.
    pub destination: PathBuf,
    /// What: for a bind mount an absolute path on the host; else a label that `/proc/mounts` shows.
    pub source: Option<PathBuf>,
    /// Of which kind.
    pub kind: MountKind,
    /// Flags of this mount.
    pub flags: MountFlags,
    /// Flags for this mount and everything below it (OCI options such as `rro`), by `mount_setattr(2)`, Linux 5.12.
    pub recursive_flags: MountFlags,
    /// Changes of propagation, made in this order after mounting.
    pub propagation: Vec<Propagation>,
    /// Options of the file system itself, comma-separated.
    pub data: String,
    /// For a tmpfs: fill it with what the directory under it holds (runc's `tmpcopyup`).
    pub copy_up: bool,
    /// For a bind mount: whose the files are.
    #[serde(default)]
    pub ids: Option<MountIds>,
    /// For a bind mount whose source is a link.
    #[serde(default)]
    pub source_link: SourceLink,
    /// For a bind mount whose destination is a link: it is covered itself instead of what it leads to (crun's
    /// `dest-nofollow`).
    #[serde(default)]
    pub destination_link: bool,
    /// For a bind mount, on a host with SELinux.
    #[serde(default)]
    pub relabel: Option<Relabel>,
    /// Programs that run before it is mounted, in the container's namespaces and with the host's files (libcontainer's
    /// `premount_cmds`).
    #[serde(default)]
    pub before: Vec<Hook>,
    /// The same, after it is mounted (libcontainer's `postmount_cmds`).
    #[serde(default)]
    pub after: Vec<Hook>,
}

impl Mount {
    /// A mount without options: the source is bound, or named in `/proc/mounts`.
    #[must_use]
    pub fn new(destination: impl Into<PathBuf>, source: Option<PathBuf>, kind: MountKind) -> Self {
        Self {
            destination: destination.into(),
            source,
            kind,
            flags: MountFlags::default(),
            recursive_flags: MountFlags::default(),
            propagation: Vec::new(),
            data: String::new(),
            copy_up: false,
            ids: None,
            source_link: SourceLink::Follow,
            destination_link: false,
            relabel: None,
            before: Vec::new(),
            after: Vec::new(),
        }
    }
}

/// [`MsFlags`] as a number, since nix gives it no serde form.
mod bits {
    use super::{Deserialize, Deserializer, MsFlags, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(flags: &MsFlags, serializer: S) -> Result<S::Ok, S::Error> {
        flags.bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MsFlags, D::Error> {
        Ok(MsFlags::from_bits_retain(Deserialize::deserialize(deserializer)?))
    }
}
