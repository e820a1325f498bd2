//! What a restore does about the world outside of the container.

use std::os::fd::OwnedFd;

use floe_runtime::config::Config;
use floe_runtime::{ContainerId, Reservation, Store};

use super::plan::Plan;
use crate::error::{Error, Result};

/// Demands that no other container of this host has an address that this one will have.
pub(super) fn demand_addresses_of_its_own(store: &Store, id: &ContainerId, config: &Config) -> Result<()> {
    let Some((other, address, bridge)) = store.who_has_an_address(id, config)? else { return Ok(()) };
    Err(Error::Unfit {
        what: format!("{other} has the address {address} at the bridge {bridge}, which {id} would have too"),
        hint: "end that one first, or give another address in a bundle's configuration (--bundle)".to_owned(),
    })
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
