//! Mounts.

use std::path::PathBuf;

use nix::mount::MsFlags;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// Flags that are set and flags that are expressly cleared. What is in neither keeps its value where there is one
/// (a bind mount's source) and is off otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags {
    /// Flags to set, of `MS_RDONLY`, `MS_NOSUID`, `MS_NODEV`, `MS_NOEXEC`, `MS_NOATIME`, `MS_RELATIME`,
    /// `MS_STRICTATIME`, `MS_NODIRATIME`, `MS_SYNCHRONOUS`, `MS_DIRSYNC`, `MS_MANDLOCK`, `MS_LAZYTIME`, `MS_I_VERSION`,
    /// `MS_SILENT`.
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
