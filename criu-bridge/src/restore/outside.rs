//! What a restore does about the world outside of the container.

use std::os::fd::OwnedFd;

use floe_runtime::Reservation;

use super::plan::Plan;
use crate::error::{Error, Result};

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
