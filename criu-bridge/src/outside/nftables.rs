//! Tables of nftables, in the words of the kernel (`<linux/netfilter/nf_tables.h>`): nft(8) need not be there to take one out.

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::{Error, Result};
use crate::netlink;

/// Length of `struct nfgenmsg` in bytes (`<linux/netfilter/nfnetlink.h>`).
const GENERIC: usize = 4;

/// `NFNL_SUBSYS_NFTABLES`, and the messages: `NFT_MSG_GETTABLE`, `NFT_MSG_DELTABLE`, `NFNL_MSG_BATCH_BEGIN`,
/// `NFNL_MSG_BATCH_END` (`<linux/netfilter/nf_tables.h>`).
const NFTABLES: u16 = 10;
const GET_TABLE: u16 = NFTABLES << 8 | 1;
const DELETE_TABLE: u16 = NFTABLES << 8 | 2;
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;

/// `NFTA_TABLE_NAME`, and `NFPROTO_INET`.
const NAME: u16 = 1;
const INET: u8 = 1;

/// Longest answer: dumps of the kernel are in packets of at most 32 KiB.
const LONGEST: usize = 64 << 10;

/// How CRIU begins the names of its tables.
const PREFIX: &str = "CRIU-";

/// One message: type, flags, family, `res_id`, attributes.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(netlink::HEADER + GENERIC + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | netlink::REQUEST).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn socket() -> Result<std::os::fd::OwnedFd> {
    let failed = |source: rustix::io::Errno| Error::call("socket", "to the kernel's netfilter", source);
    let flags = SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))
        .map_err(failed)?;
    rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed)?;
    Ok(fd)
}

/// The tables of CRIU's in the calling thread's network namespace. Without nf_tables there are none.
pub(super) fn tables_of_criu() -> Result<Vec<String>> {
    let socket = socket()?;
    let request = message(GET_TABLE, netlink::DUMP, INET, 0, &[]);
    let failed = |source: rustix::io::Errno| Error::call("list", "nftables", source);
    rustix::net::send(&socket, &request, SendFlags::empty()).map_err(failed)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let (_, length) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()).map_err(failed)?;
        for (kind, body) in netlink::messages(buffer.get(..length).unwrap_or_default()) {
            match kind {
                netlink::DONE | netlink::ERROR => return Ok(found),
                _ => found.extend(name(body)),
            }
        }
        if length == 0 {
            return Ok(found);
        }
    }
}

/// The name in a table's message, if it is CRIU's.
fn name(body: &[u8]) -> Option<String> {
    let attributes = netlink::attributes(body.get(GENERIC..)?);
    let (_, value) = attributes.into_iter().find(|(kind, _)| *kind == NAME)?;
    let text = String::from_utf8_lossy(value.split(|byte| *byte == 0).next()?).into_owned();
    Some(text).filter(|text| text.starts_with(PREFIX))
}

/// Removes a table of the family `inet` there. That it is gone is no failure.
pub(super) fn remove_table(name: &str) -> Result<()> {
    let socket = socket()?;
    let mut attribute = u16::try_from(4 + name.len() + 1).unwrap_or(0).to_ne_bytes().to_vec();
    attribute.extend(NAME.to_ne_bytes());
    attribute.extend(name.as_bytes());
    attribute.push(0);
    let batch = [
        message(BEGIN, 0, 0, NFTABLES, &[]),
        message(DELETE_TABLE, netlink::ACK, INET, 0, &attribute),
        message(END, 0, 0, NFTABLES, &[]),
    ]
    .concat();
    let failed = |source: std::io::Error| Error::call("remove the table", format!("inet {name}"), source);
    rustix::net::send(&socket, &batch, SendFlags::empty()).map_err(|errno| failed(errno.into()))?;
    let mut buffer = vec![0; LONGEST];
    let (_, length) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())
        .map_err(|errno| failed(errno.into()))?;
    let answers = netlink::messages(buffer.get(..length).unwrap_or_default());
    let code =
        answers.iter().find(|(kind, _)| *kind == netlink::ERROR).and_then(|(_, body)| body.first_chunk());
    match code.map(|code| -i32::from_ne_bytes(*code)) {
        // Somebody else took it out.
        None | Some(0 | nix::libc::ENOENT) => Ok(()),
        Some(errno) => Err(failed(std::io::Error::from_raw_os_error(errno))),
    }
}
