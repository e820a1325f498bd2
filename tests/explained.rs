//! What CRIU cannot take: `floe check` says so beforehand, `floe checkpoint` and `floe restore` refuse it, and when they
//! are told to go on all the same, CRIU's failure is told as cause and remedy, and the container runs on.
//!
//! Each case is a real process in a real container, and a real CRIU. `docs/failures.md` has a row for each message.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic, its helpers too")]

mod support;

#[path = "explained/document.rs"]
mod document;
#[path = "explained/dumps.rs"]
mod dumps;
#[path = "explained/restores.rs"]
mod restores;
