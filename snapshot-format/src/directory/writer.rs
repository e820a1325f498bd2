//! Growing files, written behind the back of the one who sends.
//!
//! What a frozen container sends goes into memory first, up to a budget; a thread digests it and writes it on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::priority::Priority;
use crate::slab::{self, Slab};
use crate::spool::{self, Spool, Spooling};

/// Bytes of one write(2): see [`crate::pipeline`].
const WRITE: usize = 128 << 10;

/// What the thread is to do.
enum Order {
    /// The bytes that follow are of this file.
    Begin(File, PathBuf),
    Bytes(Slab),
    /// The file is complete.
    End,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    /// Of the files that are complete, in order: digest and size.
    digests: Vec<(String, u64)>,
    spool: Spool,
    closed: bool,
    failure: Option<(&'static str, PathBuf, std::io::Error)>,
}

impl Spooling for State {
    fn spool(&mut self) -> &mut Spool {
        &mut self.spool
    }

    fn has_failed(&self) -> bool {
        self.failure.is_some()
    }
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, call: &'static str, path: &Path, error: std::io::Error) {
        self.lock().failure.get_or_insert((call, path.to_owned(), error));
        self.work.notify_all();
        self.room.notify_all();
    }
}

/// The running thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    budget: u64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// What was written.
pub(crate) struct Written {
    /// Digest and size of each file, in order.
    pub(crate) digests: Vec<(String, u64)>,
    pub(crate) peak: u64,
    pub(crate) blocked: Duration,
}

impl Writer {
    /// Starts the thread. At most `budget` bytes wait in memory.
    pub(crate) fn start(budget: u64, path: &Path) -> Result<Self> {
        let state = State { spool: Spool::new(budget, slab::SIZE), ..State::default() };
        let (work, room) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { state: Mutex::new(state), work, room });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("image-writer".to_owned()).spawn(move || run(&own));
        let thread = thread.map_err(|source| Error::io("start a thread for", path, source))?;
        Ok(Self { shared, thread: Some(thread), budget })
    }

    /// Takes memory for `bytes` beforehand, as far as the budget allows.
    pub(crate) fn reserve(&self, bytes: u64, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        let put = |slab| self.shared.lock().spool.free.push(slab);
        spool::reserve(bytes, self.budget, slab::SIZE, cancelled, &put).map_err(no_memory)
    }

    /// An empty slab. Waits while more bytes wait than the budget allows.
    pub(crate) fn slab(&self) -> Result<Slab> {
        let mut state = spool::wait_for_room(self.shared.lock(), &self.shared.room);
        failure(&mut state)?;
        let kept = state.spool.take();
        drop(state);
        kept.map_or_else(|| Slab::new(slab::SIZE).map_err(no_memory), Ok)
    }

    fn order(&self, order: Order) -> Result<()> {
        let mut state = self.shared.lock();
        failure(&mut state)?;
        state.orders.push_back(order);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    pub(crate) fn begin(&self, file: File, path: PathBuf) -> Result<()> {
        self.order(Order::Begin(file, path))
    }

    pub(crate) fn bytes(&self, slab: Slab) -> Result<()> {
        self.order(Order::Bytes(slab))
    }

    pub(crate) fn end(&self) -> Result<()> {
        self.order(Order::End)
    }

    /// Waits until everything is written.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.close();
        let mut state = self.shared.lock();
        failure(&mut state)?;
        let digests = std::mem::take(&mut state.digests);
        Ok(Written { digests, peak: state.spool.peak, blocked: state.spool.blocked })
    }

    fn close(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.spool.free.clear();
        drop(state);
        self.shared.work.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let panicked = std::io::Error::other("a thread that worked on it panicked");
            self.shared.fail("write", Path::new("images"), panicked);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // Nobody wants the result: what waits is let go.
            self.shared.fail("write", Path::new("images"), std::io::Error::other("given up"));
            self.close();
        }
    }
}

fn no_memory(source: std::io::Error) -> Error {
    Error::io("take memory for", Path::new("pages"), source)
}

/// The failure, if there is one; it is told to all that ask.
fn failure(state: &mut State) -> Result<()> {
    let Some((call, path, error)) = &state.failure else { return Ok(()) };
    let copy = error
        .raw_os_error()
        .map_or_else(|| std::io::Error::other(error.to_string()), std::io::Error::from_raw_os_error);
    Err(Error::io(call, path, copy))
}

fn run(shared: &Shared) {
    let mut priority = Priority::usual();
    let mut open: Option<(File, PathBuf, blake3::Hasher, u64)> = None;
    loop {
        let mut state = shared.lock();
        let order = loop {
            if state.failure.is_some() {
                return;
            }
            match state.orders.pop_front() {
                Some(order) => break order,
                None if state.closed => return,
                None => state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let urgent = state.spool.full || state.closed;
        drop(state);
        priority.set(urgent);
        match order {
            Order::Begin(file, path) => open = Some((file, path, blake3::Hasher::new(), 0)),
            Order::Bytes(slab) => {
                let Some((file, path, hasher, size)) = &mut open else { continue };
                let bytes = slab.part(0..slab.filled());
                for piece in bytes.chunks(WRITE) {
                    hasher.update(piece);
                    if let Err(error) = file.write_all(piece) {
                        return shared.fail("write", path, error);
                    }
                }
                *size += bytes.len() as u64;
                let mut state = shared.lock();
                state.spool.waiting = state.spool.waiting.saturating_sub(slab.size() as u64);
                if !state.closed {
                    state.spool.free.push(slab.emptied());
                }
                drop(state);
                shared.room.notify_all();
            }
            Order::End => {
                let Some((_, _, hasher, size)) = open.take() else { continue };
                shared.lock().digests.push((hasher.finalize().to_hex().to_string(), size));
            }
        }
    }
}
