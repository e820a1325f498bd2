//! `checkpoint` and `restore` as an engine calls runc, and images that the one writes and the other restores.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "runc_form/flags.rs"]
mod flags;
#[path = "runc_form/interop.rs"]
mod interop;
#[path = "runc_form/places.rs"]
mod places;

mod support;

use std::path::Path;

/// A path as a word.
fn word(path: &Path) -> String {
    path.display().to_string()
}
