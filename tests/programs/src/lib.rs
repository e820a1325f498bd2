//! Programs that floe's tests freeze, and that check themselves afterwards.
//!
//! Each of them is a process (or a hundred) inside a container. It builds a state, says `ready` in a folder of its
//! root file system ([`door`]), and then answers questions that a test puts into that folder, as often as it is
//! asked: before a checkpoint, after it, and after every restore. What it expects to find is deterministic
//! ([`seed`]) or was recorded in its own memory, so an answer of `ok` means that memory, descriptors, timers, signals
//! and relations came back as they were.
//!
//! | program | what it holds |
//! |---|---|
//! | `process-tree` | a hundred processes with everything between them that a checkpoint has to carry ([`tree`]) |
//! | `memory-map` | an amount of memory, a steady map of it, and a heartbeat |
//! | `hazard` | one thing that CRIU cannot dump ([`hazard`]) |
//! | `stdio-writer` | its three standard streams |
//! | `connected` | one thing that a checkpoint takes only when it is told to |

pub mod board;
pub mod door;
pub mod hazard;
pub mod portrait;
pub mod report;
pub mod seed;
pub mod sys;
pub mod tree;
