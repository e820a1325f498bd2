//! Sockets of kinds that CRIU does not know, and those that lead outside.

use std::collections::{BTreeMap, HashMap};

use super::{Finding, Process, Scene};
use crate::tasks::{Descriptor, Kind, Task};
use crate::version::Version;

/// Protocols that CRIU dumps, by the kernel's names for them.
const DUMPED: &[&str] = &[
    "UNIX",
    "UNIX-STREAM",
    "TCP",
    "TCPv6",
    "UDP",
    "UDPv6",
    "UDP-Lite",
    "UDPLITE",
    "UDPLITEv6",
    "RAW",
    "RAWv6",
    "PACKET",
    "NETLINK",
];

fn sockets<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = (&'a Process, &'a Descriptor)> {
    scene.descriptors().filter(|(_, descriptor)| descriptor.kind == Kind::Socket)
}

/// Families and protocols that CRIU does not know: vsock, MPTCP, ping, AF_ALG, SCTP and the like.
pub(super) fn unsupported(scene: &Scene<'_>) -> Vec<Finding> {
    sockets(scene)
        .filter_map(|(process, descriptor)| {
            let name = protocol(process.pid, descriptor.fd)?;
            if DUMPED.contains(&name.as_str()) {
                return None;
            }
            let what = format!("has a socket that criu cannot dump ({name}) on descriptor");
            let hint = match name.as_str() {
                "MPTCP" | "MPTCPv6" => "turn MPTCP off (for Go programs: GODEBUG=multipathtcp=0)",
                _ => "close it before the checkpoint",
            };
            Some(Finding::of(process, "socket-unsupported", &what, descriptor.fd, hint))
        })
        .collect()
}

/// The first CRIU that asks Internet sockets only for what they have.
const ASKS_FITTING: Version = Version::new(4, 2, 0);

/// Linux 6.16 and later refuse SO_PASSCRED on sockets that carry no credentials; an older CRIU asks all for it, and fails.
pub(super) fn not_told(scene: &Scene<'_>) -> Vec<Finding> {
    let old = scene.asked.criu.is_some_and(|criu| criu < ASKS_FITTING);
    if !old || kernel_tells() {
        return Vec::new();
    }
    let carries = |name: &str| name.starts_with("UNIX") || name == "NETLINK";
    let others = sockets(scene).filter_map(|(process, descriptor)| {
        let name = protocol(process.pid, descriptor.fd)
            .filter(|name| DUMPED.contains(&name.as_str()) && !carries(name))?;
        let what = format!("has a socket ({name}) that this criu cannot dump on this kernel, on descriptor");
        let hint = "use criu 4.2 or newer: kernels from 6.16 on no longer tell what older ones ask for";
        Some(Finding::of(process, "socket-option", &what, descriptor.fd, hint))
    });
    others.collect()
}

fn kernel_tells() -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket, sockopt};
    let own = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    own.is_ok_and(|own| getsockopt(&own, sockopt::PassCred).is_ok())
}

/// The protocol's name in the kernel (`system.sockprotoname`, Linux 2.6.39 and later).
fn protocol(pid: i32, fd: i32) -> Option<String> {
    let mut name = [0_u8; 64];
    let link = format!("/proc/{pid}/fd/{fd}");
    let size = rustix::fs::getxattr(&link, "system.sockprotoname", &mut name[..]).ok()?;
    let name = String::from_utf8_lossy(name.get(..size)?).into_owned();
    Some(name.trim_end_matches('\0').to_owned())
}

/// UNIX sockets that were made in another network namespace, or whose other end is held outside.
pub(super) fn unix_outside(scene: &Scene<'_>) -> Vec<Finding> {
    let own = scene.sockets();
    let table: HashMap<u64, _> = scene.unix.iter().map(|socket| (socket.inode, socket)).collect();
    if table.is_empty() {
        return Vec::new();
    }
    let mut suspects = Vec::new();
    for (process, descriptor) in sockets(scene) {
        let is_unix = protocol(process.pid, descriptor.fd).is_some_and(|name| name.starts_with("UNIX"));
        if !is_unix {
            continue;
        }
        match table.get(&descriptor.inode) {
            None => {
                let what = "holds a UNIX socket that was made outside the container, on descriptor";
                let hint = "close it in the program that started the container";
                suspects.push((None, Finding::of(process, "unix-outside", what, descriptor.fd, hint)));
            }
            Some(socket) => {
                if let Some(peer) = socket.peer.filter(|peer| !own.contains(peer)) {
                    let name = table.get(&peer).map(|peer| peer.name.clone()).unwrap_or_default();
                    if socket.datagram && scene.asked.ext_unix_sk && !name.is_empty() {
                        continue;
                    }
                    // A peer in another network namespace is outside, whoever holds it.
                    let known = table.contains_key(&peer).then_some(peer);
                    suspects.push((known, one_outside(process, descriptor, socket.datagram, &name)));
                }
            }
        }
    }
    let peers: Vec<u64> = suspects.iter().filter_map(|(peer, _)| *peer).collect();
    let holders = holders("socket:[", &peers, scene);
    let mut found = Vec::new();
    for (peer, mut finding) in suspects {
        if let Some(peer) = peer {
            // Nobody outside holds it: it waits to be accepted, or is on its way in a message.
            let Some(pid) = holders.get(&peer) else { continue };
            finding.blocker.on.push_str(&format!(" (process {pid}, {})", Task::look(*pid).name));
        }
        found.push(finding);
    }
    found
}

fn one_outside(process: &Process, descriptor: &Descriptor, datagram: bool, name: &str) -> Finding {
    let fd = descriptor.fd;
    let to = if name.is_empty() { "a socket without a name".to_owned() } else { name.to_owned() };
    if datagram && name.is_empty() {
        let what =
            format!("sends over a UNIX socket (descriptor {fd}) to a process outside the container, to");
        let hint =
            "close it before the checkpoint: the other end has no name, or is in another network namespace";
        return Finding::of(process, "unix-outside", &what, to, hint);
    }
    if datagram {
        let what =
            format!("sends over a UNIX socket (descriptor {fd}) to a process outside the container, to");
        return Finding::of(
            process,
            "unix-outside",
            &what,
            to,
            "pass --ext-unix-sk if the name will be there at the restore, or close it",
        );
    }
    let what = format!(
        "is connected over a UNIX stream socket (descriptor {fd}) to a process outside the container, at"
    );
    let hint = "close the connection before the checkpoint: half of a stream cannot be kept";
    Finding::of(process, "unix-half-stream", &what, to, hint)
}

/// Who holds these sockets or pipes (`kind` is how links to them begin), outside of what is dumped.
pub(super) fn holders(kind: &str, inodes: &[u64], scene: &Scene<'_>) -> BTreeMap<u64, i32> {
    let mut found = BTreeMap::new();
    if inodes.is_empty() {
        return found;
    }
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if scene.process(pid).is_some() {
            continue;
        }
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for target in links.filter_map(|link| std::fs::read_link(link.path()).ok()) {
            let inode =
                target.to_str().and_then(|text| text.strip_prefix(kind)?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                found.entry(inode).or_insert(pid);
            }
        }
    }
    found
}

/// Messages of the kernel that nobody has read yet.
pub(super) fn netlink(scene: &Scene<'_>) -> Vec<Finding> {
    let own = scene.sockets();
    let Some(root) = scene.root() else { return Vec::new() };
    let table = std::fs::read_to_string(format!("/proc/{}/net/netlink", root.pid)).unwrap_or_default();
    let waiting = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (unread, inode): (u64, u64) = (words.get(4)?.parse().ok()?, words.last()?.parse().ok()?);
        (unread > 0 && own.contains(&inode)).then_some(inode)
    });
    let mut found = Vec::new();
    for inode in waiting {
        if let Some((process, descriptor)) = sockets(scene).find(|(_, descriptor)| descriptor.inode == inode)
        {
            let what = "has not read all that waits in its netlink socket, on descriptor";
            found.push(Finding::of(process, "netlink-unread", what, descriptor.fd, "try again in a moment"));
        }
    }
    found
}

/// TCP connections, unless something was said about them.
pub(super) fn connected(scene: &Scene<'_>) -> Vec<Finding> {
    if scene.asked.tcp {
        return Vec::new();
    }
    let one = |connection: &crate::tasks::Connection| {
        let process = Process::named(connection.pid);
        let what = format!("has a TCP connection ({})", connection.state);
        let on = format!("{} -> {}", connection.local, connection.remote);
        Finding::of(
            &process,
            "tcp-connected",
            &what,
            on,
            "pass --tcp established to keep it, or --tcp close to drop it",
        )
    };
    scene.connections.iter().map(one).collect()
}

/// Connections that wait to be accepted: for a listener the kernel counts them as what waits to be read.
pub(super) fn not_accepted(scene: &Scene<'_>) -> Vec<Finding> {
    if scene.asked.skip_in_flight {
        return Vec::new();
    }
    let Some(root) = scene.root().and_then(|root| procfs::process::Process::new(root.pid).ok()) else {
        return Vec::new();
    };
    let mut listeners = root.tcp().unwrap_or_default();
    listeners.extend(root.tcp6().unwrap_or_default());
    let mut found = Vec::new();
    for entry in
        listeners.iter().filter(|entry| entry.state == procfs::net::TcpState::Listen && entry.rx_queue > 0)
    {
        if let Some((process, _)) = sockets(scene).find(|(_, descriptor)| descriptor.inode == entry.inode) {
            let what = format!("has not accepted {} connections yet, at", entry.rx_queue);
            let hint =
                "try again in a moment, or pass --tcp-skip-in-flight: the peer is told that there is none";
            found.push(Finding::of(process, "tcp-not-accepted", &what, entry.local_address, hint));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::preflight::Asked;

    #[test]
    fn the_kernel_names_protocols() {
        let me = std::process::id().cast_signed();
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(DUMPED.contains(&protocol(me, one.as_raw_fd()).unwrap().as_str()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(protocol(me, listener.as_raw_fd()).as_deref(), Some("TCP"));
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        assert!(DUMPED.contains(&protocol(me, udp.as_raw_fd()).unwrap().as_str()));
    }

    #[test]
    fn a_connection_that_waits_is_told_until_it_is_accepted() {
        let me = std::process::id().cast_signed();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waits = || {
            let scene = Scene::look(&[me], None, Asked::default()).unwrap();
            not_accepted(&scene).iter().any(|finding| finding.blocker.on == address.to_string())
        };
        assert!(!waits());
        let _client = std::net::TcpStream::connect(address).unwrap();
        assert!(waits());
        let _server = listener.accept().unwrap();
        assert!(!waits());
    }
}
