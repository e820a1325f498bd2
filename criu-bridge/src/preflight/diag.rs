//! The kernel's table of UNIX sockets (sock_diag(7)): `/proc/net/unix` does not tell who is connected to whom.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::netlink::{self, HEADER, word};
use crate::outside::netns;

/// A UNIX socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its inode number.
    pub inode: u64,
    /// Whether it is for datagrams, whose connections have but one direction.
    pub datagram: bool,
    /// Whether it waits for connections.
    pub listening: bool,
    /// Inode number of the socket that it is connected to.
    pub peer: Option<u64>,
    /// Its path, or `@` and its abstract name; empty without one.
    pub name: String,
}

// uapi/linux/sock_diag.h, unix_diag.h.
const REQUEST: usize = 24;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_NAME_AND_PEER: u32 = 0x1 | 0x4;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const MESSAGE: usize = 16;
const TCP_LISTEN: u8 = 10;
const AF_UNIX: u8 = 1;
const SOCK_DGRAM: u8 = 2;

/// Largest answer at once; the kernel fills at most 32 KiB.
const ROOM: usize = 64 << 10;

/// The UNIX sockets of the network namespace that `pid` lives in; none where the kernel does not tell.
pub(super) fn unix_sockets(pid: i32) -> Vec<UnixSocket> {
    let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
    netns::within(&namespace, || Ok(table().unwrap_or_default())).unwrap_or_default()
}

fn table() -> nix::Result<Vec<UnixSocket>> {
    let kernel: OwnedFd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    // The kernel answers at once, or not at all.
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
    sendto(kernel.as_raw_fd(), &request(), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut room = vec![0; ROOM];
    loop {
        let size = recv(kernel.as_raw_fd(), &mut room, MsgFlags::empty())?;
        let answer = room.get(..size).unwrap_or_default();
        if size == 0 || read(answer, &mut found) {
            return Ok(found);
        }
    }
}

fn request() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    let length = u32::try_from(HEADER + REQUEST).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((netlink::REQUEST | netlink::DUMP).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([AF_UNIX, 0, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(UDIAG_SHOW_NAME_AND_PEER.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// Reads the messages of one answer; `true` after the last.
fn read(answer: &[u8], found: &mut Vec<UnixSocket>) -> bool {
    for (kind, message) in netlink::messages(answer) {
        match kind {
            netlink::DONE | netlink::ERROR => return true,
            _ => found.extend(one(message)),
        }
    }
    false
}

fn one(message: &[u8]) -> Option<UnixSocket> {
    let mut socket = UnixSocket {
        inode: u64::from(word(message, 4)?),
        datagram: *message.get(1)? == SOCK_DGRAM,
        listening: *message.get(2)? == TCP_LISTEN,
        peer: None,
        name: String::new(),
    };
    for (kind, value) in netlink::attributes(message.get(MESSAGE..)?) {
        match kind {
            UNIX_DIAG_NAME => {
                let name = String::from_utf8_lossy(value).into_owned();
                socket.name = match name.strip_prefix('\0') {
                    Some(name) => format!("@{name}"),
                    None => name.trim_end_matches('\0').to_owned(),
                };
            }
            UNIX_DIAG_PEER => socket.peer = word(value, 0).map(u64::from).filter(|peer| *peer != 0),
            _ => {}
        }
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn inode(socket: &impl AsRawFd) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn who_is_connected_to_whom_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listener");
        let listener = UnixListener::bind(&path).unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let datagram = UnixDatagram::unbound().unwrap();
        let all = unix_sockets(std::process::id().cast_signed());
        let find = |inode| all.iter().find(|socket| socket.inode == inode).unwrap();
        assert_eq!(find(inode(&one)).peer, Some(inode(&other)));
        assert_eq!(find(inode(&listener)).name, path.to_string_lossy());
        assert!(find(inode(&listener)).listening && !find(inode(&listener)).datagram);
        assert!(find(inode(&datagram)).datagram && find(inode(&datagram)).peer.is_none());
    }

    #[test]
    fn a_cut_answer_is_no_panic() {
        let mut message = vec![0; 40];
        message[..4].copy_from_slice(&40_u32.to_ne_bytes());
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        for length in 0..message.len() {
            read(&message[..length], &mut Vec::new());
        }
        message[..4].copy_from_slice(&3_u32.to_ne_bytes());
        read(&message, &mut Vec::new());
    }
}
