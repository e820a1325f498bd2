//! What is otherwise outside of the container than it was.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is otherwise.
#[derive(Debug, Args)]
pub struct Outside {
    /// A bind mount's source that is elsewhere now; may be given for several.
    #[arg(long, value_name = "SOURCE=NEW", value_parser = pair)]
    pub map: Vec<(PathBuf, PathBuf)>,
    /// The host name that it gets.
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
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

fn pair(text: &str) -> Result<(PathBuf, PathBuf), String> {
    match text.split_once('=') {
        Some((source, new)) if !source.is_empty() && !new.is_empty() => Ok((source.into(), new.into())),
        _ => Err(format!("{text:?} is not SOURCE=NEW")),
    }
}
