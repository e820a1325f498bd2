//! Places of snapshots, as they are typed.

use std::path::Path;

use anyhow::bail;
use floe_snapshot_format::{Archive, ArchivePath, Destination, Source};

/// How the kinds of places begin that later versions will know.
const LATER: [&str; 7] = ["dir:", "oci:", "oci://", "repo:", "ssh://", "tls://", "tcp://"];

/// Opens the snapshot at a place.
pub fn source(place: &str) -> anyhow::Result<Box<dyn Source>> {
    Ok(Box::new(Archive::open(path(place)?)?))
}

/// Where a snapshot is to go. Nothing is made there yet.
pub fn destination(place: &str) -> anyhow::Result<Box<dyn Destination>> {
    Ok(Box::new(ArchivePath(path(place)?.to_owned())))
}

/// A place is an archive's path, until other kinds are there.
fn path(place: &str) -> anyhow::Result<&Path> {
    if place == "-" || LATER.iter().any(|kind| place.starts_with(kind)) {
        bail!("{place}: this floe keeps snapshots in archive files only; name a path such as web.tar.zst");
    }
    Ok(Path::new(place))
}
