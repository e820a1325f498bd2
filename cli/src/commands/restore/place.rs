//! Where the snapshot comes from, and what it is restored with.

use std::path::PathBuf;

use clap::Args;

/// The place, and the bundle.
#[derive(Debug, Args)]
pub struct Place {
    /// The archive to read.
    #[arg(long, value_name = "PLACE")]
    pub from: String,
    /// The bundle that gives root file system and configuration; by default the one that this host remembers.
    #[arg(long, short, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
}
