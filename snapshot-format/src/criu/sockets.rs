//! The sockets in `files.img`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::framing::{COMMON, FILES, messages, parse};
use super::images::{File_entry, Inet_sk_entry, Unix_sk_entry};
use crate::error::Result;
use crate::manifest::Socket;

/// Every socket of the internet families and every UNIX socket.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn decode(image: &[u8]) -> Result<Vec<Socket>> {
    const NAME: &str = "files.img";
    let mut found = Vec::new();
    for message in messages(NAME, image, COMMON, FILES)? {
        let entry: File_entry = parse(NAME, message)?;
        found.extend(entry.isk.as_ref().map(internet));
        found.extend(entry.usk.as_ref().map(unix));
    }
    Ok(found)
}

fn internet(entry: &Inet_sk_entry) -> Socket {
    const TCP: u32 = 6;
    const UDP: u32 = 17;
    let kind = match entry.proto() {
        TCP => "tcp",
        UDP => "udp",
        _ => "raw",
    };
    let address = |words: &[u32], port: u32| {
        let port = u16::try_from(port).unwrap_or(0);
        ip(words).map_or_else(String::new, |ip| SocketAddr::new(ip, port).to_string())
    };
    Socket {
        id: entry.id(),
        kind: kind.to_owned(),
        state: state(entry.state()).to_owned(),
        local: address(&entry.src_addr, entry.src_port()),
        remote: address(&entry.dst_addr, entry.dst_port()),
    }
}

/// An address as it lies in memory: one word for IPv4, four for IPv6.
fn ip(words: &[u32]) -> Option<IpAddr> {
    let mut bytes = [0u8; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    match words.len() {
        1 => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        4 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

fn unix(entry: &Unix_sk_entry) -> Socket {
    // SOCK_STREAM, SOCK_DGRAM and SOCK_SEQPACKET of socket(2).
    let kind = match entry.type_() {
        1 => "unix stream",
        2 => "unix datagram",
        5 => "unix seqpacket",
        _ => "unix",
    };
    // An abstract name begins with a zero byte, which unix(7) and ss(8) show as @.
    let name = String::from_utf8_lossy(entry.name()).replace('\0', "@");
    let path = if name.starts_with('@') { name } else { name.trim_end_matches('@').to_owned() };
    let peer = entry.peer();
    Socket {
        id: entry.id(),
        kind: kind.to_owned(),
        state: state(entry.state()).to_owned(),
        local: if path.is_empty() { format!("inode {}", entry.ino()) } else { path },
        remote: if peer == 0 { String::new() } else { format!("inode {peer}") },
    }
}

/// The kernel's states (include/net/tcp_states.h), which UNIX sockets have too.
fn state(number: u32) -> &'static str {
    match number {
        1 => "established",
        2 => "syn-sent",
        3 => "syn-received",
        4 => "fin-wait-1",
        5 => "fin-wait-2",
        6 => "time-wait",
        7 => "closed",
        8 => "close-wait",
        9 => "last-ack",
        10 => "listening",
        11 => "closing",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::framing::Image;
    use super::*;

    #[test]
    fn addresses_and_states_are_told() {
        let mut socket = Inet_sk_entry::new();
        socket.set_id(4);
        socket.set_proto(6);
        socket.set_state(10);
        socket.set_src_port(6379);
        socket.src_addr = vec![u32::from_le_bytes([127, 0, 0, 1])];
        socket.dst_addr = vec![0, 0, 0, 0];
        let mut other = Unix_sk_entry::new();
        other.set_type(1);
        other.set_state(1);
        other.set_peer(77);
        other.set_name(b"\0hidden".to_vec());
        let mut image = Image::new(COMMON, FILES);
        for (isk, usk) in [(Some(socket), None), (None, Some(other))] {
            let mut entry = File_entry::new();
            entry.set_id(1);
            entry.isk = isk.into();
            entry.usk = usk.into();
            image.message("files.img", &entry).unwrap();
        }
        let found = decode(&image.finish()).unwrap();
        assert_eq!((found[0].kind.as_str(), found[0].state.as_str()), ("tcp", "listening"));
        assert_eq!((found[0].local.as_str(), found[0].remote.as_str()), ("127.0.0.1:6379", "[::]:0"));
        assert_eq!((found[1].local.as_str(), found[1].remote.as_str()), ("@hidden", "inode 77"));
    }
}
