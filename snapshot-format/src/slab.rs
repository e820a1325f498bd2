//! Memory for bytes that wait to become frames.
//!
//! What a frozen container sends goes into memory that nobody has touched yet, and half of the time in which it stands
//! still would be the kernel's work of finding and clearing pages. So that is done beforehand, while the container runs
//! (madvise(2), `MADV_POPULATE_WRITE`, Linux 5.14). Huge pages are not asked for: they are the cheapest where the host
//! has them ready, and in a virtual machine whose host has taken free ones back each costs milliseconds.

use std::ops::Range;

use memmap2::MmapMut;

/// Bytes of a slab: some frames, so that threads seldom meet, and little beside what a container has.
pub(crate) const SIZE: usize = 2 << 20;

/// A piece of memory that is filled from its start.
#[derive(Debug)]
pub(crate) struct Slab {
    memory: MmapMut,
    filled: usize,
}

impl Slab {
    /// An empty one of `size` bytes; none of them takes memory before it is written.
    pub(crate) fn new(size: usize) -> std::io::Result<Self> {
        let memory = MmapMut::map_anon(size)?;
        // A child that is forked meanwhile would make each page cost a fault again, to find that it is nobody else's.
        #[cfg(target_os = "linux")]
        memory.advise(memmap2::Advice::DontFork)?;
        Ok(Self { memory, filled: 0 })
    }

    /// Takes the memory for all of it now.
    pub(crate) fn populate(&self) {
        // On a kernel that cannot, it is taken when it is written.
        #[cfg(target_os = "linux")]
        let _ = self.memory.advise(memmap2::Advice::PopulateWrite);
    }

    /// All bytes that it has, filled or not.
    pub(crate) fn size(&self) -> usize {
        self.memory.len()
    }

    /// How many are filled.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// What is not filled yet.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.filled..]
    }

    /// The first `count` bytes of the room, which has to be as large, are filled.
    pub(crate) fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// A part of what is filled.
    pub(crate) fn part(&self, range: Range<usize>) -> &[u8] {
        &self.memory[..self.filled][range]
    }

    /// The same memory, empty again.
    pub(crate) fn emptied(mut self) -> Self {
        self.filled = 0;
        self
    }
}
