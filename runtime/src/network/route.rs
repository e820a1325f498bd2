//! Routes.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::libc;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::address::{family, octets};
use super::netlink::*;

/// `RTNH_F_ONLINK` of `<linux/rtnetlink.h>`: the gateway is on the link, whatever the addresses say.
const ON_LINK: u32 = 4;

/// A route in the main table.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where it leads.
    pub(super) destination: IpNet,
    /// The address that is sent from.
    pub(super) source: Option<IpAddr>,
    /// The next router.
    pub(super) gateway: Option<IpAddr>,
    /// Whether that one is on the link although no address says so.
    pub(super) on_link: bool,
    /// The interface.
    pub(super) index: Option<u32>,
}

impl Entry {
    fn request(&self, kind: u16) -> Request {
        let network = self.destination.addr();
        let about = RouteHeader {
            family: family(network),
            destination_len: self.destination.prefix_len(),
            // Without a gateway it is the link itself; IPv6 knows no scopes of routes, and takes any.
            scope: if self.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK },
            flags: if self.on_link { ON_LINK } else { 0 },
        };
        let mut attributes = Vec::new();
        if self.destination.prefix_len() > 0 {
            attributes.push(Attribute::bytes(RTA_DST, &octets(network)));
        }
        let gateway = self.gateway.map(|address| Attribute::bytes(RTA_GATEWAY, &octets(address)));
        let source = self.source.map(|address| Attribute::bytes(RTA_PREFSRC, &octets(address)));
        let index = self.index.map(|index| Attribute::number(RTA_OIF, index));
        attributes.extend([gateway, source, index].into_iter().flatten());
        Request::route(kind, about, attributes)
    }
}

/// Adds a route that is not there yet.
pub(super) fn add(socket: &mut Socket, entry: &Entry) -> Result<(), NetlinkError> {
    socket.change(entry.request(libc::RTM_NEWROUTE).new_only())
}

/// Takes a route away. One that is not there, or whose interface is gone, is no failure.
pub(super) fn remove(socket: &mut Socket, entry: &Entry) -> Result<(), NetlinkError> {
    match socket.change(entry.request(libc::RTM_DELROUTE)) {
        Err(error) if error.is(Errno::SRCH) || error.is(Errno::NODEV) => Ok(()),
        other => other,
    }
}
