//! What the two sides say to each other: JSON behind its length, over a socket pair.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{Config, NamespaceKind};
use crate::error::{Error, Result};
use crate::seccomp::Filter;

/// Longest message to the child: configurations of some thousand mounts are a megabyte.
const TO_CHILD: u32 = 64 << 20;

/// Longest message from the child: only words are long. It is not believed more than it needs, since it goes on living
/// in a container.
const FROM_CHILD: u32 = 64 << 10;

/// Longest failure in words, in bytes; its JSON is at most six times as long.
const WORDS: usize = 8 << 10;

/// Most descriptors in one piece: cgroups have a dozen hierarchies. The kernel takes 253 (`SCM_MAX_FD`, unix(7)).
const FDS_AT_ONCE: usize = 16;

/// What one side may send.
pub(crate) trait Message: Serialize + DeserializeOwned {
    /// Longest encoding that is accepted, in bytes.
    const LIMIT: u32;
}

impl Message for ToChild {
    const LIMIT: u32 = TO_CHILD;
}

impl Message for FromChild {
    const LIMIT: u32 = FROM_CHILD;
}

/// A namespace to be joined.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) kind: NamespaceKind,
    pub(crate) path: PathBuf,
}

/// What stage 1 needs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    pub(crate) join: Vec<Join>,
    pub(crate) create: Vec<NamespaceKind>,
    /// Whether a container is joined.
    pub(crate) exec: bool,
    /// How many descriptors from 3 on are kept.
    pub(crate) preserve_fds: u32,
    /// The session keyring that it joins.
    pub(crate) keyring: Option<String>,
    /// Whether the new time namespace gets offsets.
    pub(crate) clocks: bool,
    /// A directory of the host that becomes the root, where no mount namespace that is joined says it.
    pub(crate) root: Option<PathBuf>,
}

/// Descriptors that the process gets. They follow in the order of these fields ([`Peer::receive_fds`]).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Passed {
    /// Whether there is the exec fifo.
    pub(crate) fifo: bool,
    /// Whether there is the console socket.
    pub(crate) console: bool,
    /// Whether there is the directory of its version 2 cgroup.
    pub(crate) directory: bool,
    /// The paths of the files by which it enters its version 1 cgroups.
    pub(crate) tasks: Vec<PathBuf>,
}

impl Passed {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.fifo) + usize::from(self.console) + usize::from(self.directory) + self.tasks.len()
    }
}

/// From floe to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// Which namespaces.
    Bootstrap(Bootstrap),
    /// The container has its name and its cgroup: go on to the fork.
    Passed(Passed),
    /// The id maps are written.
    Mapped,
    /// The offsets of the clocks are written.
    ClocksSet,
    /// What the container is to be, without its profile of system calls, and that profile compiled; the process is in
    /// its cgroup and has its network.
    Config(Box<Config>, Option<Filter>),
    /// The tree that was wanted; its descriptor follows ([`Peer::receive_fds`]).
    Tree,
    /// The hooks outside have run, now it is the turn of those inside, with this state: then change the root.
    ChangeRoot(serde_json::Value),
    /// They are set.
    LimitsSet,
    /// Everything is written down: go on to the program.
    Execute,
}

/// From the child to floe.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// The user namespace needs its maps.
    MapIds,
    /// The time namespace needs its offsets.
    SetClocks,
    /// It has its namespaces and can fork.
    Unshared,
    /// The container's process.
    Forked {
        /// Its number outside.
        pid: i32,
        /// Whether it is in its cgroup, or gets itself there before anything else.
        placed: bool,
    },
    /// The source of this mount of the configuration is wanted, made with the host's rights.
    WantTree(usize),
    /// Everything is mounted, and the root is still the host's.
    Mounted,
    /// The root is changed; resource limits are to be set now, while it still has its first user.
    WantLimits,
    /// An agent is to decide about system calls, and hears of them from the descriptor with this number. From now on
    /// the other side is under the filter.
    Listener(i32),
    /// All is set up.
    Ready,
    /// What went wrong, in words.
    Failed(String),
}

impl FromChild {
    /// A failure, cut to what the other side accepts.
    pub(crate) fn failed(mut words: String) -> Self {
        if words.len() > WORDS {
            let end = (0..=WORDS).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
            words.truncate(end);
            words.push('…');
        }
        Self::Failed(words)
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Peer(File);

impl Peer {
    /// As a file: with `read(2)` and `write(2)`, which every container's filter lets through, where a socket would be used
    /// with calls that a program without a network has no need of.
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self(File::from(OwnedFd::from(socket)))
    }

    pub(crate) fn send(&mut self, message: &impl Message) -> Result<()> {
        let failed = Error::at("write to", "the start-up socket");
        let bytes = serde_json::to_vec(message)
            .map_err(|error| Error::call("encode", "a message", std::io::Error::from(error)))?;
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_ne_bytes();
        self.0.write_all(&size).and_then(|()| self.0.write_all(&bytes)).or_else(|error: std::io::Error| {
            // The other side is gone; what it said last is still to be read.
            if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(failed(error)) }
        })
    }

    /// Sends descriptors, behind a message that says what they are.
    pub(crate) fn send_fds(&mut self, fds: &[BorrowedFd<'_>]) -> Result<()> {
        for fds in fds.chunks(FDS_AT_ONCE) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(fds));
            match sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL) {
                // As with a message.
                Err(rustix::io::Errno::PIPE) => break,
                other => other.map_err(Error::at("send descriptors over", "the start-up socket"))?,
            };
        }
        Ok(())
    }

    /// Receives as many, close-on-exec.
    pub(crate) fn receive_fds(&mut self, count: usize) -> Result<Vec<OwnedFd>> {
        let mut received = Vec::new();
        while received.len() < count {
            // One byte, so that nothing of the next message is taken with it.
            let mut byte = [0u8];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut byte)];
            recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
                .map_err(Error::at("receive descriptors over", "the start-up socket"))?;
            let before = received.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    received.extend(fds);
                }
            }
            if received.len() == before || received.len() > count {
                return Err(Error::start("the wrong descriptors came over the start-up socket"));
            }
        }
        Ok(received)
    }

    /// `None` when the other side is gone.
    pub(crate) fn receive<M: Message>(&mut self) -> Result<Option<M>> {
        let failed = || Error::at("read from", "the start-up socket");
        let mut size = [0u8; 4];
        match self.0.read_exact(&mut size) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed()(error)),
        }
        let size = u32::from_ne_bytes(size);
        if size > M::LIMIT {
            return Err(failed()(std::io::Error::other(format!("a message of {size} bytes"))));
        }
        let mut bytes = vec![0u8; size as usize];
        self.0.read_exact(&mut bytes).map_err(failed())?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| failed()(std::io::Error::from(error)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn messages_arrive_and_the_end_is_seen() {
        let (one, two) = UnixStream::pair().unwrap();
        let (mut one, mut two) = (Peer::new(one), Peer::new(two));
        one.send(&FromChild::Forked { pid: 42, placed: true }).unwrap();
        one.send(&FromChild::Failed("no".into())).unwrap();
        drop(one);
        assert!(matches!(two.receive().unwrap(), Some(FromChild::Forked { pid: 42, placed: true })));
        assert!(matches!(two.receive().unwrap(), Some(FromChild::Failed(what)) if what == "no"));
        assert!(two.receive::<FromChild>().unwrap().is_none());
        two.send(&ToChild::Mapped).unwrap();
    }

    #[test]
    fn a_long_failure_is_cut_and_arrives() {
        let (one, two) = UnixStream::pair().unwrap();
        Peer::new(one).send(&FromChild::failed("\u{1}ä".repeat(100_000))).unwrap();
        let Some(FromChild::Failed(words)) = Peer::new(two).receive().unwrap() else {
            panic!("something else")
        };
        assert!(words.len() <= WORDS + 3 && words.ends_with('…'));
    }

    #[test]
    fn descriptors_arrive_between_messages() {
        let (one, two) = UnixStream::pair().unwrap();
        let (mut one, mut two) = (Peer::new(one), Peer::new(two));
        let null = std::fs::File::open("/dev/null").unwrap();
        for count in [1, FDS_AT_ONCE, 2 * FDS_AT_ONCE + 3] {
            one.send(&ToChild::Tree).unwrap();
            one.send_fds(&vec![null.as_fd(); count]).unwrap();
            one.send(&ToChild::Execute).unwrap();
            assert!(matches!(two.receive().unwrap(), Some(ToChild::Tree)));
            let fds = two.receive_fds(count).unwrap();
            assert!(fds.len() == count && fds.iter().all(|fd| rustix::fs::fstat(fd).is_ok()));
            assert!(matches!(two.receive().unwrap(), Some(ToChild::Execute)));
        }
        one.send(&ToChild::Execute).unwrap();
        assert!(two.receive_fds(1).is_err(), "a byte without one");
    }

    #[test]
    fn more_descriptors_than_were_announced_are_an_error() {
        let (one, two) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        Peer::new(one).send_fds(&[null.as_fd(), null.as_fd()]).unwrap();
        assert!(Peer::new(two).receive_fds(1).is_err());
    }

    #[test]
    fn a_message_that_is_cut_is_an_error() {
        let (one, two) = UnixStream::pair().unwrap();
        (&one).write_all(&100u32.to_ne_bytes()).unwrap();
        (&one).write_all(b"\"Ready").unwrap();
        drop(one);
        assert!(Peer::new(two).receive::<FromChild>().is_err());
    }

    #[test]
    fn a_hostile_length_takes_no_memory() {
        let (one, two) = UnixStream::pair().unwrap();
        (&one).write_all(&u32::MAX.to_ne_bytes()).unwrap();
        assert!(Peer::new(two).receive::<FromChild>().is_err());
    }
}
