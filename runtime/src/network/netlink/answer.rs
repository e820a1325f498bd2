//! What the kernel answers.

use std::convert::Infallible;
use std::fmt;
use std::io;

use netlink_packet_core::{
    DecodeError, NLA_HEADER_SIZE, NLM_F_ACK_TLVS, NetlinkDeserializable, NetlinkHeader, NlasIterator,
};
use nix::libc;
use rustix::io::Errno;

use super::Request;

/// Length of a message's header in bytes.
const HEADER: usize = 16;

/// The kernel's words (`enum nlmsgerr_attrs` of `<linux/netlink.h>`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Which byte of the request is to blame.
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// The kernel refused a request about interfaces, addresses or routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetlinkError {
    errno: i32,
    words: Option<String>,
    attribute: Option<&'static str>,
}

impl NetlinkError {
    /// `code` is a negative error number; `attributes` are those of an extended acknowledgement, if `flags` say so.
    pub(super) fn of(code: i32, flags: u16, attributes: &[u8], request: &Request) -> Self {
        let mut error = Self { errno: -code, words: None, attribute: None };
        if flags & NLM_F_ACK_TLVS == 0 {
            return error;
        }
        for attribute in self::attributes(attributes) {
            match attribute {
                (NLMSGERR_ATTR_MSG, words) => {
                    let words = words.split(|byte| *byte == 0).next().unwrap_or_default();
                    error.words = Some(String::from_utf8_lossy(words).into_owned());
                }
                (NLMSGERR_ATTR_OFFS, &[a, b, c, d]) => {
                    let offset = u32::from_ne_bytes([a, b, c, d]) as usize;
                    error.attribute =
                        offset.checked_sub(HEADER).and_then(|offset| request.attribute_at(offset));
                }
                _ => {}
            }
        }
        error
    }

    /// An answer that cannot be read.
    pub(super) fn unreadable(error: &DecodeError) -> Self {
        Self { words: Some(error.to_string()), ..Errno::BADMSG.into() }
    }

    /// The kernel's error number.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What can be done about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.errno {
            libc::EPERM => Some("floe needs CAP_NET_ADMIN in the host's network for that: run it as root"),
            libc::EACCES => Some("is IPv6 switched off there (sysctl net.ipv6.conf.all.disable_ipv6)?"),
            libc::EOPNOTSUPP | libc::EAFNOSUPPORT => Some(
                "this kernel lacks that kind of interface or address: load its module (`modprobe veth bridge`)",
            ),
            libc::EEXIST => Some("another one is there already: take it away, or out of the configuration"),
            libc::ENETUNREACH | libc::EHOSTUNREACH => Some(
                "a gateway has to be in the network of one of the container's addresses, which has to be up",
            ),
            _ => None,
        }
    }

    pub(in crate::network) fn is(&self, errno: Errno) -> bool {
        self.errno == errno.raw_os_error()
    }
}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> Self {
        Self { errno: errno.raw_os_error(), words: None, attribute: None }
    }
}

impl From<nix::errno::Errno> for NetlinkError {
    fn from(errno: nix::errno::Errno) -> Self {
        Self { errno: errno as i32, words: None, attribute: None }
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)?;
        match (&self.words, self.attribute) {
            (Some(words), Some(attribute)) => write!(f, "; the kernel says of {attribute}: {words}"),
            (Some(words), None) => write!(f, "; the kernel says: {words}"),
            (None, Some(attribute)) => write!(f, "; the kernel blames {attribute}"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for NetlinkError {}

/// What follows the header of the request, which an error begins with. The request's own content is not sent back
/// (`NETLINK_CAP_ACK`).
pub(super) fn past_request(error: &[u8]) -> &[u8] {
    error.get(HEADER..).unwrap_or_default()
}

/// A message that tells of a thing.
#[derive(Debug)]
pub(in crate::network) struct Reply(Vec<u8>);

impl NetlinkDeserializable for Reply {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self(payload.to_vec()))
    }
}

impl Reply {
    /// The fixed part, of `N` bytes. All zero where it is shorter, which the kernel's never is.
    pub(in crate::network) fn header<const N: usize>(&self) -> [u8; N] {
        self.0.get(..N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    /// The attributes behind a fixed part of `header` bytes, by kind.
    pub(in crate::network) fn attributes(&self, header: usize) -> impl Iterator<Item = (u16, &[u8])> {
        attributes(self.0.get(header..).unwrap_or_default())
    }
}

/// Attributes one after the other. What cannot be read ends them.
pub(in crate::network) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        (kind, attribute.into_inner().get(NLA_HEADER_SIZE..length).unwrap_or_default())
    })
}
