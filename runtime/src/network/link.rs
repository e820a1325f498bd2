//! Interfaces.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::netlink::*;
use crate::config::network::{InterfaceName, MacAddress};

/// Length of `struct ifinfomsg` in bytes.
const HEADER: usize = 16;

/// `RTEXT_FILTER_SKIP_STATS` of `<linux/rtnetlink.h>`: an interface is told without its counters.
const SKIP_STATS: u32 = 8;

/// `IFF_UP` of `netdevice(7)`.
const UP: u32 = libc::IFF_UP as u32;

/// `IFF_RUNNING` of `netdevice(7)`.
const RUNNING: u32 = libc::IFF_RUNNING as u32;

/// The number of the loopback interface: it is the first in each network namespace (`LOOPBACK_IFINDEX` of the kernel).
pub(super) const LOOPBACK_INDEX: u32 = 1;

/// An interface as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// What drives it: `veth`, `bridge`, …; `None` for hardware.
    pub(super) kind: Option<String>,
    /// `None` when it has none, or one that isn't Ethernet's.
    pub(super) mac_address: Option<MacAddress>,
    pub(super) mtu: u32,
    pub(super) txqueuelen: u32,
    pub(super) is_up: bool,
}

impl Link {
    fn of(reply: &Reply) -> Self {
        let [_, _, _, _, a, b, c, d, e, f, g, h, ..] = reply.header::<HEADER>();
        let mut link = Self {
            index: u32::from_ne_bytes([a, b, c, d]),
            name: String::new(),
            kind: None,
            mac_address: None,
            mtu: 0,
            txqueuelen: 0,
            is_up: u32::from_ne_bytes([e, f, g, h]) & UP != 0,
        };
        let number = |value: &[u8]| value.try_into().map_or(0, u32::from_ne_bytes);
        for (kind, value) in reply.attributes(HEADER) {
            if kind == IFLA_IFNAME.number {
                link.name = text(value);
            } else if kind == IFLA_ADDRESS.number {
                link.mac_address = value.try_into().ok().and_then(|bytes| MacAddress::new(bytes).ok());
            } else if kind == IFLA_MTU.number {
                link.mtu = number(value);
            } else if kind == IFLA_TXQLEN.number {
                link.txqueuelen = number(value);
            } else if kind == IFLA_LINKINFO.number {
                let mut info = attributes(value);
                link.kind =
                    info.find(|(kind, _)| *kind == IFLA_INFO_KIND.number).map(|(_, value)| text(value));
            }
        }
        link
    }
}

impl Link {
    pub(super) fn settings(&self) -> Settings {
        Settings { mac_address: self.mac_address, mtu: Some(self.mtu), txqueuelen: Some(self.txqueuelen) }
    }
}

/// Text up to its NUL.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// The interface of this name, if there is one.
pub(super) fn find(socket: &mut Socket, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
    let attributes =
        vec![Attribute::text(IFLA_IFNAME, name.as_str()), Attribute::number(IFLA_EXT_MASK, SKIP_STATS)];
    one(socket, Request::link(libc::RTM_GETLINK, 0, attributes))
}

/// The interface of this number, if there is one.
pub(super) fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>, NetlinkError> {
    one(socket, Request::link(libc::RTM_GETLINK, index, vec![Attribute::number(IFLA_EXT_MASK, SKIP_STATS)]))
}

/// What an interface has counted, in the order of `struct rtnl_link_stats64` of `<linux/if_link.h>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
}

/// One direction of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
}

impl Counters {
    fn of(reply: &Reply) -> Self {
        let Some((_, value)) = reply.attributes(HEADER).find(|(kind, _)| *kind == IFLA_STATS64.number) else {
            return Self::default();
        };
        let number = |place: usize| {
            value
                .get(place * 8..place * 8 + 8)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_ne_bytes)
        };
        let traffic = |first: usize| Traffic {
            packets: number(first),
            bytes: number(first + 2),
            errors: number(first + 4),
            dropped: number(first + 6),
        };
        Self { received: traffic(0), sent: traffic(1) }
    }
}

/// The interface of this name with what it has counted, if there is one.
pub(super) fn counted(
    socket: &mut Socket,
    name: &InterfaceName,
) -> Result<Option<(Link, Counters)>, NetlinkError> {
    let named = vec![Attribute::text(IFLA_IFNAME, name.as_str())];
    match socket.get(Request::link(libc::RTM_GETLINK, 0, named)) {
        Err(error) if error.is(Errno::NODEV) => Ok(None),
        other => Ok(other?.as_ref().map(|reply| (Link::of(reply), Counters::of(reply)))),
    }
}

/// Whether the interface of this name carries packets (`IFF_RUNNING` of `netdevice(7)`); `false` where there is none.
pub(super) fn runs(socket: &mut Socket, name: &InterfaceName) -> Result<bool, NetlinkError> {
    let attributes =
        vec![Attribute::text(IFLA_IFNAME, name.as_str()), Attribute::number(IFLA_EXT_MASK, SKIP_STATS)];
    let flags = |reply: &Reply| {
        let [.., e, f, g, h, _, _, _, _] = reply.header::<HEADER>();
        u32::from_ne_bytes([e, f, g, h])
    };
    match socket.get(Request::link(libc::RTM_GETLINK, 0, attributes)) {
        Err(error) if error.is(Errno::NODEV) => Ok(false),
        other => Ok(other?.is_some_and(|reply| flags(&reply) & RUNNING != 0)),
    }
}

fn one(socket: &mut Socket, request: Request) -> Result<Option<Link>, NetlinkError> {
    match socket.get(request) {
        Err(error) if error.is(Errno::NODEV) => Ok(None),
        other => Ok(other?.as_ref().map(Link::of)),
    }
}

/// The names that are taken.
pub(super) fn names(socket: &mut Socket) -> Result<BTreeSet<String>, NetlinkError> {
    let mask = vec![Attribute::number(IFLA_EXT_MASK, SKIP_STATS)];
    let replies = socket.list(Request::link(libc::RTM_GETLINK, 0, mask))?;
    Ok(replies.iter().map(|reply| Link::of(reply).name).collect())
}

/// What can be set of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) mac_address: Option<MacAddress>,
    pub(super) mtu: Option<u32>,
    pub(super) txqueuelen: Option<u32>,
}

impl Settings {
    fn attributes(&self) -> Vec<Attribute> {
        let mac_address = self.mac_address.map(|mac| Attribute::bytes(IFLA_ADDRESS, &mac.bytes()));
        let mtu = self.mtu.map(|mtu| Attribute::number(IFLA_MTU, mtu));
        let txqueuelen = self.txqueuelen.map(|length| Attribute::number(IFLA_TXQLEN, length));
        [mac_address, mtu, txqueuelen].into_iter().flatten().collect()
    }
}

/// Sets what is to be set of an interface that is down.
pub(super) fn set(socket: &mut Socket, index: u32, settings: &Settings) -> Result<(), NetlinkError> {
    match settings.attributes() {
        none if none.is_empty() => Ok(()),
        attributes => socket.change(Request::link(libc::RTM_NEWLINK, index, attributes)),
    }
}

pub(super) fn set_up(socket: &mut Socket, index: u32) -> Result<(), NetlinkError> {
    socket.change(Request::link_flags(libc::RTM_NEWLINK, index, (UP, UP), Vec::new()))
}

/// One end of a pair that is to be.
#[derive(Debug)]
pub(super) struct End<'a> {
    pub(super) name: &'a InterfaceName,
    pub(super) settings: Settings,
}

/// Makes a pair: `host` here, as a port of the bridge `bridge`, and `inside` in another namespace. Both are there under
/// their names at once, or neither is. `veth(4)`
pub(super) fn add_veth(
    socket: &mut Socket,
    host: &End<'_>,
    bridge: Option<u32>,
    inside: &End<'_>,
    namespace: BorrowedFd<'_>,
) -> Result<(), NetlinkError> {
    let mut peer = inside.settings.attributes();
    peer.push(Attribute::text(IFLA_IFNAME, inside.name.as_str()));
    peer.push(in_namespace(namespace));
    let peer = Attribute::nest_behind(VETH_INFO_PEER, link_header(0, 0, 0), peer);
    let info = vec![Attribute::text(IFLA_INFO_KIND, "veth"), Attribute::nest(IFLA_INFO_DATA, vec![peer])];
    let mut attributes = host.settings.attributes();
    attributes.push(Attribute::text(IFLA_IFNAME, host.name.as_str()));
    attributes.extend(bridge.map(|bridge| Attribute::number(IFLA_MASTER, bridge)));
    attributes.push(Attribute::nest(IFLA_LINKINFO, info));
    socket.change(Request::link(libc::RTM_NEWLINK, 0, attributes).new_only())
}

/// Brings the host's end of a pair up, with a note of whose it is; with `hairpin` the bridge may send back through it.
pub(super) fn open_port(
    socket: &mut Socket,
    index: u32,
    alias: &str,
    hairpin: bool,
) -> Result<(), NetlinkError> {
    let mut attributes = vec![Attribute::text(IFLA_IFALIAS, alias)];
    if hairpin {
        let port = vec![Attribute::bytes(IFLA_BRPORT_MODE, &[1])];
        let info = vec![
            Attribute::text(IFLA_INFO_SLAVE_KIND, "bridge"),
            Attribute::nest(IFLA_INFO_SLAVE_DATA, port),
        ];
        attributes.push(Attribute::nest(IFLA_LINKINFO, info));
    }
    socket.change(Request::link_flags(libc::RTM_NEWLINK, index, (UP, UP), attributes))
}

/// Moves an interface to another namespace, in which it is called `name`. The kernel takes it down for that, and its
/// addresses and routes with it.
///
/// When `name` is taken there the kernel says `EEXIST`, and may have moved it all the same.
pub(super) fn move_to(
    socket: &mut Socket,
    index: u32,
    namespace: BorrowedFd<'_>,
    name: &InterfaceName,
) -> Result<(), NetlinkError> {
    let attributes = vec![Attribute::text(IFLA_IFNAME, name.as_str()), in_namespace(namespace)];
    socket.change(Request::link(libc::RTM_NEWLINK, index, attributes))
}

pub(super) fn remove(socket: &mut Socket, index: u32) -> Result<(), NetlinkError> {
    match socket.change(Request::link(libc::RTM_DELLINK, index, Vec::new())) {
        // The other end's namespace has just ended.
        Err(error) if error.is(Errno::NODEV) => Ok(()),
        other => other,
    }
}

fn in_namespace(namespace: BorrowedFd<'_>) -> Attribute {
    Attribute::bytes(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
}
