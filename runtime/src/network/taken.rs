//! Addresses that two containers cannot both have.

use std::net::IpAddr;

use crate::config::Config;
use crate::config::network::{InterfaceName, NetworkKind};

/// An address that both configurations give at the same bridge, and that bridge.
pub(crate) fn in_common(one: &Config, other: &Config) -> Option<(IpAddr, InterfaceName)> {
    let others: Vec<_> = at_bridges(other).collect();
    at_bridges(one).find(|mine| others.contains(mine)).map(|(address, bridge)| (address, bridge.clone()))
}

fn at_bridges(config: &Config) -> impl Iterator<Item = (IpAddr, &InterfaceName)> {
    config.networks.iter().flat_map(|network| {
        let bridge = match &network.kind {
            NetworkKind::Veth { bridge, .. } => bridge.as_ref(),
            _ => None,
        };
        let four = network.address.map(|net| IpAddr::from(net.addr()));
        let six = network.ipv6_address.map(|net| IpAddr::from(net.addr()));
        four.into_iter().chain(six).filter_map(move |address| Some((address, bridge?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(network: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        let spec = crate::config::oci::template(None).to_string();
        let place = std::path::Path::new("/b");
        let mut config = crate::config::oci::from_json(spec.as_bytes(), place, dir.path()).unwrap();
        config.networks = serde_json::from_str(&format!("[{network}]")).unwrap();
        config
    }

    #[test]
    fn the_same_address_is_one_at_the_same_bridge_only() {
        let veth = |bridge: &str, address: &str| {
            config(&format!(r#"{{"type":"veth","bridge":"{bridge}","address":"{address}"}}"#))
        };
        let (one, same) = (veth("br0", "10.7.0.2/24"), veth("br0", "10.7.0.2/16"));
        let found = in_common(&one, &same).unwrap();
        assert_eq!((found.0.to_string(), found.1.as_str()), ("10.7.0.2".to_owned(), "br0"));
        assert!(in_common(&one, &veth("br1", "10.7.0.2/24")).is_none());
        assert!(in_common(&one, &veth("br0", "10.7.0.3/24")).is_none());
        assert!(in_common(&one, &config(r#"{"type":"loopback"}"#)).is_none());
    }
}
