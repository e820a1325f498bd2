//! Frames on their way into the file: compressed on all cores, written in order.
//!
//! ```text
//!   push ─► jobs ─► worker ┐
//!             │  ─► worker ┼─► packed ─► writer ─► file, entries
//!             │  ─► worker ┘
//!             └ waits while more bytes are under way than the budget allows
//! ```
//!
//! The first failure stops everything, and every later call returns it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::index::Entry;

/// Buffers that are kept for reuse: enough for all that is under way while compression keeps up.
const KEPT_BUFFERS: usize = 64;

/// What is to become a frame.
enum Content {
    Plain(Vec<u8>),
    /// A frame already, and the size of what it holds.
    Frame(Vec<u8>, u32),
}

impl Content {
    /// Bytes of memory that it takes: what a buffer holds in reserve counts too.
    fn memory(&self) -> u64 {
        match self {
            Content::Plain(bytes) | Content::Frame(bytes, _) => bytes.capacity() as u64,
        }
    }
}

struct Job {
    number: u64,
    content: Content,
}

struct Packed {
    bytes: Vec<u8>,
    plain: u32,
    digest: [u8; 32],
    /// Bytes of memory that are counted for it.
    memory: u64,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    packed: BTreeMap<u64, Packed>,
    pushed: u64,
    entries: Vec<Entry>,
    waiting: u64,
    peak: u64,
    blocked: Duration,
    closed: bool,
    failure: Option<Failed>,
    free: Vec<Vec<u8>>,
    free_packed: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Failed {
    call: &'static str,
    code: Option<i32>,
    text: String,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    ready: Condvar,
    room: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A worker that panicked is seen when it is joined; the state is whole between any two statements.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn fail(&self, call: &'static str, error: &std::io::Error) {
        let mut state = self.lock();
        state.failure.get_or_insert(Failed { call, code: error.raw_os_error(), text: error.to_string() });
        drop(state);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.work.notify_all();
        self.ready.notify_all();
        self.room.notify_all();
    }
}

/// The running threads.
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    path: PathBuf,
    budget: u64,
    frame_size: usize,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("path", &self.path)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// What the pipeline did.
pub(crate) struct Written {
    pub(crate) entries: Vec<Entry>,
    pub(crate) peak: u64,
    pub(crate) blocked: Duration,
}

impl Pipeline {
    /// Starts `workers` compressors and a writer that appends to `file`.
    pub(crate) fn start(
        file: File,
        path: &Path,
        level: i32,
        workers: usize,
        budget: u64,
        frame_size: usize,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            ready: Condvar::new(),
            room: Condvar::new(),
        });
        let mut pipeline = Self { shared, threads: Vec::new(), path: path.to_owned(), budget, frame_size };
        for number in 0..workers.max(1) {
            let shared = Arc::clone(&pipeline.shared);
            pipeline.spawn(format!("compress-{number}"), move || compress(&shared, level))?;
        }
        let shared = Arc::clone(&pipeline.shared);
        pipeline.spawn("archive-writer".to_owned(), move || write(&shared, file))?;
        Ok(pipeline)
    }

    fn spawn(&mut self, name: String, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name).spawn(job);
        self.threads.push(thread.map_err(|source| Error::io("start a thread for", &self.path, source))?);
        Ok(())
    }

    /// A buffer to be filled.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let kept = self.shared.lock().free.pop();
        kept.unwrap_or_else(|| Vec::with_capacity(self.frame_size))
    }

    /// A piece to be compressed. Returns the number of its frame.
    pub(crate) fn push(&self, plain: Vec<u8>) -> Result<u64> {
        self.submit(Content::Plain(plain))
    }

    /// A finished frame that holds `plain` bytes.
    pub(crate) fn push_frame(&self, frame: Vec<u8>, plain: u32) -> Result<u64> {
        self.submit(Content::Frame(frame, plain))
    }

    fn submit(&self, content: Content) -> Result<u64> {
        let size = content.memory();
        let mut state = self.shared.lock();
        if state.waiting > 0 && state.waiting + size > self.budget {
            let since = Instant::now();
            while state.failure.is_none() && state.waiting > 0 && state.waiting + size > self.budget {
                state = self.shared.room.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            state.blocked += since.elapsed();
        }
        if let Some(failed) = &state.failure {
            return Err(self.error(failed));
        }
        let number = state.pushed;
        state.pushed += 1;
        state.waiting += size;
        state.peak = state.peak.max(state.waiting);
        state.jobs.push_back(Job { number, content });
        drop(state);
        self.shared.work.notify_one();
        Ok(number)
    }

    fn error(&self, failed: &Failed) -> Error {
        let source = failed
            .code
            .map_or_else(|| std::io::Error::other(failed.text.clone()), std::io::Error::from_raw_os_error);
        Error::io(failed.call, &self.path, source)
    }

    /// Waits until everything is written.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.close();
        let mut state = self.shared.lock();
        if let Some(failed) = &state.failure {
            return Err(self.error(failed));
        }
        if state.entries.len() as u64 != state.pushed {
            return Err(Error::io("write", &self.path, std::io::Error::other("a worker thread died")));
        }
        Ok(Written { entries: std::mem::take(&mut state.entries), peak: state.peak, blocked: state.blocked })
    }

    fn close(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail("compress for", &std::io::Error::other("a worker thread panicked"));
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            // Nobody wants the result: what waits is let go.
            self.shared.fail("write", &std::io::Error::other("given up"));
            self.close();
        }
    }
}

fn compress(shared: &Shared, level: i32) {
    let mut compressor = match compressor(level) {
        Ok(compressor) => compressor,
        Err(error) => return shared.fail("compress for", &error),
    };
    let _watch = Watch(shared);
    while let Some((job, out)) = next_job(shared) {
        let (number, memory) = (job.number, job.content.memory());
        match pack(&mut compressor, job.content, out) {
            Ok((packed, plain)) => deliver(shared, number, packed, plain, memory),
            Err(error) => return shared.fail("compress for", &error),
        }
    }
}

/// A thread that panics wakes those that wait for it.
struct Watch<'a>(&'a Shared);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("write", &std::io::Error::other("a thread that worked on it panicked"));
        }
    }
}

/// A compressor as all frames are made by: with zstd's checksum, so that `zstd -t` checks something.
pub(crate) fn compressor(level: i32) -> std::io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

fn next_job(shared: &Shared) -> Option<(Job, Vec<u8>)> {
    let mut state = shared.lock();
    loop {
        if state.failure.is_some() {
            return None;
        }
        if let Some(job) = state.jobs.pop_front() {
            let out = state.free_packed.pop().unwrap_or_default();
            return Some((job, out));
        }
        if state.closed {
            drop(state);
            shared.ready.notify_all();
            return None;
        }
        state = shared.work.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}

type Done = (Packed, Option<Vec<u8>>);

fn pack(
    compressor: &mut zstd::bulk::Compressor<'_>,
    content: Content,
    mut out: Vec<u8>,
) -> std::io::Result<(Packed, Option<Vec<u8>>)> {
    let done: Done = match content {
        Content::Plain(mut plain) => {
            out.clear();
            out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
            compressor.compress_to_buffer(&plain, &mut out)?;
            let size = u32::try_from(plain.len()).map_err(std::io::Error::other)?;
            plain.clear();
            (
                Packed { digest: *blake3::hash(&out).as_bytes(), bytes: out, plain: size, memory: 0 },
                Some(plain),
            )
        }
        Content::Frame(bytes, plain) => {
            (Packed { digest: *blake3::hash(&bytes).as_bytes(), bytes, plain, memory: 0 }, None)
        }
    };
    Ok(done)
}

/// Hands a packed piece on. `memory` was counted for it until now, from here on it is what it was packed to.
fn deliver(shared: &Shared, number: u64, mut packed: Packed, buffer: Option<Vec<u8>>, memory: u64) {
    let mut state = shared.lock();
    if state.packed.len() >= KEPT_BUFFERS {
        // The disk does not keep up: many will wait, and none is to hold more than it needs.
        drop(state);
        packed.bytes.shrink_to_fit();
        state = shared.lock();
    }
    packed.memory = packed.bytes.capacity() as u64;
    state.waiting = state.waiting.saturating_sub(memory) + packed.memory;
    if let Some(buffer) = buffer.filter(|_| state.free.len() < KEPT_BUFFERS) {
        state.free.push(buffer);
    }
    state.packed.insert(number, packed);
    drop(state);
    shared.ready.notify_one();
    shared.room.notify_one();
}

fn write(shared: &Shared, mut file: File) {
    let _watch = Watch(shared);
    let mut offset = 0;
    loop {
        let mut state = shared.lock();
        let next = state.entries.len() as u64;
        let packed = loop {
            if state.failure.is_some() || (state.closed && next == state.pushed) {
                return;
            }
            if let Some(packed) = state.packed.remove(&next) {
                break packed;
            }
            state = shared.ready.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        };
        drop(state);
        if let Err(error) = file.write_all(&packed.bytes) {
            return shared.fail("write", &error);
        }
        let mut state = shared.lock();
        let size = packed.bytes.len();
        state.waiting = state.waiting.saturating_sub(packed.memory);
        state.entries.push(Entry {
            offset,
            packed: u32::try_from(size).unwrap_or(u32::MAX),
            plain: packed.plain,
            digest: packed.digest,
        });
        if state.free_packed.len() < KEPT_BUFFERS {
            state.free_packed.push(packed.bytes);
        }
        offset += size as u64;
        drop(state);
        shared.room.notify_one();
    }
}
