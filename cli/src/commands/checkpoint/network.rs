//! What is done about connections.

use clap::{Args, ValueEnum};
use floe_criu_bridge::checkpoint::Tcp;
use floe_criu_bridge::outside::NetworkLock;

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
    /// How packets are held back while connections are taken.
    #[arg(long, value_name = "METHOD", default_value = "auto")]
    network_lock: Lock,
}

/// How packets are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lock {
    /// By nftables or else iptables, where connections are to be kept.
    Auto,
    /// By nftables.
    Nftables,
    /// By iptables-restore and ip6tables-restore.
    Iptables,
    /// Not at all.
    #[value(alias = "skip")]
    None,
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
    /// How packets are held back.
    pub fn lock(&self) -> NetworkLock {
        match self.network_lock {
            Lock::Auto => NetworkLock::Auto,
            Lock::Nftables => NetworkLock::Nftables,
            Lock::Iptables => NetworkLock::Iptables,
            Lock::None => NetworkLock::None,
        }
    }

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
