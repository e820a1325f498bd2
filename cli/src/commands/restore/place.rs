//! Where the snapshot comes from, and what it is restored with.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::checkpoint::place::Typed;

/// The place, and the bundle.
#[derive(Debug, Args)]
pub struct Place {
    /// The place to read from: an archive's path, or dir:PATH.
    #[arg(long, value_name = "PLACE")]
    from: Option<String>,
    /// The folder of images to read, in runc's form; without --from and this one, ./checkpoint.
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    image_path: Option<PathBuf>,
    /// A folder that gets CRIU's log and figures, whether it succeeds or not; with --image-path, by default that one.
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// The bundle that gives root file system and configuration; by default, in runc's form the working directory if it
    /// is one, else the one that this host remembers.
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

impl Place {
    /// Where it comes from.
    pub fn typed(&self) -> Typed<'_> {
        Typed::of(self.from.as_deref(), self.image_path.as_deref())
    }

    /// Where CRIU's log goes.
    pub fn work(&self) -> Option<PathBuf> {
        match (self.typed(), &self.work_path) {
            (_, Some(work)) => Some(work.clone()),
            (Typed::Images(folder), None) => Some(folder.to_owned()),
            _ => None,
        }
    }

    /// The bundle, if there is one to be taken.
    pub fn bundle(&self) -> Option<PathBuf> {
        // An engine says `--bundle ''` for the working directory, as it may to runc.
        let named = self.bundle.clone().filter(|bundle| !bundle.as_os_str().is_empty());
        let here = || {
            let is_one = self.typed().is_runcs() && Path::new("config.json").exists();
            is_one.then(|| PathBuf::from("."))
        };
        named.or_else(here)
    }
}
