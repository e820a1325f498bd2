//! The memory of bytes that wait to be written: slabs within a budget, handed out and taken back.
//!
//! Its numbers lie under the lock of whoever works with it, since threads wait for room and for work at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::slab::Slab;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    budget: u64,
    slab_size: usize,
    /// Bytes that wait.
    pub(crate) waiting: u64,
    /// Most that ever did.
    pub(crate) peak: u64,
    /// How long the sender waited for room.
    pub(crate) blocked: Duration,
    /// Whether it does now.
    pub(crate) full: bool,
    /// Slabs that are empty.
    pub(crate) free: Vec<Slab>,
}

/// A state with a spool in it.
pub(crate) trait Spooling {
    /// The spool.
    fn spool(&mut self) -> &mut Spool;

    /// Whether nobody will make room any more.
    fn has_failed(&self) -> bool;
}

impl Spool {
    /// An empty one. At most `budget` bytes wait.
    pub(crate) fn new(budget: u64, slab_size: usize) -> Self {
        Self { budget, slab_size, ..Self::default() }
    }

    fn has_room(&self) -> bool {
        self.waiting == 0 || self.waiting + self.slab_size as u64 <= self.budget
    }

    /// Counts a slab as waiting, and gives an empty one if there is any.
    pub(crate) fn take(&mut self) -> Option<Slab> {
        self.waiting += self.slab_size as u64;
        self.peak = self.peak.max(self.waiting);
        self.free.pop()
    }
}

/// Waits until there is room for a slab. A single one always has room.
pub(crate) fn wait_for_room<'a, S: Spooling>(
    mut state: MutexGuard<'a, S>,
    room: &Condvar,
) -> MutexGuard<'a, S> {
    if state.spool().has_room() {
        return state;
    }
    let since = Instant::now();
    state.spool().full = true;
    while !state.has_failed() && !state.spool().has_room() {
        state = room.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let spool = state.spool();
    spool.full = false;
    spool.blocked += since.elapsed();
    state
}

/// Takes memory for `bytes` beforehand, as far as `budget` allows, with as many threads as there are processors, and
/// hands each slab to `put`.
pub(crate) fn reserve(
    bytes: u64,
    budget: u64,
    slab_size: usize,
    cancelled: &(dyn Fn() -> bool + Sync),
    put: &(dyn Fn(Slab) + Sync),
) -> std::io::Result<()> {
    let count = bytes.min(budget) / slab_size as u64;
    let next = AtomicU64::new(0);
    let work = || {
        while next.fetch_add(1, Ordering::Relaxed) < count && !cancelled() {
            let slab = Slab::new(slab_size)?;
            slab.populate();
            put(slab);
        }
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let own = work();
        let gone = |_| Err(std::io::Error::other("a thread panicked"));
        others.into_iter().fold(own, |done, other| done.and(other.join().unwrap_or_else(gone)))
    })
}
