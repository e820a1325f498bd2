//! The look before the work: a flag that `checkpoint` and `restore` share.

use clap::Args;

/// Whether anything is looked for before.
#[derive(Debug, Args)]
pub struct Looked {
    /// Begin without looking first for what CRIU refuses; what it finds is told afterwards.
    #[arg(long)]
    pub no_check: bool,
}
