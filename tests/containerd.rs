//! containerd with floe as its runtime, through its shim for runc: what Docker and Kubernetes do with a runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "containerd/checkpoint.rs"]
mod checkpoint;
#[path = "containerd/engine.rs"]
mod engine;
#[path = "containerd/image.rs"]
mod oci_image;
#[path = "containerd/tasks.rs"]
mod tasks;

mod support;
