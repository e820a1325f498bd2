//! What is done about connections.

use clap::{Args, ValueEnum};
use floe_criu_bridge::checkpoint::Tcp;

/// What is done about connections.
#[derive(Debug, Args)]
pub struct Network {
    /// What is done about TCP connections.
    #[arg(long, value_name = "FATE", default_value = "fail")]
    tcp: TcpFate,
    /// Keep TCP connections; the same as --tcp established.
    #[arg(long, conflicts_with = "tcp")]
    tcp_established: bool,
    /// Close TCP connections; the same as --tcp close.
    #[arg(long, conflicts_with_all = ["tcp", "tcp_established"])]
    tcp_close: bool,
    /// Leave out TCP connections that are not accepted yet, whatever is done about the others.
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
}

/// What is done about TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TcpFate {
    /// Refuse, naming them.
    Fail,
    /// Keep them.
    Established,
    /// Close them.
    Close,
    /// Leave out those that are not accepted yet; refuse the others, naming them.
    SkipInFlight,
}

impl Network {
    /// What was chosen, in either form.
    pub fn tcp(&self) -> Tcp {
        match self.tcp {
            _ if self.tcp_established => Tcp::Established,
            _ if self.tcp_close => Tcp::Close,
            TcpFate::Fail => Tcp::Fail,
            TcpFate::Established => Tcp::Established,
            TcpFate::Close => Tcp::Close,
            TcpFate::SkipInFlight => Tcp::SkipInFlight,
        }
    }
}
