//! What a restore does about the world outside of the container.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use floe_runtime::config::{Config, NamespaceKind};
use floe_runtime::{ContainerId, Reservation, Store};

use floe_snapshot_format::Manifest;

use super::plan::Plan;
use super::{Options, hostname, mounts};
use crate::error::{Error, Result};
use crate::outside::{self, Connection, Fate, LockMethod, netns, rules};

/// Demands that no other container of this host has an address that this one will have.
pub(super) fn demand_addresses_of_its_own(store: &Store, id: &ContainerId, config: &Config) -> Result<()> {
    let Some((other, address, bridge)) = store.who_has_an_address(id, config)? else { return Ok(()) };
    Err(Error::Unfit {
        what: format!("{other} has the address {address} at the bridge {bridge}, which {id} would have too"),
        hint: "end that one first, or give another address in a bundle's configuration (--bundle)".to_owned(),
    })
}

/// What the one who restores wants otherwise than it was.
pub(super) fn choose(plan: &mut Plan, options: &Options) -> Result<()> {
    if options.tcp_close {
        plan.choices.tcp_close |= std::mem::take(&mut plan.choices.tcp_established);
    }
    mounts::map(&mut plan.config, &options.map)?;
    options.hostname.as_deref().map_or(Ok(()), |name| hostname::choose(&mut plan.config, name))
}

/// The connections, and what becomes of them.
pub(super) fn connections(manifest: &Manifest, plan: &Plan) -> Vec<Connection> {
    let fate = if plan.choices.tcp_established { Fate::Kept } else { Fate::Closed };
    outside::connections_of(manifest, fate)
}

/// Demands that the addresses of connections that are kept are there. A network that is in the images brings its own.
pub(super) fn demand_addresses(
    plan: &Plan,
    connections: &[Connection],
    made: Option<&OwnedFd>,
) -> Result<()> {
    if let Some(made) = made {
        return outside::demand_addresses(connections, Some(made.as_fd()));
    }
    match plan.config.namespace(NamespaceKind::Network) {
        None => outside::demand_addresses(connections, None),
        Some(namespace) => {
            let Some(path) = &namespace.path else { return Ok(()) };
            let file = File::open(path).map_err(|source| Error::call("open", path, source))?;
            outside::demand_addresses(connections, Some(file.as_fd()))
        }
    }
}

/// What holds back packets for the connections in a network namespace that others made.
#[derive(Debug)]
pub(super) struct Held {
    method: LockMethod,
    snapshot: String,
    connections: Vec<Connection>,
    path: PathBuf,
}

impl Held {
    /// Takes it out: the connections are there, or closed.
    pub(super) fn lift(&self) -> Result<()> {
        netns::within(&self.path, || rules::lift(self.method, &self.snapshot, &self.connections))
    }
}

/// What a checkpoint of this host may have left.
pub(super) fn held(plan: &Plan, snapshot: &str, connections: &[Connection]) -> Option<Held> {
    let path = plan.config.namespace(NamespaceKind::Network)?.path.clone()?;
    let method = plan.outside.held_by.filter(|_| plan.made_here)?;
    // Those that are closed at the restore were held too.
    let connections = connections.iter().cloned().map(|one| Connection { fate: Fate::Kept, ..one }).collect();
    Some(Held { method, snapshot: snapshot.to_owned(), connections, path })
}

/// Makes the network that the configuration has floe make; nothing gets in or out of it before it is opened.
pub(super) fn network(reservation: &mut Reservation, plan: &Plan) -> Result<Option<OwnedFd>> {
    if plan.network_is_outside() {
        return Ok(reservation.make_network()?);
    }
    if floe_runtime::network_is_made(reservation.config()) {
        return Err(Error::Unfit {
            what: "its network is in its images, and the bundle has floe make one (networks, routes, netDevices)"
                .to_owned(),
            hint: "take those out of the bundle's configuration, or name a network namespace to join there"
                .to_owned(),
        });
    }
    Ok(None)
}
