//! What is to be done for a container's network, before anything is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::link::Settings;
use crate::config::network::{InterfaceName, MacAddress, Network, NetworkKind, NewName, Route};
use crate::config::{Config, NamespaceKind};
use crate::error::{Error, Result};

/// The plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Addresses of the loopback interface beside its own; `None` leaves it alone.
    pub(super) loopback: Option<Vec<IpNet>>,
    /// Pairs, in the order of the configuration.
    pub(super) veths: Vec<VethPlan>,
    /// Interfaces of the host, in the order of the configuration.
    pub(super) devices: Vec<DevicePlan>,
    /// Routes.
    pub(super) routes: Vec<Route>,
    /// Whether the namespace outlives the container, so that what was added to it has to be taken away again.
    pub(super) joined: bool,
}

/// A pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VethPlan {
    /// Which of the configuration's networks it is.
    pub(super) number: usize,
    /// The end on the host. By its hardware address it is told from somebody else's of that name.
    pub(super) host: InterfaceName,
    pub(super) host_mac: MacAddress,
    /// The end in the container.
    pub(super) inside: InterfaceName,
    pub(super) bridge: Option<InterfaceName>,
    pub(super) hairpin: bool,
    /// Those of the end in the container; the host's has its length of packets and of the queue.
    pub(super) settings: Settings,
    pub(super) addressing: Addressing,
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DevicePlan {
    pub(super) host: InterfaceName,
    pub(super) inside: InterfaceName,
    pub(super) settings: Settings,
    pub(super) addressing: Addressing,
    /// Whether it is given back when the container is deleted. What `linux.netDevices` names is not, as the
    /// specification demands: its way back is the business of whoever owns the namespace.
    pub(super) on_loan: bool,
}

/// Addresses and default routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addressing {
    pub(super) addresses: Vec<IpNet>,
    pub(super) gateways: Vec<IpAddr>,
}

impl Addressing {
    fn of(network: &Network) -> Self {
        let addresses = [network.address.map(IpNet::from), network.ipv6_address.map(IpNet::from)];
        let gateways = [network.gateway.map(IpAddr::from), network.ipv6_gateway.map(IpAddr::from)];
        Self {
            addresses: addresses.into_iter().flatten().collect(),
            gateways: gateways.into_iter().flatten().collect(),
        }
    }
}

impl Plan {
    /// Whether there is anything to do from outside: the loopback interface of a new namespace is the child's.
    pub(super) fn is_needed(config: &Config) -> bool {
        let is_childs = |network: &Network| {
            config.creates(NamespaceKind::Network)
                && network.kind == NetworkKind::Loopback
                && Addressing::of(network) == Addressing::default()
        };
        !config.networks.iter().all(is_childs) || !config.routes.is_empty() || !config.net_devices.is_empty()
    }

    /// Plans for the container in `folder`, whose network namespace has interfaces with the names in `there`.
    ///
    /// # Errors
    /// [`Error::Refused`] when a name is taken.
    pub(super) fn new(config: &Config, folder: &Path, there: &BTreeSet<String>) -> Result<Self> {
        let mut plan = Self {
            routes: config.routes.clone(),
            joined: !config.creates(NamespaceKind::Network),
            ..Self::default()
        };
        let mut names = Names::new(config, there);
        for (number, network) in config.networks.iter().enumerate() {
            let settings = Settings {
                mac_address: network.mac_address,
                mtu: network.mtu.map(Into::into),
                txqueuelen: network.txqueuelen.map(Into::into),
            };
            let addressing = Addressing::of(network);
            match &network.kind {
                NetworkKind::Loopback => {
                    plan.loopback.get_or_insert_default().extend(addressing.addresses);
                }
                NetworkKind::Veth { bridge, host_interface_name, hairpin_mode } => {
                    let mark = Mark::of(folder, number);
                    plan.veths.push(VethPlan {
                        number,
                        host: match host_interface_name {
                            Some(name) => name.clone(),
                            None => mark.name()?,
                        },
                        host_mac: mark.mac_address()?,
                        inside: match &network.name {
                            Some(name) => names.take(name)?,
                            None => names.take_new(&"eth%d".parse().map_err(|error| refused(&error))?)?,
                        },
                        bridge: bridge.clone(),
                        hairpin: *hairpin_mode,
                        settings,
                        addressing,
                    });
                }
                NetworkKind::HostDevice { host_interface_name: host } => plan.devices.push(DevicePlan {
                    inside: names.take(network.name.as_ref().unwrap_or(host))?,
                    host: host.clone(),
                    settings,
                    addressing,
                    on_loan: true,
                }),
            }
        }
        for (host, device) in &config.net_devices {
            let inside = match &device.name {
                Some(name) => names.take_new(name)?,
                None => names.take(host)?,
            };
            let host = host.clone();
            let (settings, addressing) = (Settings::default(), Addressing::default());
            plan.devices.push(DevicePlan { host, inside, settings, addressing, on_loan: false });
        }
        Ok(plan)
    }
}

/// The names of interfaces in the container's namespace.
struct Names {
    /// Of those that are there.
    there: BTreeSet<String>,
    /// Of those that are there and of those that the configuration names.
    taken: BTreeSet<String>,
}

impl Names {
    fn new(config: &Config, there: &BTreeSet<String>) -> Self {
        let networks = config.networks.iter().filter_map(|network| match &network.kind {
            NetworkKind::HostDevice { host_interface_name } => {
                Some(network.name.as_ref().unwrap_or(host_interface_name))
            }
            _ => network.name.as_ref(),
        });
        let devices = config.net_devices.iter().filter_map(|(host, device)| match &device.name {
            None => Some(host),
            Some(NewName::Exact(name)) => Some(name),
            Some(NewName::Template(_)) => None,
        });
        let named = networks.chain(devices).map(InterfaceName::to_string);
        Self { there: there.clone(), taken: there.iter().cloned().chain(named).collect() }
    }

    fn take(&self, name: &InterfaceName) -> Result<InterfaceName> {
        if self.there.contains(name.as_str()) {
            let place = "in the container's network namespace";
            return Err(Error::InterfaceExists { name: name.to_string(), place });
        }
        Ok(name.clone())
    }

    /// A name, or for a template the first that nobody has and nobody wants.
    fn take_new(&mut self, name: &NewName) -> Result<InterfaceName> {
        let template = match name {
            NewName::Exact(name) => return self.take(name),
            NewName::Template(template) => template,
        };
        let free = template.first_free(|name| self.taken.contains(name));
        let free = free.ok_or_else(|| Error::Refused {
            problem: format!("every name of the form {name} is taken in the container's network namespace"),
            hint: "choose another one",
        })?;
        self.taken.insert(free.to_string());
        Ok(free)
    }
}

/// Tells the pair of one container and one network from all others: 40 bits of a digest of the container's folder and
/// the network's place in the configuration, the same each time.
struct Mark([u8; 5]);

impl Mark {
    fn of(folder: &Path, number: usize) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let number = number.to_le_bytes();
        let digest = fnv1a(folder.as_os_str().as_bytes().iter().chain(&number));
        let [a, b, c, d, e, f, g, h] = digest.to_be_bytes();
        Self([a ^ f, b ^ g, c ^ h, d, e])
    }

    /// `veth` and ten hexadecimal digits.
    fn name(&self) -> Result<InterfaceName> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("veth{digits}").parse().map_err(|error| refused(&error))
    }

    /// An address that is nobody's by right (its second bit says so), and high: a bridge takes the lowest of its ports'
    /// for its own, and would change it with every container.
    fn mac_address(&self) -> Result<MacAddress> {
        let [a, b, c, d, e] = self.0;
        MacAddress::new([0xfe, a, b, c, d, e]).map_err(|error| refused(&error))
    }
}

/// Fowler, Noll and Vo's digest of 64 bits. It is stable, which that of the standard library is not promised to be;
/// nobody is kept from making two that are equal, but it is the owner of the state directory who names containers.
fn fnv1a<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// For names of our own, which are fine.
fn refused(error: &dyn std::fmt::Display) -> Error {
    Error::Refused { problem: error.to_string(), hint: "this is floe's own mistake" }
}

#[cfg(test)]
mod tests;
