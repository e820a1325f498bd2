//! What becomes of the container.

use clap::Args;

/// What becomes of the container.
#[derive(Debug, Args)]
pub struct After {
    /// Let the container go on afterwards.
    #[arg(long, short = 'R')]
    pub leave_running: bool,
}
