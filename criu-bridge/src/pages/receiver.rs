//! The thread that takes pages off the socket while the container stands still.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::wire::{self, Message, Owner, PAGE_SIZE, flags};
use crate::error::{Error, Result};
use crate::version::PageWire;
use floe_snapshot_format::criu::pagemap::Run;
use floe_snapshot_format::{MemberName, Sink};

/// Most streams of one dump: a task or a shared memory segment each. Linux has at most 2^22 pids.
const STREAM_LIMIT: usize = 1 << 22;

/// From how many bytes on the socket is looked at by the clock: what CRIU's one splice(2) into a UNIX socket brings.
const MUCH: usize = 64 << 10;

/// Time between two looks. The socket's buffer holds what CRIU sends in several of them.
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

/// How many looks before the thread sleeps until something comes: CRIU is busy with something else.
const LOOKS: u32 = 50;

/// What kind of memory a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Of the task with this pid in the images.
    Task(u64),
    /// Of the shared memory segment with this id.
    SharedMemory(u64),
}

/// The pages of one address space, as they were received.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Whose they are.
    pub kind: StreamKind,
    /// N of `pages-N.img`, from 1.
    pub pages_id: u32,
    /// The runs in the order of their addresses.
    pub runs: Vec<Run>,
    /// Pages whose bytes came along.
    pub present: u64,
}

/// Everything that one dump sent.
#[derive(Debug, Default)]
pub struct Received {
    /// In the order in which CRIU sent them.
    pub streams: Vec<Stream>,
    /// Bytes of pages.
    pub bytes: u64,
    /// Whether CRIU closed in good order.
    pub complete: bool,
}

/// The running thread. It owns the sink until it ends, and gives it back.
#[derive(Debug)]
pub struct PageReceiver {
    thread: JoinHandle<(Box<dyn Sink>, Result<Received>)>,
    socket: Arc<UnixStream>,
    count: Arc<AtomicU64>,
}

impl PageReceiver {
    /// Starts it on our end of the pair. Page members are written to `sink` as `checkpoint/pages-N.img`. Of those that
    /// are in `parent`, CRIU may leave pages to the dump before.
    ///
    /// # Errors
    /// [`Error::Call`] if no thread can be made.
    pub fn start(
        socket: UnixStream,
        wire: PageWire,
        sink: Box<dyn Sink>,
        parent: HashSet<Owner>,
    ) -> Result<Self> {
        let socket = Arc::new(socket);
        let count = Arc::new(AtomicU64::new(0));
        let job = Job {
            socket: Arc::clone(&socket),
            wire,
            parent,
            may_leave: false,
            at: 0,
            count: Arc::clone(&count),
            received: Received::default(),
            open: false,
        };
        let thread = std::thread::Builder::new()
            .name("page-receiver".to_owned())
            .spawn(move || job.run(sink))
            .map_err(|source| Error::call("start a thread", "page-receiver", source))?;
        Ok(Self { thread, socket, count })
    }

    /// Bytes of pages so far.
    pub fn bytes(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A handle by which the stream can be counted and cut from elsewhere.
    pub fn handle(&self) -> ReceiverHandle {
        ReceiverHandle { socket: Arc::clone(&self.socket), count: Arc::clone(&self.count) }
    }

    /// Waits for the end of the stream, and hands the sink back with what came.
    pub fn join(self) -> (Option<Box<dyn Sink>>, Result<Received>) {
        match self.thread.join() {
            Ok((sink, received)) => (Some(sink), received),
            Err(_) => (
                None,
                Err(Error::Call {
                    call: "receive pages",
                    on: String::new(),
                    source: std::io::Error::other("the receiving thread panicked"),
                }),
            ),
        }
    }
}

/// See [`PageReceiver::handle`].
#[derive(Debug, Clone)]
pub struct ReceiverHandle {
    socket: Arc<UnixStream>,
    count: Arc<AtomicU64>,
}

impl ReceiverHandle {
    /// Bytes of pages so far.
    pub fn bytes(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Cuts the connection: CRIU's next write fails, and it lets the tasks go.
    pub fn cut(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

struct Job {
    socket: Arc<UnixStream>,
    wire: PageWire,
    /// Whose pages the dump before has.
    parent: HashSet<Owner>,
    /// Whether the open stream may leave pages to it.
    may_leave: bool,
    at: u64,
    count: Arc<AtomicU64>,
    received: Received,
    /// Whether a stream is open.
    open: bool,
}

impl Job {
    fn run(mut self, mut sink: Box<dyn Sink>) -> (Box<dyn Sink>, Result<Received>) {
        let result = self.receive(&mut *sink);
        if result.is_err() {
            // CRIU must not wait for a reader that is gone.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
        (sink, result.map(|()| self.received))
    }

    fn receive(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let mut space = [0u8; wire::LARGEST];
        let message = &mut space[..wire::size(self.wire)];
        loop {
            if !self.fill(message)? {
                return self.close(sink);
            }
            match wire::parse(self.wire, message).map_err(|detail| self.misread(detail))? {
                Message::Open { owner, answer } => {
                    self.close(sink)?;
                    self.open(owner, sink)?;
                    // Who does not wait for the answer does not know of a dump before.
                    self.may_leave = answer && self.parent.contains(&owner);
                    if answer {
                        self.reply(&[u8::from(self.may_leave)])?;
                    }
                }
                Message::Run { vaddr, pages, flags } => self.run_of_pages(vaddr, pages, flags, sink)?,
                Message::ParentQuery { owner } => {
                    let has = i32::from(self.parent.contains(&owner));
                    self.reply(&has.to_ne_bytes())?;
                }
                Message::Close => {
                    self.close(sink)?;
                    self.received.complete = true;
                    return self.reply(&0i32.to_ne_bytes());
                }
            }
        }
    }

    fn open(&mut self, owner: Owner, sink: &mut dyn Sink) -> Result<()> {
        let kind = match owner {
            Owner::Task(id) => StreamKind::Task(id),
            Owner::SharedMemory(id) => StreamKind::SharedMemory(id),
        };
        let next = self.received.streams.len() + 1;
        let pages_id = match u32::try_from(next) {
            Ok(id) if next <= STREAM_LIMIT => id,
            _ => return Err(self.misread(format!("{next} address spaces"))),
        };
        sink.begin(&MemberName::new(&format!("checkpoint/pages-{pages_id}.img"))?, 0o600)?;
        self.open = true;
        self.received.streams.push(Stream { kind, pages_id, runs: Vec::new(), present: 0 });
        Ok(())
    }

    /// Ends the stream that is open, if one is.
    fn close(&mut self, sink: &mut dyn Sink) -> Result<()> {
        match std::mem::take(&mut self.open) {
            true => Ok(sink.end()?),
            false => Ok(()),
        }
    }

    /// Pages go from the socket to where they stay until they are compressed: no page is copied twice here.
    fn run_of_pages(&mut self, vaddr: u64, pages: u64, run_flags: u32, sink: &mut dyn Sink) -> Result<()> {
        if !self.open {
            return Err(self.misread("pages before any stream".to_owned()));
        }
        if run_flags & flags::PARENT != 0 && !self.may_leave {
            return Err(self.misread(format!("pages at {vaddr:#x} left to a parent that was never offered")));
        }
        let present = run_flags & flags::PRESENT != 0;
        if let Some(stream) = self.received.streams.last_mut() {
            stream.runs.push(Run { vaddr, pages, flags: run_flags });
            if present {
                stream.present += pages;
            }
        }
        let mut left = if present { pages * PAGE_SIZE } else { 0 };
        while left > 0 {
            let room = sink.room()?;
            let want = usize::try_from(left).map_or(room.len(), |left| left.min(room.len()));
            let room = &mut room[..want];
            let got = if want >= MUCH { self.read_much(room)? } else { self.read(room)? };
            if got == 0 {
                return Err(self.misread("the stream ended within a run of pages".to_owned()));
            }
            sink.advance(got)?;
            left -= got as u64;
            self.received.bytes += got as u64;
            self.count.fetch_add(got as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fills `buffer`. `false` if the stream ended before its first byte.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(self.misread("the stream ended within a message".to_owned())),
                got => filled += got,
            }
        }
        Ok(true)
    }

    /// Reads what has come, at least one byte; 0 at the end of the stream.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match (&*self.socket).read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::call("receive pages", "criu", source)),
                Ok(got) => return Ok(self.counted(got)),
            }
        }
    }

    /// As [`Job::read`], for a buffer that takes CRIU a while to fill.
    ///
    /// CRIU sends faster than a thread falls asleep and is woken, 64 KiB at a time, and waking it is work that CRIU does,
    /// while the container stands still: in a virtual machine it is half of the time. So the socket is looked at by the
    /// clock; what comes meanwhile lies in its buffer.
    fn read_much(&mut self, buffer: &mut [u8]) -> Result<usize> {
        for _ in 0..LOOKS {
            match rustix::net::recv(&*self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((got, _)) => return Ok(self.counted(got)),
                Err(Errno::AGAIN) => std::thread::sleep(BETWEEN_LOOKS),
                // The other way says it.
                Err(_) => break,
            }
        }
        self.read(buffer)
    }

    fn counted(&mut self, got: usize) -> usize {
        self.at += got as u64;
        got
    }

    fn reply(&self, bytes: &[u8]) -> Result<()> {
        (&*self.socket).write_all(bytes).map_err(|source| Error::call("answer criu", "page stream", source))
    }

    fn misread(&self, detail: String) -> Error {
        Error::PageStream { at: self.at, detail }
    }
}
