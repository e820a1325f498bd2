//! What is otherwise outside of the container than it was.

use clap::{Args, ValueEnum};

/// What is otherwise.
#[derive(Debug, Args)]
pub struct Outside {
    /// What becomes of TCP connections that were kept at the checkpoint.
    #[arg(long, value_name = "FATE", default_value = "established")]
    tcp: TcpFate,
    /// Close TCP connections; the same as --tcp close.
    #[arg(long, conflicts_with = "tcp")]
    tcp_close: bool,
}

/// What becomes of TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TcpFate {
    /// They go on.
    Established,
    /// They are closed.
    Close,
}

impl Outside {
    /// Whether connections are closed.
    pub fn closes(&self) -> bool {
        self.tcp_close || self.tcp == TcpFate::Close
    }
}
