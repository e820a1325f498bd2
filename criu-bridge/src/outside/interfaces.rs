//! Hardware addresses that the kernel chose for a container's interfaces.
//!
//! Peers on the same link remember who has an address: until they ask again, which takes them half a minute, they send to
//! an interface that is no more. So an interface that is made anew under its address gets the same hardware address.

use floe_runtime::Container;
use floe_runtime::config::Config;
use floe_runtime::config::network::{MacAddress, Network, NetworkKind};
use serde::{Deserialize, Serialize};

/// One end of a pair that floe made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideInterface {
    /// Which of the configuration's `networks` it is, counted from 0.
    pub network: usize,
    /// Its hardware address in the container.
    pub mac_address: MacAddress,
    /// The addresses that the configuration gave it.
    pub addresses: Vec<String>,
}

/// The interfaces of `container`.
///
/// # Errors
/// As [`Container::hardware_addresses`].
pub(crate) fn interfaces(container: &Container) -> floe_runtime::Result<Vec<OutsideInterface>> {
    let all = container.hardware_addresses()?.into_iter();
    let told = all.filter_map(|(network, mac_address)| {
        let given = container.config().networks.get(network)?;
        Some(OutsideInterface { network, mac_address, addresses: addresses(given) })
    });
    Ok(told.collect())
}

/// Has those of `known` made with their hardware addresses again that have the same addresses. One with others may be a
/// clone, beside which the first one lives.
pub(crate) fn remember(config: &mut Config, known: &[OutsideInterface]) {
    for interface in known {
        let Some(network) = config.networks.get_mut(interface.network) else { continue };
        let pair = matches!(network.kind, NetworkKind::Veth { .. });
        if pair && !interface.addresses.is_empty() && addresses(network) == interface.addresses {
            network.mac_address.get_or_insert(interface.mac_address);
        }
    }
}

fn addresses(network: &Network) -> Vec<String> {
    let four = network.address.map(|net| net.addr().to_string());
    four.into_iter().chain(network.ipv6_address.map(|net| net.addr().to_string())).collect()
}
