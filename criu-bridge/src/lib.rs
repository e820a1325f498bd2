//! Dump and restore of containers through CRIU.
//!
//! CRIU does the kernel's part: it stops a tree of processes, reads everything that the kernel knows of them and
//! makes it anew. This crate does the rest of the work around it, in both directions:
//!
//! ```text
//!   container ─► collect ─► criu swrk ─► pages  (socket pair)  ─► PageReceiver ─► Sink
//!                              │      └► images (tmpfs)        ─────────────────► Sink
//!   Source ─► verified unpack into a tmpfs ─► criu swrk ─► container
//! ```
//!
//! What a reader should know before changing anything here:
//!
//! - A container that could not be checkpointed runs on. The last moment to say "no" is the `post-dump`
//!   notification; what must not be lost is on disk before that is answered.
//! - CRIU is asked to stop, never killed first: a killed CRIU cannot take its parasite out of the tasks.
//! - Nothing in a snapshot names a place on this host. What a restore opens outside the container comes from the
//!   bundle that the caller accepted, from this host's own record ([`record`]), or from the caller's descriptors.

mod apart;
pub mod application;
pub mod cancel;
pub mod checkpoint;
pub mod criu;
mod error;
pub mod extra;
pub mod failure;
pub mod find;
pub mod given;
mod leftover;
mod netlink;
pub mod outside;
pub mod pages;
pub mod parasite;
pub mod preflight;
pub mod progress;
pub mod record;
pub mod restore;
mod scratch;
pub mod session;
mod sys;
pub mod tasks;
pub mod version;
mod work;

pub use cancel::Cancel;
pub use criu::Criu;
pub use error::{Error, Result};
pub use preflight::Blocker;
pub use progress::{Phase, Progress};
