//! The OCI verbs, through the binary and on the real kernel: containers with busybox, all their namespaces, cgroups
//! and limits. Each test has a stage of its own ([`stage::Stage`]) and fails when something of it is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "oci/attacks.rs"]
mod attacks;
#[path = "oci/bundle.rs"]
mod bundle;
#[path = "oci/confinement.rs"]
mod confinement;
#[path = "oci/crash.rs"]
mod crash;
#[path = "oci/errors.rs"]
mod errors;
#[path = "oci/exec.rs"]
mod exec;
#[path = "oci/life.rs"]
mod life;
#[path = "oci/limits.rs"]
mod limits;
#[path = "oci/native.rs"]
mod native;
#[path = "oci/repair.rs"]
mod repair;
#[path = "oci/stage.rs"]
mod stage;
#[path = "oci/terminal.rs"]
mod terminal;
#[path = "oci/update.rs"]
mod update;

mod support;
