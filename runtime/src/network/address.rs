//! Addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use nix::libc;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::netlink::*;

/// Length of `struct ifaddrmsg` in bytes.
const HEADER: usize = 8;

/// `IFA_F_MANAGETEMPADDR`, `IFA_F_NOPREFIXROUTE` and `IFA_F_MCAUTOJOIN` of `<linux/if_addr.h>`.
const MANAGE_TEMPORARY: u32 = 0x100;
const NO_PREFIX_ROUTE: u32 = 0x200;
const JOIN_MULTICAST: u32 = 0x400;

/// The flags that an address is given; the others are the kernel's report of how it fares.
const GIVEN: u32 =
    libc::IFA_F_NODAD | libc::IFA_F_HOMEADDRESS | MANAGE_TEMPORARY | NO_PREFIX_ROUTE | JOIN_MULTICAST;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// The address, and how much of it is the network's.
    pub(super) net: IpNet,
    /// The address at the other end, of an interface that leads to one neighbour only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) broadcast: Option<Ipv4Addr>,
    /// The metric of the route to its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metric: Option<u32>,
    /// `IFA_F_*`, those of [`GIVEN`].
    #[serde(default)]
    pub(super) flags: u32,
}

impl Address {
    /// As a configuration gives it.
    pub(super) fn new(net: IpNet) -> Self {
        let broadcast = match net {
            IpNet::V4(net) if net.prefix_len() < 31 && !net.addr().is_loopback() => Some(net.broadcast()),
            _ => None,
        };
        let flags = if net.addr().is_ipv6() { libc::IFA_F_NODAD } else { 0 };
        Self { net, peer: None, broadcast, metric: None, flags }
    }

    /// An address that is to be kept when its interface goes to another namespace, of the interface `index`: those that
    /// somebody has given it for good, and that are valid everywhere (`linux.netDevices` of the OCI runtime
    /// specification: `IFA_F_PERMANENT`, `RT_SCOPE_UNIVERSE`).
    fn lasting(reply: &Reply, index: u32) -> Option<Self> {
        let [_, prefix_len, flags, scope, a, b, c, d] = reply.header::<HEADER>();
        let (mut address, mut local, mut broadcast, mut metric) = (None, None, None, None);
        let mut flags = u32::from(flags);
        for (kind, value) in reply.attributes(HEADER) {
            if kind == IFA_ADDRESS.number {
                address = ip(value);
            } else if kind == IFA_LOCAL.number {
                local = ip(value);
            } else if kind == IFA_BROADCAST.number {
                broadcast = value.try_into().map(|bytes: [u8; 4]| bytes.into()).ok();
            } else if kind == IFA_FLAGS.number {
                flags = value.try_into().map_or(flags, u32::from_ne_bytes);
            } else if kind == IFA_RT_PRIORITY.number {
                metric = value.try_into().map(u32::from_ne_bytes).ok();
            }
        }
        let is_lasting = flags & libc::IFA_F_PERMANENT != 0 && scope == libc::RT_SCOPE_UNIVERSE;
        if !is_lasting || u32::from_ne_bytes([a, b, c, d]) != index {
            return None;
        }
        let own = local.or(address)?;
        Some(Self {
            net: IpNet::new(own, prefix_len).ok()?,
            peer: address.filter(|address| *address != own),
            broadcast,
            metric: metric.filter(|metric| *metric != 0),
            flags: flags & GIVEN,
        })
    }

    fn request(&self, kind: u16, index: u32) -> Request {
        let own = self.net.addr();
        let about = AddressHeader {
            family: family(own),
            prefix_len: self.net.prefix_len(),
            scope: if own.is_loopback() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE },
            index,
        };
        let mut attributes = vec![
            Attribute::bytes(IFA_LOCAL, &octets(own)),
            Attribute::bytes(IFA_ADDRESS, &octets(self.peer.unwrap_or(own))),
        ];
        attributes.extend(self.broadcast.map(|address| Attribute::bytes(IFA_BROADCAST, &address.octets())));
        attributes.extend(self.metric.map(|metric| Attribute::number(IFA_RT_PRIORITY, metric)));
        if self.flags != 0 {
            attributes.push(Attribute::number(IFA_FLAGS, self.flags));
        }
        Request::address(kind, about, attributes)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.net.fmt(f)
    }
}

/// The addresses of the interface `index` that it is to keep wherever it goes.
pub(super) fn lasting(socket: &mut Socket, index: u32) -> Result<Vec<Address>, NetlinkError> {
    let about = AddressHeader { family: libc::AF_UNSPEC as u8, prefix_len: 0, scope: 0, index: 0 };
    let replies = socket.list(Request::address(libc::RTM_GETADDR, about, Vec::new()))?;
    Ok(replies.iter().filter_map(|reply| Address::lasting(reply, index)).collect())
}

/// Gives the interface `index` an address. One that it has already is no failure.
pub(super) fn add(socket: &mut Socket, index: u32, address: &Address) -> Result<(), NetlinkError> {
    match socket.change(address.request(libc::RTM_NEWADDR, index).new_only()) {
        Err(error) if error.is(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Takes an address away. One that is not there is no failure.
pub(super) fn remove(socket: &mut Socket, index: u32, address: &Address) -> Result<(), NetlinkError> {
    match socket.change(address.request(libc::RTM_DELADDR, index)) {
        Err(error) if error.is(Errno::ADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// `AF_INET` or `AF_INET6`.
pub(super) fn family(address: IpAddr) -> u8 {
    (if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET }) as u8
}

/// As the kernel has it: four bytes or sixteen.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_gives_is_completed() {
        let address = |text: &str| Address::new(text.parse().unwrap());
        assert_eq!(address("10.0.0.2/24").broadcast, Some(Ipv4Addr::new(10, 0, 0, 255)));
        assert_eq!(address("10.0.0.2/31").broadcast, None, "such a network has none (RFC 3021)");
        assert_eq!(address("10.0.0.2/32").broadcast, None);
        assert_eq!(address("fd00::2/64").flags, libc::IFA_F_NODAD);
    }
}
