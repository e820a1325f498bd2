//! The container runtime: libcontainer's ideas in Rust.
//!
//! A container is a process with namespaces, a root file system, a cgroup and limits of its own. [`config::Config`]
//! says which; [`Store`] knows the containers of one state directory and makes new ones; a [`Container`] is started,
//! signalled, paused, joined by further processes and deleted. Nothing keeps running between two calls: all that is
//! known about a container is in its record below the state directory and in the kernel.
//!
//! ```text
//! Store::create ─► Created ─► start ─► Running ◄─► Paused
//!                     │                   │
//!                     └──── process ends ─┴──► Stopped ─► delete
//! ```
//!
//! The crate knows nothing of CRIU and of archives. What checkpointing needs from a runtime it offers as such: a
//! freezer ([`cgroup::Cgroup`]), a journal that is on disk before anything is frozen, and a [`Reservation`] of a name
//! for a container whose processes someone else brings to life.

mod bundle;
pub mod cgroup;
pub mod config;
pub mod console;
mod container;
pub mod error;
pub mod factory;
mod features;
pub mod foreground;
mod hooks;
mod id;
mod init;
pub mod keyring;
mod labels;
pub mod launch;
mod making;
mod network;
pub mod pidfd;
mod privilege;
mod proc;
mod resctrl;
mod rootfs;
mod scheduling;
mod seccomp;
mod state;
mod store;
mod sys;
mod undo;

pub use bundle::{Blueprint, read_bundle};
pub use container::{Container, ExecOptions, JournalGuard, OCI_VERSION, Status};
pub use error::{Error, Result};
pub use features::Features;
pub use id::ContainerId;
pub use init::init_main;
pub use making::Reservation;
pub use network::{InterfaceUse, NetlinkError, is_needed as network_is_made};
pub use privilege::{DEFAULT_ROOT, default_root};
pub use rootfs::{RestoreRoot, protect_restored};
pub use state::Verb;
pub use store::{CreateOptions, Store};
