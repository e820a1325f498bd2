//! The process that comes back: who waits for it, and who gets its terminal.

use std::path::PathBuf;

use clap::Args;

/// The process that comes back.
#[derive(Debug, Args)]
pub struct Process {
    /// Do not wait for the container's end.
    #[arg(long, short)]
    pub detach: bool,
    /// A UNIX socket that gets the master of the container's terminal.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the pid of the container's first process here.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Leave orphans of the container to the host's init while floe waits for its end.
    #[arg(long)]
    pub no_subreaper: bool,
}
