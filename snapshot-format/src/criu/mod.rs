//! CRIU's images, as far as floe reads or changes them.
//!
//! An image is a magic number (of all images, then of its kind) and messages, each behind its length as a u32 in
//! little endian. Images are data from outside: lengths are checked before anything is done with them, and no content
//! makes a panic. Fields that are not known here are kept when a message is written again.

pub mod cgroups;
pub mod core;
pub mod files;
mod framing;
pub mod ids;
pub mod memory;
pub mod mounts;
pub mod pagemap;
pub mod remap;
pub mod sockets;
pub mod stats;
pub mod tasks;

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, missing_debug_implementations)]
pub(crate) mod images {
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
    pub(crate) use self::images::*;
}
