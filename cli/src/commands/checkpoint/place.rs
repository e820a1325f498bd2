//! Where the snapshot goes.

use clap::Args;

/// The place.
#[derive(Debug, Args)]
pub struct Place {
    /// The archive to write.
    #[arg(long, value_name = "PLACE")]
    pub to: String,
}
