//! Device nodes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a node in `/dev` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A character device (OCI `c` and `u`).
    Char,
    /// A block device (OCI `b`).
    Block,
    /// A named pipe (OCI `p`); it has no numbers.
    Fifo,
}

/// A node that is made in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number; 0 for a fifo.
    pub major: u32,
    /// Minor number; 0 for a fifo.
    pub minor: u32,
    /// Permission bits, without file type.
    pub mode: u32,
    /// Owner inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}

/// The nodes that the OCI runtime specification ("Default Devices" in `config-linux.md`) gives every container.
/// `/dev/console` and `/dev/ptmx` of that list belong to the terminal and to devpts and aren't nodes of this kind.
#[must_use]
pub fn default_devices() -> Vec<Device> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .into_iter()
        .map(|(name, major, minor)| Device {
            path: PathBuf::from("/dev").join(name),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect()
}
