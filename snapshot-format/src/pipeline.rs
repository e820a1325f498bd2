//! Batches of frames on their way into the file: compressed on all cores, written in order.
//!
//! ```text
//!   submit ─► jobs ─► worker ┐
//!               │  ─► worker ┼─► packed ─► writer ─► file, entries
//!               │  ─► worker ┘
//!   slab ◄──────┴ waits while more bytes are under way than the budget allows
//! ```
//!
//! A batch is what lies in one slab. It is packed by one worker into one buffer and written with one call, so that the
//! threads meet once for some megabytes, not for each frame.
//!
//! While slabs come in and find room, whoever fills them (for a frozen container) comes first: the threads here take what
//! the processors have left over. Once somebody waits for room, or all has been sent, they run as any other.
//!
//! The first failure stops everything, and every later call returns it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Cursor, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::index::Entry;
use crate::priority::Priority;
use crate::slab::{self, Slab};
use crate::spool::{self, Spool, Spooling};

/// Slabs and buffers that are kept for reuse: enough for all that is under way while compression keeps up.
const KEPT: usize = 8;

/// Bytes after which the disk is set to work: it writes while frames are still compressed, and the last sync is short.
const FLUSH: u64 = 8 << 20;

/// Bytes of one write(2). For larger ones the kernel looks for huge pages to keep them in, which are as dear here as for
/// slabs.
const WRITE: usize = 128 << 10;

/// What is to become a frame.
#[derive(Debug)]
pub(crate) enum Content {
    /// A part of the batch's slab.
    Plain(Range<usize>),
    /// A frame already, and the size of what it holds.
    Frame(Vec<u8>, u32),
}

/// Frames that follow each other in the file.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The memory that the plain ones lie in.
    pub(crate) slab: Option<Slab>,
    /// In order.
    pub(crate) frames: Vec<Content>,
}

impl Batch {
    /// Bytes of memory that it takes. A slab counts whole, for as a huge page it is.
    fn memory(&self) -> u64 {
        self.slab.as_ref().map_or(0, |slab| slab.size() as u64)
    }
}

/// A batch that is ready to be written.
struct Packed {
    bytes: Vec<u8>,
    /// Without their offsets.
    entries: Vec<Entry>,
    /// Bytes of memory that are counted for it.
    memory: u64,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(u64, Batch)>,
    packed: BTreeMap<u64, Packed>,
    /// Batches that were submitted, and that were written.
    submitted: u64,
    written: u64,
    entries: Vec<Entry>,
    spool: Spool,
    closed: bool,
    failure: Option<Failed>,
    free_packed: Vec<Vec<u8>>,
}

impl Spooling for State {
    fn spool(&mut self) -> &mut Spool {
        &mut self.spool
    }

    fn has_failed(&self) -> bool {
        self.failure.is_some()
    }
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    slab_size: usize,
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
    /// Starts `workers` compressors and a writer that appends to `file`. Slabs hold at least `largest` bytes.
    pub(crate) fn start(
        file: File,
        path: &Path,
        level: i32,
        workers: usize,
        budget: u64,
        largest: usize,
    ) -> Result<Self> {
        let slab_size = largest.next_multiple_of(slab::SIZE);
        let state = State { spool: Spool::new(budget, slab_size), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
            room: Condvar::new(),
        });
        let mut pipeline = Self { shared, threads: Vec::new(), path: path.to_owned(), budget, slab_size };
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

    /// An empty slab. Waits while more bytes are under way than the budget allows.
    pub(crate) fn slab(&self) -> Result<Slab> {
        let mut state = spool::wait_for_room(self.shared.lock(), &self.shared.room);
        if let Some(failed) = &state.failure {
            return Err(self.error(failed));
        }
        let kept = state.spool.take();
        drop(state);
        match kept {
            Some(slab) => Ok(slab),
            None => {
                Slab::new(self.slab_size).map_err(|source| Error::io("take memory for", &self.path, source))
            }
        }
    }

    /// Takes memory for `bytes` beforehand, as far as the budget allows, with as many threads as there are processors.
    pub(crate) fn reserve(&self, bytes: u64, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        let put = |slab| self.shared.lock().spool.free.push(slab);
        spool::reserve(bytes, self.budget, self.slab_size, cancelled, &put)
            .map_err(|source| Error::io("take memory for", &self.path, source))
    }

    /// Takes a batch over.
    pub(crate) fn submit(&self, batch: Batch) -> Result<()> {
        let mut state = self.shared.lock();
        if let Some(failed) = &state.failure {
            return Err(self.error(failed));
        }
        let number = state.submitted;
        state.submitted += 1;
        state.jobs.push_back((number, batch));
        drop(state);
        self.shared.work.notify_one();
        Ok(())
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
        if state.written != state.submitted {
            return Err(Error::io("write", &self.path, std::io::Error::other("a worker thread died")));
        }
        Ok(Written {
            entries: std::mem::take(&mut state.entries),
            peak: state.spool.peak,
            blocked: state.spool.blocked,
        })
    }

    fn close(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let kept = state.spool.free.len().min(KEPT);
        let unused = state.spool.free.split_off(kept);
        drop(state);
        drop(unused);
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
    let mut priority = Priority::usual();
    while let Some(Job { number, batch, out, urgent }) = next_job(shared) {
        priority.set(urgent);
        let memory = batch.memory();
        match pack(&mut compressor, &batch, out) {
            Ok(packed) => deliver(shared, number, packed, batch.slab, memory),
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

struct Job {
    number: u64,
    batch: Batch,
    /// A buffer for its frames.
    out: Vec<u8>,
    /// Whether somebody waits for it.
    urgent: bool,
}

fn next_job(shared: &Shared) -> Option<Job> {
    let mut state = shared.lock();
    loop {
        if state.failure.is_some() {
            return None;
        }
        if let Some((number, batch)) = state.jobs.pop_front() {
            let out = state.free_packed.pop().unwrap_or_default();
            let urgent = state.spool.full || state.closed;
            return Some(Job { number, batch, out, urgent });
        }
        if state.closed {
            drop(state);
            shared.ready.notify_all();
            return None;
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Compresses and digests the frames of a batch, one behind the other.
fn pack(
    compressor: &mut zstd::bulk::Compressor<'_>,
    batch: &Batch,
    mut out: Vec<u8>,
) -> std::io::Result<Packed> {
    let bound = |content: &Content| match content {
        Content::Plain(range) => zstd::zstd_safe::compress_bound(range.len()),
        Content::Frame(frame, _) => frame.len(),
    };
    out.clear();
    out.reserve(batch.frames.iter().map(bound).sum());
    let mut entries = Vec::with_capacity(batch.frames.len());
    for content in &batch.frames {
        let start = out.len();
        let plain = match (content, &batch.slab) {
            (Content::Plain(range), Some(slab)) => {
                // A cursor is written to from where it stands.
                let mut behind = Cursor::new(std::mem::take(&mut out));
                behind.set_position(start as u64);
                compressor.compress_to_buffer(slab.part(range.clone()), &mut behind)?;
                out = behind.into_inner();
                u32::try_from(range.len()).map_err(std::io::Error::other)?
            }
            (Content::Plain(_), None) => return Err(std::io::Error::other("plain bytes without memory")),
            (Content::Frame(frame, plain), _) => {
                out.extend_from_slice(frame);
                *plain
            }
        };
        let frame = &out[start..];
        entries.push(Entry {
            offset: 0,
            packed: u32::try_from(frame.len()).map_err(std::io::Error::other)?,
            plain,
            digest: *blake3::hash(frame).as_bytes(),
        });
    }
    Ok(Packed { bytes: out, entries, memory: 0 })
}

/// Hands a packed batch on. `memory` was counted for it until now, from here on it is what it was packed to.
fn deliver(shared: &Shared, number: u64, mut packed: Packed, slab: Option<Slab>, memory: u64) {
    let mut state = shared.lock();
    if state.packed.len() >= KEPT {
        // The disk does not keep up: many will wait, and none is to hold more than it needs.
        drop(state);
        packed.bytes.shrink_to_fit();
        state = shared.lock();
    }
    packed.memory = packed.bytes.capacity() as u64;
    state.spool.waiting = state.spool.waiting.saturating_sub(memory) + packed.memory;
    let slab = match slab {
        // As long as more may come, memory that is there is worth more than any other.
        Some(slab) if !state.closed || state.spool.free.len() < KEPT => {
            state.spool.free.push(slab.emptied());
            None
        }
        other => other,
    };
    state.packed.insert(number, packed);
    drop(state);
    shared.ready.notify_one();
    shared.room.notify_one();
    // Outside of the lock: the kernel takes its time to take memory back.
    drop(slab);
}

fn write(shared: &Shared, mut file: File) {
    let _watch = Watch(shared);
    let mut priority = Priority::usual();
    let mut offset = 0;
    let mut flushed = 0;
    loop {
        let mut state = shared.lock();
        let mut packed = loop {
            let next = state.written;
            if state.failure.is_some() || (state.closed && next == state.submitted) {
                return;
            }
            if let Some(packed) = state.packed.remove(&next) {
                break packed;
            }
            state = shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        let urgent = state.spool.full || state.closed;
        drop(state);
        priority.set(urgent);
        if let Err(error) = packed.bytes.chunks(WRITE).try_for_each(|piece| file.write_all(piece)) {
            return shared.fail("write", &error);
        }
        for entry in &mut packed.entries {
            entry.offset = offset;
            offset += u64::from(entry.packed);
        }
        if offset - flushed >= FLUSH {
            begin_flush(&file, flushed, offset - flushed);
            flushed = offset;
        }
        let mut state = shared.lock();
        state.spool.waiting = state.spool.waiting.saturating_sub(packed.memory);
        state.written += 1;
        state.entries.append(&mut packed.entries);
        if state.free_packed.len() < KEPT {
            state.free_packed.push(packed.bytes);
        }
        drop(state);
        shared.room.notify_one();
    }
}

/// Lets the kernel begin to write a part of the file to the disk, without waiting for it. posix_fadvise(2),
/// `POSIX_FADV_DONTNEED`: what is not on the disk yet is written and stays in memory.
fn begin_flush(file: &File, offset: u64, length: u64) {
    // Only a hint: what goes wrong with the disk is said by the sync at the end.
    #[cfg(target_os = "linux")]
    let _ =
        rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(length), rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length);
}
