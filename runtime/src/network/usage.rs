//! What went through the interfaces that were made for a container.

use serde::Serialize;

use super::cannot;
use super::link::{self, Traffic};
use super::netlink::Socket;
use super::notes;
use crate::error::Result;
use crate::state::Folder;

/// What went through one pair, as the container sees it: what it received is what the host's end sent.
///
/// In JSON it has the keys that runc's `events` has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceUse {
    /// The name of the host's end.
    pub name: String,
    /// Bytes that came.
    pub rx_bytes: u64,
    /// Packets that came.
    pub rx_packets: u64,
    /// Packets that came damaged.
    pub rx_errors: u64,
    /// Packets that came and were dropped.
    pub rx_dropped: u64,
    /// Bytes that were sent.
    pub tx_bytes: u64,
    /// Packets that were sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were dropped instead of being sent.
    pub tx_dropped: u64,
}

impl InterfaceUse {
    fn new(name: String, came: Traffic, went: Traffic) -> Self {
        Self {
            name,
            rx_bytes: came.bytes,
            rx_packets: came.packets,
            rx_errors: came.errors,
            rx_dropped: came.dropped,
            tx_bytes: went.bytes,
            tx_packets: went.packets,
            tx_errors: went.errors,
            tx_dropped: went.dropped,
        }
    }
}

/// Of each pair of the container in `folder` whose end is on the caller's host. One that is gone, or that somebody else
/// has the name of, is left out.
///
/// # Errors
/// [`Error::Network`](crate::Error::Network).
pub(crate) fn usage(folder: &Folder) -> Result<Vec<InterfaceUse>> {
    let veths = notes::veths(folder)?;
    if veths.is_empty() {
        return Ok(Vec::new());
    }
    let mut host = Socket::here().map_err(cannot("ask the kernel", "interfaces of the host"))?;
    let mut all = Vec::new();
    for veth in veths {
        let found = link::counted(&mut host, &veth.host)
            .map_err(cannot("read its counters", format!("interface {}", veth.host)))?;
        if let Some((link, counters)) = found.filter(|(link, _)| link.mac_address == Some(veth.mac_address)) {
            all.push(InterfaceUse::new(link.name, counters.sent, counters.received));
        }
    }
    Ok(all)
}
