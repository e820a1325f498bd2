//! What libcontainer writes of a network, and what is made of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{FieldError, InterfaceName, LOOPBACK, Network, NetworkKind};

/// `configs.Network` as libcontainer writes it; the names that its fields have in Go are read too, and keys that it does
/// not know are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkJson {
    /// `loopback`, `veth` or `host-device`.
    #[serde(alias = "Type")]
    pub r#type: String,
    /// The interface's name in the container.
    #[serde(alias = "Name", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The bridge on the host.
    #[serde(alias = "Bridge", skip_serializing_if = "String::is_empty")]
    pub bridge: String,
    /// The hardware address in the container.
    #[serde(alias = "MacAddress", alias = "macAddress", skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// The IPv4 address with its prefix length.
    #[serde(alias = "Address", skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The IPv4 address of the default router.
    #[serde(alias = "Gateway", skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// The IPv6 address with its prefix length.
    #[serde(alias = "IPv6Address", alias = "ipv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// The IPv6 address of the default router.
    #[serde(alias = "IPv6Gateway", alias = "ipv6Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv6_gateway: String,
    /// Longest packet in bytes.
    #[serde(alias = "Mtu", skip_serializing_if = "is_zero")]
    pub mtu: i64,
    /// Length of the transmit queue in packets.
    #[serde(alias = "TxQueueLen", alias = "txQueueLen", skip_serializing_if = "is_zero")]
    pub txqueuelen: i64,
    /// The interface's name on the host.
    #[serde(
        alias = "HostInterfaceName",
        alias = "hostInterfaceName",
        skip_serializing_if = "String::is_empty"
    )]
    pub host_interface_name: String,
    /// Whether the bridge may send back to where a packet came from.
    #[serde(alias = "HairpinMode", alias = "hairpinMode", skip_serializing_if = "std::ops::Not::not")]
    pub hairpin_mode: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl TryFrom<NetworkJson> for Network {
    type Error = FieldError;

    fn try_from(json: NetworkJson) -> Result<Self, FieldError> {
        let host_interface_name = parse("host_interface_name", &json.host_interface_name)?;
        let bridge = parse("bridge", &json.bridge)?;
        let kind = match json.r#type.as_str() {
            "loopback" => return loopback(&json),
            "veth" => NetworkKind::Veth { bridge, host_interface_name, hairpin_mode: json.hairpin_mode },
            "host-device" => {
                for (key, given) in [("bridge", bridge.is_some()), ("hairpin_mode", json.hairpin_mode)] {
                    if given {
                        return Err(FieldError::new(key, "is for a veth, not for a host-device"));
                    }
                }
                NetworkKind::HostDevice {
                    host_interface_name: host_interface_name.ok_or_else(|| {
                        FieldError::new("host_interface_name", "is missing; it names the host's device")
                    })?,
                }
            }
            "" => return Err(FieldError::new("type", "is missing: loopback, veth or host-device")),
            other => {
                let problem = format!("{other:?} is unknown: it has to be loopback, veth or host-device");
                return Err(FieldError::new("type", problem));
            }
        };
        let name: Option<InterfaceName> = parse("name", &json.name)?;
        if name.as_ref().is_some_and(|name| name.as_str() == LOOPBACK) {
            return Err(FieldError::new("name", "lo is the loopback interface's"));
        }
        let network = Self {
            kind,
            name,
            mac_address: parse("mac_address", &json.mac_address)?,
            address: parse_net("address", &json.address)?,
            gateway: parse("gateway", &json.gateway)?,
            ipv6_address: parse_net("ipv6_address", &json.ipv6_address)?,
            ipv6_gateway: parse("ipv6_gateway", &json.ipv6_gateway)?,
            mtu: count("mtu", json.mtu)?,
            txqueuelen: count("txqueuelen", json.txqueuelen)?,
        };
        network.check()?;
        Ok(network)
    }
}

/// The loopback interface. libcontainer's own example gives it the address `127.0.0.1/0` and the gateway `localhost`,
/// and its comments say of other keys that they do not apply; all that changes nothing.
fn loopback(json: &NetworkJson) -> Result<Network, FieldError> {
    if !["", LOOPBACK].contains(&json.name.as_str()) {
        return Err(FieldError::new(
            "name",
            format!("{:?} is not the loopback interface's, which is lo", json.name),
        ));
    }
    let for_others = [
        ("bridge", &json.bridge),
        ("mac_address", &json.mac_address),
        ("host_interface_name", &json.host_interface_name),
    ];
    if let Some((key, _)) = for_others.into_iter().find(|(_, value)| !value.is_empty()) {
        return Err(FieldError::new(key, "is not for the loopback interface"));
    }
    for (key, gateway) in [("gateway", &json.gateway), ("ipv6_gateway", &json.ipv6_gateway)] {
        let is_itself = gateway.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if !["", "localhost"].contains(&gateway.as_str()) && !is_itself {
            return Err(FieldError::new(key, "cannot be reached through the loopback interface"));
        }
    }
    let network = Network {
        kind: NetworkKind::Loopback,
        name: None,
        mac_address: None,
        address: parse_net("address", &json.address)?
            .filter(|net: &Ipv4Net| net.addr() != Ipv4Addr::LOCALHOST),
        gateway: None,
        ipv6_address: parse_net("ipv6_address", &json.ipv6_address)?
            .filter(|net: &Ipv6Net| net.addr() != Ipv6Addr::LOCALHOST),
        ipv6_gateway: None,
        mtu: None,
        txqueuelen: None,
    };
    network.check()?;
    Ok(network)
}

impl From<Network> for NetworkJson {
    fn from(network: Network) -> Self {
        let (kind, bridge, host_interface_name, hairpin_mode) = match network.kind {
            NetworkKind::Loopback => ("loopback", None, None, false),
            NetworkKind::Veth { bridge, host_interface_name, hairpin_mode } => {
                ("veth", bridge, host_interface_name, hairpin_mode)
            }
            NetworkKind::HostDevice { host_interface_name } => {
                ("host-device", None, Some(host_interface_name), false)
            }
        };
        let count = |number: Option<NonZeroU32>| number.map_or(0, |number| number.get().into());
        Self {
            r#type: kind.to_owned(),
            name: text(network.name),
            bridge: text(bridge),
            mac_address: text(network.mac_address),
            address: text(network.address),
            gateway: text(network.gateway),
            ipv6_address: text(network.ipv6_address),
            ipv6_gateway: text(network.ipv6_gateway),
            mtu: count(network.mtu),
            txqueuelen: count(network.txqueuelen),
            host_interface_name: text(host_interface_name),
            hairpin_mode,
        }
    }
}

/// What libcontainer's JSON has of something that may be missing.
pub(super) fn text(value: Option<impl fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Reads a value; an empty text is none.
pub(super) fn parse<T: std::str::FromStr<Err: fmt::Display>>(
    key: &str,
    value: &str,
) -> Result<Option<T>, FieldError> {
    if value.is_empty() {
        return Ok(None);
    }
    let read = value.parse().map_err(|error| FieldError::new(key, format!("{value:?}: {error}")))?;
    Ok(Some(read))
}

/// Reads an address with the length of its network's prefix.
fn parse_net<T: std::str::FromStr>(key: &str, value: &str) -> Result<Option<T>, FieldError> {
    if value.is_empty() {
        return Ok(None);
    }
    let family = if key.starts_with("ipv6") { "an IPv6 address" } else { "an IPv4 address" };
    let problem = || format!("{value:?} is not {family} with a prefix length (192.0.2.7/24, 2001:db8::7/64)");
    value.parse().map(Some).map_err(|_| FieldError::new(key, problem()))
}

fn count(key: &str, number: i64) -> Result<Option<NonZeroU32>, FieldError> {
    let number =
        u32::try_from(number).map_err(|_| FieldError::new(key, format!("{number} is out of range")))?;
    Ok(NonZeroU32::new(number))
}
