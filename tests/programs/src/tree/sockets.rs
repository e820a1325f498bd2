//! UNIX sockets: pairs between distant nodes with messages in their queues, pairs within a node with descriptors in
//! one, and bound ones with a connection and bytes in it.
//!
//! What CRIU 4.1 cannot carry is left out: messages with credentials (`SO_PASSCRED`), connections that nobody has
//! accepted yet, and descriptors in the queues between two processes (some of those pairs come back with an empty
//! queue, or the restore fails on a bad descriptor).

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{SockType, setsockopt, sockopt};
use nix::unistd::pipe2;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use super::fabric::{Fabric, pair_kind};
use super::{Node, Part};
use crate::report::Report;
use crate::seed;

/// Messages that wait in each direction of a pair.
const MESSAGES: usize = 3;
/// Longest of them.
const LONGEST: usize = 3000;
/// Bytes in a pipe whose only end for reading waits in a socket.
const IN_PASSED_PIPE: usize = 500;
/// Bytes in a connection, and of a datagram, at a socket with a name.
const LENGTH: usize = 200;
/// Nodes that pass descriptors: every twelfth, from this one on.
const PASSING: usize = 5;
/// Nodes with bound sockets: every twentieth, from this one on.
const BOUND: usize = 3;

/// Takes this node's end of its pair, and binds where it is one to bind.
///
/// # Errors
/// The end was taken already, or the kernel's.
pub fn build(node: &Node, fabric: &mut Fabric, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let half = node.settings.nodes / 2;
    let (pair, side) = if node.index < half { (node.index, 0) } else { (node.index - half, 1) };
    if let Some(ends) = fabric.pairs.get_mut(pair) {
        let socket = ends[side].take().context("the end of the pair is gone")?;
        if pair.is_multiple_of(5) {
            setsockopt(&socket, sockopt::RcvBuf, &(40_000 + pair))?;
        }
        parts.push(Box::new(End { socket, pair, side }));
    }
    if node.index % 12 == PASSING {
        parts.push(Box::new(Passing::new(node.index)?));
    }
    if node.index % 20 == BOUND {
        parts.push(Box::new(Bound::new(node)?));
    }
    Ok(())
}

/// One end of a pair.
struct End {
    socket: OwnedFd,
    pair: usize,
    side: usize,
}

impl End {
    fn label(&self, from: usize, message: usize) -> String {
        format!("pair {} side {from} message {message}", self.pair)
    }

    /// Lengths that differ, so that boundaries show.
    fn length(&self, message: usize) -> usize {
        1 + (self.pair * 331 + message * 1009) % LONGEST
    }

    fn send(&self, round: u32, message: usize) -> Result<()> {
        let content = seed::bytes(&self.label(self.side, message), round, self.length(message));
        let sent = rustix::net::send(&self.socket, &content, SendFlags::DONTWAIT)?;
        ensure!(sent == content.len(), "only {sent} of {} bytes fit", content.len());
        Ok(())
    }

    fn receive(&self, round: u32, message: usize, report: &mut Report) -> Result<()> {
        let label = self.label(1 - self.side, message);
        let expected = seed::bytes(&label, round, self.length(message));
        // A stream knows no boundaries; a message that is longer than expected must not look right.
        let room = if pair_kind(self.pair) == SockType::Stream { expected.len() } else { LONGEST + 1 };
        let mut found = vec![0; room];
        let (got, _) = rustix::net::recv(&self.socket, &mut found[..], RecvFlags::DONTWAIT)?;
        report.content(&label, &expected, &found[..got]);
        Ok(())
    }
}

impl Part for End {
    fn look(&mut self, round: u32, report: &mut Report) {
        for message in 0..MESSAGES {
            let result = self.receive(round, message, report);
            report.works(self.label(1 - self.side, message), result);
        }
        let rest =
            rustix::net::recv(&self.socket, &mut [0_u8; 1], RecvFlags::DONTWAIT).map(|(_, length)| length);
        report.same(
            format!("end of pair {} side {}", self.pair, self.side),
            &Err(rustix::io::Errno::AGAIN),
            &rest,
        );
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        (0..MESSAGES)
            .try_for_each(|message| self.send(round, message).with_context(|| self.label(self.side, message)))
    }
}

/// A pair within one process, with a message that carries two descriptors.
struct Passing {
    send: UnixStream,
    receive: UnixStream,
    label: String,
}

impl Passing {
    fn new(index: usize) -> Result<Self> {
        let (send, receive) = UnixStream::pair()?;
        receive.set_nonblocking(true)?;
        Ok(Self { send, receive, label: format!("descriptors in flight in node {index}") })
    }

    /// What the descriptors are of will be in no process's table, only in the queue: a pipe with bytes, a counter.
    fn pass(&self, round: u32) -> Result<()> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        File::from(write).write_all(&seed::bytes(&self.label, round + 1, IN_PASSED_PIPE))?;
        let event = EventFd::from_value_and_flags(1000 + round, EfdFlags::EFD_NONBLOCK)?;
        let descriptors = [read.as_fd(), event.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "no room for descriptors");
        let content = seed::bytes(&self.label, round, LENGTH);
        rustix::net::sendmsg(&self.send, &[IoSlice::new(&content)], &mut control, SendFlags::empty())?;
        Ok(())
    }

    fn take(&self, round: u32, report: &mut Report) -> Result<()> {
        let mut content = [0; LENGTH];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got =
            rustix::net::recvmsg(&self.receive, &mut [IoSliceMut::new(&mut content)], &mut control, flags)?;
        report.content(&self.label, &seed::bytes(&self.label, round, LENGTH), &content[..got.bytes]);
        let mut descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors = descriptors.next().context("no descriptors came")?;
        let mut bytes = Vec::new();
        File::from(descriptors.next().context("the pipe did not come")?).read_to_end(&mut bytes)?;
        report.content("pipe in flight", &seed::bytes(&self.label, round + 1, IN_PASSED_PIPE), &bytes);
        let mut value = [0; 8];
        File::from(descriptors.next().context("the counter did not come")?).read_exact(&mut value)?;
        report.same("counter in flight", &u64::from(1000 + round), &u64::from_ne_bytes(value));
        Ok(())
    }
}

impl Part for Passing {
    fn look(&mut self, round: u32, report: &mut Report) {
        let taken = self.take(round, report);
        report.works(&self.label, taken);
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        self.pass(round)
    }
}

/// Sockets with names.
struct Bound {
    listener: UnixListener,
    datagrams: UnixDatagram,
    connection: Option<(UnixStream, UnixStream)>,
    stream_path: PathBuf,
    datagram_path: PathBuf,
}

impl Bound {
    fn new(node: &Node) -> Result<Self> {
        let stream_path = node.settings.folder.join(format!("stream-{}", node.index));
        let datagram_path = node.settings.folder.join(format!("datagram-{}", node.index));
        let listener = UnixListener::bind(&stream_path)?;
        let datagrams = UnixDatagram::bind(&datagram_path)?;
        listener.set_nonblocking(true)?;
        datagrams.set_nonblocking(true)?;
        Ok(Self { listener, datagrams, connection: None, stream_path, datagram_path })
    }

    fn connect(&mut self, round: u32) -> Result<()> {
        let mut client = UnixStream::connect(&self.stream_path).context("connect")?;
        let (mut accepted, _) = self.listener.accept().context("accept")?;
        client.write_all(&seed::bytes("question", round, LENGTH))?;
        accepted.write_all(&seed::bytes("answer", round, LENGTH))?;
        self.connection = Some((client, accepted));
        Ok(())
    }

    fn disconnect(&mut self, round: u32, report: &mut Report) -> Result<()> {
        let (mut client, mut accepted) = self.connection.take().context("the connection is gone")?;
        let mut found = [0; LENGTH];
        accepted.read_exact(&mut found)?;
        report.content("what a client sent", &seed::bytes("question", round, LENGTH), &found);
        client.read_exact(&mut found)?;
        report.content("what a client was sent", &seed::bytes("answer", round, LENGTH), &found);
        Ok(())
    }
}

impl Part for Bound {
    fn look(&mut self, round: u32, report: &mut Report) {
        let done = self.disconnect(round, report);
        report.works("connection", done);
        let mut found = [0; 300];
        if let Some(length) = report.works("bound datagram socket", self.datagrams.recv(&mut found)) {
            report.content(
                "bound datagram socket",
                &seed::bytes("datagram", round, LENGTH),
                found.get(..length).unwrap_or(&[]),
            );
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        self.connect(round)?;
        let sender = UnixDatagram::unbound()?;
        sender.send_to(&seed::bytes("datagram", round, LENGTH), &self.datagram_path).context("send")?;
        Ok(())
    }
}
