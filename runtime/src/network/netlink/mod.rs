//! Conversations with the kernel about interfaces, addresses and routes. `rtnetlink(7)`.
//!
//! One request, one answer, one socket for each network namespace: a socket belongs to the namespace in which it was
//! made, and to nothing else, so one that was made in the container's is used from outside of it ([`Socket::inside`]).

mod answer;
mod message;
mod sys;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use nix::sched::CloneFlags;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

pub use answer::NetlinkError;
pub(super) use answer::{Reply, attributes};
pub(super) use message::*;

/// Longest packet that the kernel answers with, in bytes: its dumps are made of packets of at most 32 KiB.
const LONGEST: usize = 64 << 10;

/// How often a list is asked for again that changed while it was told.
const ATTEMPTS: usize = 10;

/// A socket to the kernel's side of one network namespace.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// In the network namespace of the calling thread.
    pub(super) fn here() -> Result<Self, NetlinkError> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // Connected to port 0, which is the kernel's, it gets no packet of anybody else's.
        rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        // What was wrong in words; the request is not sent back with it.
        sys::set_option(fd.as_fd(), nix::libc::NETLINK_EXT_ACK)?;
        sys::set_option(fd.as_fd(), nix::libc::NETLINK_CAP_ACK)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// In the network namespace `namespace`: a thread of its own enters it, makes the socket, and ends.
    pub(super) fn inside(namespace: BorrowedFd<'_>) -> Result<Self, NetlinkError> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)?;
                Self::here()
            });
            made.join().unwrap_or_else(|_| Err(Errno::IO.into()))
        })
    }

    /// Asks the kernel to do something.
    pub(super) fn change(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.exchange(request.flagged(NLM_F_ACK)).map(drop)
    }

    /// Asks for one thing.
    pub(super) fn get(&mut self, request: Request) -> Result<Option<Reply>, NetlinkError> {
        Ok(self.exchange(request.flagged(NLM_F_ACK))?.replies.into_iter().next())
    }

    /// Asks for all things of a kind.
    pub(super) fn list(&mut self, request: Request) -> Result<Vec<Reply>, NetlinkError> {
        let request = request.flagged(NLM_F_DUMP);
        for _ in 0..ATTEMPTS {
            let answer = self.exchange(request.clone())?;
            if !answer.interrupted {
                return Ok(answer.replies);
            }
        }
        Err(Errno::INTR.into())
    }

    fn exchange(&mut self, request: Request) -> Result<Answer, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.encode(self.sequence);
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        let mut answer = Answer::default();
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = self.receive(&mut buffer)?;
            if answer.take(&buffer[..length], self.sequence, &request)? {
                return Ok(answer);
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, NetlinkError> {
        loop {
            // With TRUNC it tells the packet's length, not that of the part which had room.
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, length)) if length <= buffer.len() => return Ok(length),
                Ok(_) => return Err(Errno::MSGSIZE.into()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What the kernel has said so far.
#[derive(Debug, Default)]
struct Answer {
    replies: Vec<Reply>,
    /// Whether the list changed while it was told.
    interrupted: bool,
}

impl Answer {
    /// Takes in a packet, which holds one message or several. `true` when it ended the answer.
    fn take(&mut self, mut packet: &[u8], sequence: u32, request: &Request) -> Result<bool, NetlinkError> {
        while !packet.is_empty() {
            let message = NetlinkMessage::<Reply>::deserialize(packet)
                .map_err(|error| NetlinkError::unreadable(&error))?;
            // A message is padded to four bytes; the last one need not be.
            let length = (message.header.length as usize).next_multiple_of(4);
            packet = packet.get(length..).unwrap_or_default();
            let NetlinkHeader { flags, sequence_number, .. } = message.header;
            if sequence_number != sequence {
                continue;
            }
            self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(reply) => self.replies.push(reply),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        None => Ok(true),
                        Some(code) => Err(NetlinkError::of(
                            code.get(),
                            flags,
                            answer::past_request(&error.header),
                            request,
                        )),
                    };
                }
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(NetlinkError::of(done.code, flags, &done.extended_ack, request));
                }
                NetlinkPayload::Done(_) => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }
}
