//! Connections that a killed CRIU leaves in repair: their programs can neither read nor write any more.
//!
//! CRIU puts each TCP socket into repair (`TCP_REPAIR`, tcp.7 does not tell of it; `tcp_repair_set` of the kernel) to read
//! what is in its queues, and takes it out when it lets the container go. Killed, it does not, and every call of the
//! program on the socket fails with EPERM.

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::tasks::{self, Kind};

/// Takes every TCP socket of `pid` out of repair; how many there were. One that has ended has none.
pub(crate) fn end(pid: i32) -> usize {
    let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(process) = process else { return 0 };
    let sockets = tasks::descriptors(pid).unwrap_or_default();
    let sockets = sockets.into_iter().filter(|descriptor| descriptor.kind == Kind::Socket);
    let copies = sockets.filter_map(|one| pidfd_getfd(&process, one.fd, PidfdGetfdFlags::empty()).ok());
    // Of other sockets the kernel does not know the option.
    let in_repair =
        copies.filter(|copy| getsockopt(copy, sockopt::TcpRepair).is_ok_and(|repair| repair == 1));
    in_repair.filter(|copy| setsockopt(copy, sockopt::TcpRepair, &0).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_can_be_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        setsockopt(&far, sockopt::TcpRepair, &1).unwrap();
        near.write_all(b"x").unwrap();
        let mut came = [0];
        assert!(far.read_exact(&mut came).is_err());
        assert_eq!(end(std::process::id().cast_signed()), 1);
        far.read_exact(&mut came).unwrap();
        far.write_all(b"y").unwrap();
        near.read_exact(&mut came).unwrap();
        assert_eq!((&came, end(std::process::id().cast_signed())), (b"y", 0));
    }
}
