//! A folder of CRIU's images, laid out as runc does.
//!
//! ```text
//!   DIR/inventory.img, core-1.img, pages-1.img …   what CRIU wrote, plain; runc, crun and `criu restore` read it
//!   DIR/descriptors.json                           runc's: what descriptors 0 to 2 of the first process led to
//!   DIR/dump.log, DIR/stats-dump                   where runc has them unless it is given a work path
//!   DIR/floe/floe.json                             the manifest, with a BLAKE3 of every file
//!   DIR/floe/spec.dump …                           what an archive holds beside `checkpoint/`
//! ```
//!
//! Other programs don't look into `floe/`, so the folder is theirs as much as ours. One without it is read as well
//! ([`foreign`]): its manifest is made of its images, and nothing in it can be checked but its structure.
//!
//! A folder appears under its name when it is whole and synced. One that is there already is filled, as runc fills it:
//! a snapshot in it is replaced, whatever else is in it stays ([`staging`]).

mod foreign;
mod sink;
mod source;
mod staging;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub use source::Directory;

use crate::MANIFEST_NAME;
use crate::archive_file::{Sealed, WriterOptions};
use crate::error::{Error, Result};
use crate::limits;
use crate::manifest::{Head, Manifest};
use crate::sink::{Destination, Sink};

/// The folder of what is floe's own.
const OWN: &str = "floe";

/// CRIU's link to the folder of the dump before.
const PARENT: &str = "parent";

/// The folder of the images among an archive's members.
const IMAGES: &str = "checkpoint";

/// What runc has beside the images.
const BESIDE: [&str; 2] = ["dump.log", "stats-dump"];

/// Where the member `name` lies in the folder; empty for the folder itself.
fn place_of(name: &str) -> PathBuf {
    match name.strip_prefix(IMAGES) {
        Some("") => PathBuf::new(),
        Some(rest) if rest.starts_with('/') => PathBuf::from(&rest[1..]),
        _ if BESIDE.contains(&name) => PathBuf::from(name),
        _ => Path::new(OWN).join(name),
    }
}

/// Whether a file or folder of this name in the folder is part of a snapshot.
fn is_part(name: &str) -> bool {
    name.ends_with(".img") || matches!(name, OWN | PARENT | "descriptors.json") || BESIDE.contains(&name)
}

/// Reads a manifest.
fn manifest_of(text: &[u8], path: &Path) -> Result<Manifest> {
    let manifest: Manifest = serde_json::from_slice(text).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        at: 0,
        part: crate::Part::Manifest,
        what: error.to_string(),
    })?;
    if manifest.format > crate::FORMAT_VERSION {
        return Err(Error::TooNew {
            path: path.to_owned(),
            found: manifest.format,
            known: crate::FORMAT_VERSION,
        });
    }
    if manifest.members.len() > limits::MEMBERS {
        return Err(Error::Limit { what: "the number of members", limit: limits::MEMBERS as u64 });
    }
    Ok(manifest)
}

/// The folder that a snapshot is to become, or to be put into.
#[derive(Debug)]
pub struct DirectoryPath {
    path: PathBuf,
    /// Whether the folder was made for the snapshot.
    fresh: AtomicBool,
    /// Where the folder of the dump before lies, from this one.
    parent: Option<PathBuf>,
}

impl DirectoryPath {
    /// The folder `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), fresh: AtomicBool::new(false), parent: None }
    }

    /// The folder `path`, with a link by which CRIU finds the dump before, `parent` from there.
    pub fn with_parent(path: impl Into<PathBuf>, parent: impl Into<PathBuf>) -> Self {
        Self { parent: Some(parent.into()), ..Self::new(path) }
    }
}

impl Destination for DirectoryPath {
    fn begin(&self, _: &Head, options: WriterOptions) -> Result<Box<dyn Sink>> {
        let staging = staging::Staging::create(&self.path)?;
        self.fresh.store(staging.is_fresh(), Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            let link = staging.folder().join(PARENT);
            std::os::unix::fs::symlink(parent, &link)
                .map_err(|source| Error::io("link", &self.path, source))?;
        }
        Ok(Box::new(sink::DirectorySink::new(staging, options)?))
    }

    fn take_back(&self, sealed: &Sealed) -> Result<()> {
        let folder = &sealed.path;
        let path = folder.join(OWN).join(MANIFEST_NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::io("read", &path, source)),
        };
        if *blake3::hash(&text).to_hex() != *sealed.manifest_digest {
            // Somebody else's by now.
            return Ok(());
        }
        // Without the inventory nobody takes it for a snapshot, however far this comes.
        let members = manifest_of(&text, &path)?.members;
        let (inventory, others): (Vec<_>, Vec<_>) =
            members.iter().partition(|member| member.name.as_str().ends_with("/inventory.img"));
        for member in inventory.into_iter().chain(others) {
            let path = folder.join(place_of(member.name.as_str()));
            if member.kind == crate::MemberKind::File
                && let Err(source) = std::fs::remove_file(&path)
                && source.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::io("remove", &path, source));
            }
        }
        if self.parent.is_some() {
            let _ = std::fs::remove_file(folder.join(PARENT));
        }
        let own = folder.join(OWN);
        std::fs::remove_dir_all(&own).map_err(|source| Error::io("remove", &own, source))?;
        if self.fresh.load(Ordering::Relaxed) {
            // What somebody else put into it meanwhile stays, and the folder with it.
            let _ = std::fs::remove_dir(folder);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_where_runc_has_them_and_the_rest_is_ours() {
        for (name, place) in [
            ("checkpoint", ""),
            ("checkpoint/pages-1.img", "pages-1.img"),
            ("checkpoint/descriptors.json", "descriptors.json"),
            ("dump.log", "dump.log"),
            ("stats-dump", "stats-dump"),
            ("spec.dump", "floe/spec.dump"),
            ("volumes/a.tar", "floe/volumes/a.tar"),
            ("checkpointed", "floe/checkpointed"),
        ] {
            assert_eq!(place_of(name), Path::new(place), "{name}");
        }
    }
}
