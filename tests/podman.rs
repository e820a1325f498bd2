//! podman with floe as its runtime: what people and units do with it, on the real kernel. Debian's podman has
//! conmon between itself and the runtime, so this is what CRI-O sees of a runtime too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "podman/archives.rs"]
mod archives;
#[path = "podman/checkpoint.rs"]
mod checkpoint;
#[path = "podman/confinement.rs"]
mod confinement;
#[path = "podman/engine.rs"]
mod engine;
#[path = "podman/life.rs"]
mod life;
#[path = "podman/pods.rs"]
mod pods;
#[path = "podman/terminal.rs"]
mod terminal;

mod support;
