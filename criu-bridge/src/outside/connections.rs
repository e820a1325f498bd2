//! TCP connections: who has them, with whom, and what becomes of them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use floe_snapshot_format::{Manifest, Socket, Task};

use super::netns;
use crate::error::{Error, Result};
use crate::tasks;

/// One connection, and its fate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Connection {
    /// This side, `address:port`.
    pub local: String,
    /// The other side.
    pub peer: String,
    /// The name of the process that has it.
    pub process: String,
    /// Its number in the container.
    pub pid: u32,
    /// Its state in the kernel's word.
    pub state: String,
    /// What becomes of it in the restored container.
    pub fate: Fate,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It goes on.
    Kept,
    /// It is closed; the program finds out when it uses it.
    Closed,
    /// It had not been accepted yet, and is not in the snapshot: the peer is told that there is none.
    Skipped,
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Closed => "closed",
            Self::Skipped => "skipped, for it was not accepted yet",
        })
    }
}

impl Connection {
    /// One that was found while it waited to be accepted.
    pub(crate) fn skipped(found: &tasks::Connection) -> Self {
        Self {
            local: found.local.clone(),
            peer: found.remote.clone(),
            process: tasks::Task::look(found.pid).name,
            pid: tasks::inner_number(found.pid).unwrap_or(0),
            state: found.state.to_lowercase(),
            fate: Fate::Skipped,
        }
    }
}

/// The connections in a snapshot.
pub(crate) fn of(manifest: &Manifest, fate: Fate) -> Vec<Connection> {
    let connected = manifest.sockets.iter().filter(|socket| is_connection(socket));
    let one = |socket: &Socket| {
        let has = |task: &&Task| task.descriptors.iter().any(|descriptor| descriptor.file == socket.id);
        let task = manifest.tasks.iter().find(has);
        Connection {
            local: socket.local.clone(),
            peer: socket.remote.clone(),
            process: task.map(|task| task.name.clone()).unwrap_or_default(),
            pid: task.map_or(0, |task| task.pid),
            state: socket.state.clone(),
            fate,
        }
    };
    connected.map(one).collect()
}

fn is_connection(socket: &Socket) -> bool {
    let nobody = socket.remote.parse::<SocketAddr>().is_ok_and(|remote| remote.port() == 0);
    socket.kind == "tcp" && !socket.remote.is_empty() && !nobody
}

/// Looks for this side's addresses in the calling thread's network namespace.
fn missing(connections: &[Connection]) -> Option<&Connection> {
    connections.iter().filter(|connection| connection.fate == Fate::Kept).find(|connection| {
        let Ok(local) = connection.local.parse::<SocketAddr>() else { return false };
        let address = local.ip().to_canonical();
        // An address of a link is one only together with an interface, which an image does not name.
        let of_link = matches!(address, IpAddr::V6(address) if is_of_link(address));
        !of_link
            && UdpSocket::bind((address, 0))
                .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable)
    })
}

fn is_of_link(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Demands that this side's addresses of the connections that are kept are there: in the network namespace `namespace`, or
/// in floe's own.
///
/// # Errors
/// [`Error::Unfit`] with the first that is not.
pub(crate) fn demand_addresses(
    connections: &[Connection],
    namespace: Option<std::os::fd::BorrowedFd<'_>>,
) -> Result<()> {
    let look = || Ok(missing(connections).cloned());
    let absent = match namespace {
        Some(namespace) => netns::inside(&namespace, look)?,
        None => look()?,
    };
    let Some(Connection { local, peer, process, .. }) = absent else { return Ok(()) };
    let address = local.parse::<SocketAddr>().map_or_else(|_| local.clone(), |local| local.ip().to_string());
    Err(Error::Unfit {
        what: format!(
            "{process} has a connection {local} -> {peer}, and no interface of the network namespace that it would come \
             back in has the address {address}"
        ),
        hint: "give an interface there the address, or restore with --tcp close".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: &str, fate: Fate) -> Connection {
        let (peer, process, state) = ("10.0.0.9:5".to_owned(), "redis".to_owned(), "established".to_owned());
        Connection { local: local.to_owned(), peer, process, pid: 1, state, fate }
    }

    #[test]
    fn an_address_that_is_not_there_is_named() {
        let here = ["127.0.0.1:80", "127.3.2.1:80", "[::ffff:127.0.0.1]:80", "[fe80::1]:80"];
        for local in here {
            demand_addresses(&[connection(local, Fate::Kept)], None).unwrap();
        }
        demand_addresses(&[connection("192.0.2.7:80", Fate::Closed)], None).unwrap();
        let error =
            demand_addresses(&[connection("192.0.2.7:80", Fate::Kept)], None).unwrap_err().to_string();
        assert!(error.contains("192.0.2.7:80 -> 10.0.0.9:5") && error.contains("--tcp close"), "{error}");
    }

    #[test]
    fn a_listener_is_no_connection() {
        let socket = |kind: &str, remote: &str| Socket {
            id: 1,
            kind: kind.to_owned(),
            state: "listen".to_owned(),
            local: "0.0.0.0:80".to_owned(),
            remote: remote.to_owned(),
        };
        assert!(!is_connection(&socket("tcp", "0.0.0.0:0")));
        assert!(!is_connection(&socket("udp", "10.0.0.1:53")));
        assert!(is_connection(&socket("tcp", "[fd00::1]:53")));
    }
}
