//! What of the container may be more than CRIU takes without being asked to.

use clap::Args;

/// What may be there.
#[derive(Debug, Args)]
pub struct Allowed {
    /// Keep file locks.
    #[arg(long)]
    pub file_locks: bool,
    /// Let UNIX sockets go whose other side is outside the container.
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// The container's session or terminal belongs to a process outside.
    #[arg(long)]
    pub shell_job: bool,
    /// Give deleted files that are still open a name for the time of the snapshot.
    #[arg(long)]
    pub link_remap: bool,
}
