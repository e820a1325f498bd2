//! Places of snapshots, as they are typed.

use std::path::Path;

use anyhow::bail;
use floe_snapshot_format::{Archive, ArchivePath, Destination, Directory, DirectoryPath, Source};

/// How a folder of CRIU's images is written.
const FOLDER: &str = "dir:";

/// How the kinds of places begin that later versions will know.
const LATER: [&str; 6] = ["oci:", "oci://", "repo:", "ssh://", "tls://", "tcp://"];

/// Opens the snapshot at a place.
pub fn source(place: &str) -> anyhow::Result<Box<dyn Source>> {
    match place.strip_prefix(FOLDER) {
        Some(folder) => Ok(Box::new(Directory::open(Path::new(folder))?)),
        None => Ok(Box::new(Archive::open(path(place)?)?)),
    }
}

/// Where a snapshot is to go. Nothing is made there yet.
pub fn destination(place: &str) -> anyhow::Result<Box<dyn Destination>> {
    match place.strip_prefix(FOLDER) {
        Some(folder) => Ok(Box::new(DirectoryPath::new(folder))),
        None => Ok(Box::new(ArchivePath(path(place)?.to_owned()))),
    }
}

/// A place that names no other kind is an archive's path.
fn path(place: &str) -> anyhow::Result<&Path> {
    if place == "-" || LATER.iter().any(|kind| place.starts_with(kind)) {
        bail!(
            "{place}: this floe keeps snapshots in archive files and folders; name a path such as web.tar.zst or dir:web"
        );
    }
    Ok(Path::new(place))
}
