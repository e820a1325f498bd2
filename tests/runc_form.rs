//! `checkpoint` and `restore` as an engine calls runc, and images that the one writes and the other restores.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "runc_form/flags.rs"]
mod flags;
#[path = "runc_form/interop.rs"]
mod interop;
#[path = "runc_form/places.rs"]
mod places;

mod support;

use std::fs;
use std::path::Path;

use support::Place;
use support::program::Bundle;

/// A running container with a few MiB of memory, which checks itself.
fn running(place: &Place) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "4"]);
    let name = place.name("web");
    place.start(&name, bundle.path());
    bundle.ready();
    (bundle, name)
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A path as a word.
fn word(path: &Path) -> String {
    path.display().to_string()
}
