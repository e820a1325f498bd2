//! How packets are held back while connections are dumped.
//!
//! Without it the kernel would answer a packet to a connection that is being taken away with a reset. CRIU drops all packets
//! of the container's network namespace for that time (in the host's, those of each connection).

use std::process::{Command, Stdio};

use rust_criu::rust_criu_protobuf::rpc::Criu_network_lock_method;

use super::netns;
use super::tool::feed;
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::preflight::Blocker;
use crate::progress::Progress;

/// What a caller may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkLock {
    /// What this host can do, where there is anything to hold back.
    #[default]
    Auto,
    /// By nftables, which CRIU speaks itself.
    Nftables,
    /// By the programs `iptables-restore` and `ip6tables-restore`.
    Iptables,
    /// Not at all: a packet that arrives meanwhile may end a connection.
    None,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    Nftables,
    Iptables,
    None,
}

impl Method {
    pub(crate) fn of_criu(self) -> Criu_network_lock_method {
        match self {
            Self::Nftables => Criu_network_lock_method::NFTABLES,
            Self::Iptables => Criu_network_lock_method::IPTABLES,
            Self::None => Criu_network_lock_method::SKIP,
        }
    }
}

/// Chooses. `needed` says whether there may be connections to keep: without them nothing can come in that matters, and no
/// rule is made that a killed CRIU could leave behind.
///
/// # Errors
/// [`Error::Blocked`] for a method that was asked for and isn't to be had.
pub(crate) fn choose(
    wanted: NetworkLock,
    needed: bool,
    criu: &Criu,
    progress: &dyn Progress,
) -> Result<Method> {
    let has = |there: bool, method: Method, hint: &str| match there {
        true => Ok(method),
        false => Err(Error::Blocked(vec![Blocker {
            pid: None,
            process: String::new(),
            what: "this host cannot lock the network by".to_owned(),
            on: format!("{method:?}").to_lowercase(),
            hint: hint.to_owned(),
        }])),
    };
    match wanted {
        NetworkLock::None => Ok(Method::None),
        NetworkLock::Nftables => has(
            nftables(criu),
            Method::Nftables,
            "it takes nf_tables in the kernel and a criu with libnftables; leave --network-lock out",
        ),
        NetworkLock::Iptables => has(
            iptables(),
            Method::Iptables,
            "it takes iptables-restore and ip6tables-restore in PATH, and xt_mark in the kernel; leave \
             --network-lock out",
        ),
        NetworkLock::Auto if !needed => Ok(Method::None),
        NetworkLock::Auto if nftables(criu) => Ok(Method::Nftables),
        NetworkLock::Auto if iptables() => Ok(Method::Iptables),
        NetworkLock::Auto => {
            progress.warn(
                "neither nftables nor iptables is to be had: a packet that arrives during the checkpoint may reset a \
                 connection that is to be kept",
            );
            Ok(Method::None)
        }
    }
}

/// CRIU knows whether it was built for it, and asks the kernel.
fn nftables(criu: &Criu) -> bool {
    let mut command = Command::new(criu.path());
    command.args(["--no-default-config", "check", "--feature", "network_lock_nftables"]);
    command.env_remove("CRIU_CONFIG_FILE").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Rules of the kind that CRIU makes, for a trial.
const TRIAL: &str = "*filter\n:CRIU - [0:0]\n-I INPUT -j CRIU\n-I OUTPUT -j CRIU\n\
                     -A CRIU -m mark --mark 0xC114 -j ACCEPT\n-A CRIU -j DROP\nCOMMIT\n";

/// Tried where it harms nobody.
fn iptables() -> bool {
    let tried = netns::in_a_new_one(|| {
        for program in ["iptables-restore", "ip6tables-restore"] {
            if !feed(program, &["-w", "--noflush"], TRIAL)? {
                return Ok(false);
            }
        }
        Ok(true)
    });
    tried.unwrap_or(false)
}
