//! Where the snapshot goes: to a place of any kind, or into a folder in runc's form.

use std::path::{Component, Path, PathBuf};

use anyhow::bail;
use clap::Args;

/// The place.
#[derive(Debug, Args)]
pub struct Place {
    /// The place to write to: an archive's path, or dir:PATH.
    #[arg(long, value_name = "PLACE")]
    to: Option<String>,
    /// The folder of images to write, in runc's form; without --to and this one, ./checkpoint.
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    image_path: Option<PathBuf>,
    /// A folder that gets CRIU's log and figures, whether it succeeds or not.
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Dump memory only, and let the container run on: the first round of a dump in several.
    #[arg(long, conflicts_with = "to")]
    pub pre_dump: bool,
    /// The folder of the round before, relative to that of the images.
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    pub parent_path: Option<PathBuf>,
    /// Accepted for compatibility: the images of the round before are only read.
    #[arg(long, hide = true)]
    pub auto_dedup: bool,
}

/// The folder that runc writes to where none is named.
pub const USUAL: &str = "checkpoint";

/// Where a snapshot goes or comes from, as it was typed.
#[derive(Debug)]
pub enum Typed<'a> {
    /// A place of floe's.
    Place(&'a str),
    /// A folder, in runc's form.
    Images(&'a Path),
}

impl<'a> Typed<'a> {
    /// Of both flags.
    pub fn of(place: Option<&'a str>, images: Option<&'a Path>) -> Self {
        match (place, images) {
            (Some(place), _) => Self::Place(place),
            (None, Some(images)) => Self::Images(images),
            (None, None) => Self::Images(Path::new(USUAL)),
        }
    }

    /// Whether the caller speaks as to runc.
    pub fn is_runcs(&self) -> bool {
        matches!(self, Self::Images(_))
    }
}

impl Place {
    /// The folder of the round before, as it is reached from here.
    pub fn before(&self) -> anyhow::Result<Option<PathBuf>> {
        let (Typed::Images(images), Some(parent)) = (self.typed(), &self.parent_path) else {
            return Ok(None);
        };
        if parent.is_absolute() {
            bail!(
                "--parent-path {}: it is relative to the folder of images, so that both can be moved; name it as ../NAME",
                parent.display()
            );
        }
        // The folder of images need not be there yet.
        let mut place = match std::fs::canonicalize(images) {
            Ok(place) => place,
            Err(_) => std::path::absolute(images)?,
        };
        for part in parent.components() {
            match part {
                Component::ParentDir => drop(place.pop()),
                Component::Normal(name) => place.push(name),
                _ => {}
            }
        }
        Ok(Some(place))
    }

    /// Where it goes.
    pub fn typed(&self) -> Typed<'_> {
        Typed::of(self.to.as_deref(), self.image_path.as_deref())
    }
}
