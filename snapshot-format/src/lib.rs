//! The snapshot of a container as bytes: the archive, its manifest, its index, and the images of CRIU in it.
//!
//! A floe archive is an ordinary `.tar.zst` that is cut so that every byte of it can be reached and checked by
//! itself:
//!
//! ```text
//!   zstd frame   tar: floe-head.json (what this is, from the first bytes)
//!   zstd frames  tar: config.dump, spec.dump, checkpoint/, checkpoint/pages-1.img …   each member's data starts
//!   …                 a frame; page frames hold up to WriterOptions::frame_size bytes
//!   zstd frames  tar: floe-index   offset, size and BLAKE3 of every frame before it, in blocks
//!   zstd frames  tar: floe.json    the manifest, with the digests of the index's own frames; end of the tar
//!   skippable    the seal: where the manifest lies, and the digest of its frames and of the table
//!   skippable    the seek table of the zstd seekable format
//! ```
//!
//! Every byte is covered: page and image frames by the index, the index by the manifest, the manifest and the table
//! by the seal, the seal by its own digest. That stops accidents; against forgers the manifest is to be signed.
//!
//! This crate knows bytes only: no containers, no system calls beyond the standard library's files (but for one
//! place, `place.rs`, that gives a finished file its name), no `unsafe`. It is silent; progress goes to a trait.
#![forbid(unsafe_code)]

mod archive;
mod archive_file;
pub mod criu;
mod cutter;
mod directory;
mod error;
#[cfg(test)]
mod forged;
mod frame;
mod frames;
mod index;
pub mod limits;
mod manifest;
mod name;
mod open;
mod pipeline;
mod place;
mod priority;
mod progress;
mod roster;
mod sink;
mod slab;
mod source;
mod spool;
mod tarball;
mod unpack;

pub use archive::Archive;
pub use archive_file::{ArchiveFile, ArchivePath, Sealed, WriterOptions};
pub use directory::{Directory, DirectoryPath};
pub use error::{Error, Part, Result};
pub use manifest::{
    Area, AreaKind, Container, Cpu, Descriptor, FORMAT_VERSION, FrameRef, Head, Index, Manifest, Member,
    MemberKind, OpenFile, Socket, Stats, Task, Tool,
};
pub use name::MemberName;
pub use progress::{Progress, Unheard};
pub use sink::{Complete, Destination, Sink};
pub use source::{Contents, Source, Verified};

/// Name of the member that says what an archive is.
pub const HEAD_NAME: &str = "floe-head.json";
/// Name of the index member.
pub const INDEX_NAME: &str = "floe-index";
/// Name of the manifest, the last member.
pub const MANIFEST_NAME: &str = "floe.json";
