//! What is known of a container between two calls: its folder below the state directory.
//!
//! | file | holds |
//! |---|---|
//! | `state.json` | the [`Record`]: replaced as a whole, never half written |
//! | `config.json` | the bundle's configuration as it was at the creation |
//! | `journal.json` | who is in the middle of what, while a checkpoint or a restore is made ([`Journal`]) |
//! | `network.json` | what was done for its network, and has to be undone; only if something was |
//! | `netns` | the container's network namespace, mounted while interfaces of the host are in it |
//! | `exec.fifo` | where the first process waits for `start` |
//!
//! Readers take no lock: a rename makes a file appear whole. Whoever changes something holds an flock(2) on the folder
//! itself, which ends with the holder.

mod folder;
mod journal;
mod record;

pub(crate) use folder::{Folder, HELD_NAMESPACE, Lock, RESTORE_ROOT};
pub use journal::Verb;
pub(crate) use journal::{FILE as JOURNAL, Journal};
pub(crate) use record::{ProcessId, Record};
