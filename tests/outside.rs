//! What a container has of the world outside it, there and back: its network and whom it shares it with, connections,
//! mounts, files, terminals, cgroups.
//!
//! Each test that has to do with the network has a network namespace of its own for a host ([`host::Host`]).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

#[path = "outside/cgroups.rs"]
mod cgroups;
#[path = "outside/handed.rs"]
mod handed;
#[path = "outside/host.rs"]
mod host;
#[path = "outside/joined.rs"]
mod joined;
#[path = "outside/lock.rs"]
mod lock;
#[path = "outside/made.rs"]
mod made;

#[path = "outside/mounts.rs"]
mod mounts;
#[path = "outside/tcp.rs"]
mod tcp;

mod support;
