//! Requests, and the names and numbers of `<linux/rtnetlink.h>`, `<linux/if_link.h>` and `<linux/if_addr.h>`.

use netlink_packet_core::{
    Emitable, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, Nla,
};
use nix::libc;

/// A kind of attribute.
#[derive(Debug, Clone, Copy)]
pub(in crate::network) struct Kind {
    name: &'static str,
    pub(in crate::network) number: u16,
}

macro_rules! kinds {
    ($($name:ident = $number:expr;)*) => {
        $(pub(in crate::network) const $name: Kind = Kind { name: stringify!($name), number: $number };)*
    };
}

kinds! {
    IFLA_ADDRESS = libc::IFLA_ADDRESS;
    IFLA_IFNAME = libc::IFLA_IFNAME;
    IFLA_MTU = libc::IFLA_MTU;
    IFLA_MASTER = libc::IFLA_MASTER;
    IFLA_TXQLEN = libc::IFLA_TXQLEN;
    IFLA_STATS64 = libc::IFLA_STATS64;
    IFLA_LINKINFO = libc::IFLA_LINKINFO;
    IFLA_IFALIAS = libc::IFLA_IFALIAS;
    IFLA_NET_NS_FD = libc::IFLA_NET_NS_FD;
    IFLA_EXT_MASK = libc::IFLA_EXT_MASK;
    IFLA_INFO_KIND = libc::IFLA_INFO_KIND;
    IFLA_INFO_DATA = libc::IFLA_INFO_DATA;
    IFLA_INFO_SLAVE_KIND = libc::IFLA_INFO_SLAVE_KIND;
    IFLA_INFO_SLAVE_DATA = libc::IFLA_INFO_SLAVE_DATA;
    // `<linux/veth.h>`
    VETH_INFO_PEER = 1;
    // Hairpin mode, whatever its name says.
    IFLA_BRPORT_MODE = 4;
    IFA_ADDRESS = libc::IFA_ADDRESS;
    IFA_LOCAL = libc::IFA_LOCAL;
    IFA_BROADCAST = libc::IFA_BROADCAST;
    IFA_FLAGS = 8;
    IFA_RT_PRIORITY = 9;
    RTA_DST = libc::RTA_DST;
    RTA_OIF = libc::RTA_OIF;
    RTA_GATEWAY = libc::RTA_GATEWAY;
    RTA_PREFSRC = libc::RTA_PREFSRC;
}

/// An attribute of a request.
#[derive(Debug, Clone)]
pub(in crate::network) struct Attribute {
    kind: Kind,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Bytes(Vec<u8>),
    /// A fixed part, and attributes in turn.
    Nest(Vec<u8>, Vec<Attribute>),
}

impl Attribute {
    pub(in crate::network) fn bytes(kind: Kind, value: &[u8]) -> Self {
        Self { kind, value: Value::Bytes(value.to_vec()) }
    }

    pub(in crate::network) fn number(kind: Kind, value: u32) -> Self {
        Self::bytes(kind, &value.to_ne_bytes())
    }

    /// Text, with the NUL at its end that the kernel wants.
    pub(in crate::network) fn text(kind: Kind, value: &str) -> Self {
        Self::bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(in crate::network) fn nest(kind: Kind, attributes: Vec<Self>) -> Self {
        Self::nest_behind(kind, Vec::new(), attributes)
    }

    /// As [`Attribute::nest`], with a fixed part before the attributes.
    pub(in crate::network) fn nest_behind(kind: Kind, header: Vec<u8>, attributes: Vec<Self>) -> Self {
        Self { kind, value: Value::Nest(header, attributes) }
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        match &self.value {
            Value::Bytes(bytes) => bytes.len(),
            Value::Nest(header, attributes) => header.len() + attributes.as_slice().buffer_len(),
        }
    }

    fn kind(&self) -> u16 {
        self.kind.number
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        match &self.value {
            Value::Bytes(bytes) => buffer.copy_from_slice(bytes),
            Value::Nest(header, attributes) => {
                let (first, rest) = buffer.split_at_mut(header.len());
                first.copy_from_slice(header);
                attributes.as_slice().emit(rest);
            }
        }
    }
}

/// A request. `rtnetlink(7)`.
#[derive(Debug, Clone)]
pub(in crate::network) struct Request {
    kind: u16,
    flags: u16,
    header: Vec<u8>,
    attributes: Vec<Attribute>,
}

impl Request {
    /// About an interface: `struct ifinfomsg`. `index` 0 names none, so that the attributes do.
    pub(in crate::network) fn link(kind: u16, index: u32, attributes: Vec<Attribute>) -> Self {
        Self { kind, flags: 0, header: link_header(index, 0, 0), attributes }
    }

    /// About an interface, whose flags (`netdevice(7)`) in `mask` become those in `flags`.
    pub(in crate::network) fn link_flags(
        kind: u16,
        index: u32,
        (flags, mask): (u32, u32),
        attributes: Vec<Attribute>,
    ) -> Self {
        Self { kind, flags: 0, header: link_header(index, flags, mask), attributes }
    }

    /// About an address: `struct ifaddrmsg`.
    pub(in crate::network) fn address(kind: u16, about: AddressHeader, attributes: Vec<Attribute>) -> Self {
        // The flags of the header have eight bits; an attribute has them all.
        let mut header = vec![about.family, about.prefix_len, 0, about.scope];
        header.extend(about.index.to_ne_bytes());
        Self { kind, flags: 0, header, attributes }
    }

    /// About a route: `struct rtmsg`.
    pub(in crate::network) fn route(kind: u16, about: RouteHeader, attributes: Vec<Attribute>) -> Self {
        let source_len = 0;
        let type_of_service = 0;
        let mut header = vec![about.family, about.destination_len, source_len, type_of_service];
        header.extend([libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, about.scope, libc::RTN_UNICAST]);
        header.extend(about.flags.to_ne_bytes());
        Self { kind, flags: 0, header, attributes }
    }

    /// For something that is not there yet.
    pub(in crate::network) fn new_only(self) -> Self {
        self.flagged(NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(super) fn flagged(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    pub(super) fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = self.flags | NLM_F_REQUEST;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(self.clone()));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    /// The name of the innermost attribute that the byte at `offset`, counted behind the message's header, belongs to.
    pub(super) fn attribute_at(&self, offset: usize) -> Option<&'static str> {
        innermost(&self.attributes, offset.checked_sub(self.header.len())?)
    }
}

fn innermost(attributes: &[Attribute], mut offset: usize) -> Option<&'static str> {
    const HEADER: usize = 4;
    for attribute in attributes {
        let length = attribute.buffer_len();
        if offset < length {
            let within = match &attribute.value {
                Value::Bytes(_) => None,
                Value::Nest(header, attributes) => {
                    offset.checked_sub(HEADER + header.len()).and_then(|offset| innermost(attributes, offset))
                }
            };
            return within.or(Some(attribute.kind.name));
        }
        offset -= length;
    }
    None
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.header.len() + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(self.header.len());
        header.copy_from_slice(&self.header);
        self.attributes.as_slice().emit(attributes);
    }
}

/// `struct ifinfomsg`.
pub(in crate::network) fn link_header(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    // Family, padding and type: none.
    let mut header = vec![0; 4];
    for number in [index, flags, mask] {
        header.extend(number.to_ne_bytes());
    }
    header
}

/// What is fixed in a request about an address.
#[derive(Debug, Clone, Copy)]
pub(in crate::network) struct AddressHeader {
    /// `AF_INET` or `AF_INET6`; `AF_UNSPEC` asks for both.
    pub(in crate::network) family: u8,
    /// Bits of the network's prefix.
    pub(in crate::network) prefix_len: u8,
    /// `RT_SCOPE_*`: how far the address is valid.
    pub(in crate::network) scope: u8,
    /// The interface.
    pub(in crate::network) index: u32,
}

/// What is fixed in a request about a route.
#[derive(Debug, Clone, Copy)]
pub(in crate::network) struct RouteHeader {
    /// `AF_INET` or `AF_INET6`.
    pub(in crate::network) family: u8,
    /// Bits of the destination's prefix.
    pub(in crate::network) destination_len: u8,
    /// `RT_SCOPE_*`: how far away it leads.
    pub(in crate::network) scope: u8,
    /// `RTNH_F_*`.
    pub(in crate::network) flags: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let peer = Attribute::nest_behind(
            VETH_INFO_PEER,
            link_header(0, 0, 0),
            vec![Attribute::text(IFLA_IFNAME, "eth0")],
        );
        let info = vec![Attribute::text(IFLA_INFO_KIND, "veth"), Attribute::nest(IFLA_INFO_DATA, vec![peer])];
        let attributes = vec![Attribute::number(IFLA_MTU, 1400), Attribute::nest(IFLA_LINKINFO, info)];
        Request::link(libc::RTM_NEWLINK, 7, attributes).new_only()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_request_has_the_kernels_layout() {
        let bytes = request().encode(3);
        let header = [&[92, 0, 0, 0, 16, 0, 1, 6][..], &[3, 0, 0, 0], &[0; 4]].concat();
        assert_eq!(bytes[..16], header);
        let link = [&[0; 4][..], &[7, 0, 0, 0], &[0; 8]].concat();
        assert_eq!(bytes[16..32], link);
        assert_eq!(bytes[32..40], [8, 0, 4, 0, 0x78, 5, 0, 0]);
        // The nest, the kind, the data, the peer behind its own `struct ifinfomsg`, and its name with padding.
        assert_eq!(bytes[40..44], [52, 0, 18, 0]);
        assert_eq!(bytes[44..56], [9, 0, 1, 0, b'v', b'e', b't', b'h', 0, 0, 0, 0]);
        assert_eq!(bytes[56..64], [36, 0, 2, 0, 32, 0, 1, 0]);
        assert_eq!(bytes[80..88], [9, 0, 3, 0, b'e', b't', b'h', b'0']);
    }

    #[test]
    fn the_attribute_that_is_to_blame_is_found() {
        let request = request();
        let at = |byte: usize| request.attribute_at(byte - 16);
        assert_eq!(at(32), Some("IFLA_MTU"));
        assert_eq!(at(40), Some("IFLA_LINKINFO"));
        assert_eq!(at(44), Some("IFLA_INFO_KIND"));
        assert_eq!(at(60), Some("VETH_INFO_PEER"));
        assert_eq!(at(80), Some("IFLA_IFNAME"));
        assert_eq!(at(31), None, "the fixed part");
        assert_eq!(at(4711), None);
    }
}
