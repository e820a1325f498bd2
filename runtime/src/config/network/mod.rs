//! Interfaces and routes: `networks` and `routes` of libcontainer's `Config`, `linux.netDevices` of the OCI runtime
//! specification.
//!
//! The JSON is that of libcontainer's `configs.Network` and `configs.Route`, in which everything is text and an absent
//! key, an empty text and 0 mean the same. It is parsed once, here, into types that hold only what makes sense; what
//! does not is refused by the key that asks for it.

mod device;
mod interface;
mod json;
mod route;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{Config, NamespaceKind};

pub use device::{NameTemplate, NetDevice, NewName};
pub use interface::{InterfaceName, InvalidInterfaceName, InvalidMacAddress, MacAddress};
pub use json::NetworkJson;
pub use route::{Route, RouteJson};

/// The name that the kernel gives the loopback interface.
const LOOPBACK: &str = "lo";

/// One interface of the container.
///
/// Which JSON keys belong to which kind:
///
/// | key | `loopback` | `veth` | `host-device` |
/// |---|---|---|---|
/// | `name` | `lo` or nothing | the container's end | its name in the container |
/// | `bridge`, `hairpin_mode` | | the host's end | |
/// | `host_interface_name` | | the host's end | its name on the host |
/// | `mac_address`, `mtu`, `txqueuelen` | | yes (the last two for both ends) | yes |
/// | `address`, `ipv6_address` | beside the kernel's own | yes | instead of those that it has |
/// | `gateway`, `ipv6_gateway` | | yes | yes |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NetworkJson", into = "NetworkJson")]
pub struct Network {
    /// Where the interface comes from (JSON: `type`).
    pub kind: NetworkKind,
    /// Its name in the container; `None` takes the host device's name, and for a veth the first free `ethN`.
    pub name: Option<InterfaceName>,
    /// Its hardware address; `None` leaves the kernel's choice, or what a host device has.
    pub mac_address: Option<MacAddress>,
    /// Its IPv4 address.
    pub address: Option<Ipv4Net>,
    /// Where the default route of IPv4 leads.
    pub gateway: Option<Ipv4Addr>,
    /// Its IPv6 address. It is used at once, without duplicate address detection (RFC 4862): the address is the
    /// administrator's, and the program would find it unusable for its first second or two.
    pub ipv6_address: Option<Ipv6Net>,
    /// Where the default route of IPv6 leads.
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// Longest packet in bytes, for both ends of a pair; `None` leaves the kernel's choice.
    pub mtu: Option<NonZeroU32>,
    /// Length of the transmit queue in packets, for both ends of a pair; `None` leaves the kernel's choice.
    pub txqueuelen: Option<NonZeroU32>,
}

/// Where an interface comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkKind {
    /// The loopback interface, which every network namespace has: it is brought up, which gives it 127.0.0.1/8 and ::1.
    Loopback,
    /// A pair of virtual interfaces, one in the container and one on the host. `veth(4)`.
    Veth {
        /// The bridge on the host that the host's end becomes a port of.
        bridge: Option<InterfaceName>,
        /// The name of the host's end; `None` derives one from the container's folder.
        host_interface_name: Option<InterfaceName>,
        /// Whether the bridge may send a packet back through the port that it came from: the container then reaches
        /// itself under an address that the host translates to it.
        hairpin_mode: bool,
    },
    /// An interface of the host, which is the container's until that is deleted. Not in libcontainer, which has no such
    /// strategy; the name is that of CNI's plugin.
    HostDevice {
        /// The interface.
        host_interface_name: InterfaceName,
    },
}

/// A key of the configuration with a value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}")]
pub struct FieldError {
    /// The JSON key, below the object that was parsed or with its path: `mac_address`, `networks[1].name`.
    pub key: String,
    /// What is wrong with it, to be read after the key.
    pub problem: String,
}

impl FieldError {
    fn new(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { key: key.into(), problem: problem.to_string() }
    }

    /// The same with the path of the object that the key is in: `networks[1]`.
    #[must_use]
    pub fn below(self, path: impl fmt::Display) -> Self {
        Self { key: format!("{path}.{}", self.key), ..self }
    }
}

/// Checks what only shows when interfaces, routes and namespaces are seen together.
///
/// # Errors
/// The first thing that does not fit, with its path in the configuration (`networks[1]`, `netDevices.eth1`).
pub fn check(config: &Config) -> Result<(), FieldError> {
    let wants = [
        ("networks", !config.networks.is_empty()),
        ("routes", !config.routes.is_empty()),
        ("netDevices", !config.net_devices.is_empty()),
    ];
    if let Some((key, _)) = wants.into_iter().find(|(_, wanted)| *wanted)
        && config.namespace(NamespaceKind::Network).is_none()
    {
        return Err(FieldError::new(
            key,
            "need a network namespace, or they would change the host's network",
        ));
    }
    let mut inside = BTreeSet::new();
    let mut host = BTreeSet::new();
    for (number, network) in config.networks.iter().enumerate() {
        let key = format!("networks[{number}]");
        if let Some(name) = network.inside()
            && !inside.insert(name)
        {
            return Err(FieldError::new(format!("{key}.name"), format!("is a second {name}")));
        }
        if let NetworkKind::Veth { host_interface_name: Some(name), .. }
        | NetworkKind::HostDevice { host_interface_name: name } = &network.kind
            && !host.insert(name)
        {
            return Err(FieldError::new(format!("{key}.host_interface_name"), format!("is a second {name}")));
        }
    }
    for (name, device) in &config.net_devices {
        let key = format!("netDevices.{name}");
        if name.as_str() == LOOPBACK {
            return Err(FieldError::new(key, "is the loopback interface, which cannot be moved"));
        }
        if !host.insert(name) {
            return Err(FieldError::new(key, "is in networks too"));
        }
        let inside_name = match &device.name {
            None => name.as_str(),
            Some(NewName::Exact(name)) => name.as_str(),
            Some(NewName::Template(_)) => continue,
        };
        if inside_name == LOOPBACK {
            return Err(FieldError::new(format!("{key}.name"), "lo is the loopback interface's"));
        }
        if !inside.insert(inside_name) {
            return Err(FieldError::new(format!("{key}.name"), format!("is a second {inside_name}")));
        }
    }
    Ok(())
}

impl Network {
    /// Its name in the container, if that is known from the configuration alone.
    fn inside(&self) -> Option<&str> {
        match (&self.name, &self.kind) {
            (Some(name), _) => Some(name.as_str()),
            (None, NetworkKind::Loopback) => Some(LOOPBACK),
            (None, NetworkKind::HostDevice { host_interface_name }) => Some(host_interface_name.as_str()),
            (None, NetworkKind::Veth { .. }) => None,
        }
    }

    fn check(&self) -> Result<(), FieldError> {
        let usable = |key: &str, address: Option<IpAddr>| match address {
            Some(address) if address.is_unspecified() || address.is_multicast() => {
                Err(FieldError::new(key, format!("{address} is no address of one host")))
            }
            _ => Ok(()),
        };
        usable("address", self.address.map(|net| net.addr().into()))?;
        usable("ipv6_address", self.ipv6_address.map(|net| net.addr().into()))?;
        usable("gateway", self.gateway.map(IpAddr::from))?;
        usable("ipv6_gateway", self.ipv6_gateway.map(IpAddr::from))?;
        if let NetworkKind::Veth { host_interface_name: Some(name), .. }
        | NetworkKind::HostDevice { host_interface_name: name } = &self.kind
            && name.as_str() == LOOPBACK
        {
            return Err(FieldError::new("host_interface_name", "lo is the loopback interface's"));
        }
        if let NetworkKind::Veth { bridge, hairpin_mode, .. } = &self.kind {
            if self.gateway.is_some() && self.address.is_none() {
                return Err(FieldError::new("gateway", "cannot be reached without an address"));
            }
            if self.ipv6_gateway.is_some() && self.ipv6_address.is_none() {
                return Err(FieldError::new("ipv6_gateway", "cannot be reached without an ipv6_address"));
            }
            if *hairpin_mode && bridge.is_none() {
                return Err(FieldError::new(
                    "hairpin_mode",
                    "is a mode of a bridge's port, and there is no bridge",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
