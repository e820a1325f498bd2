//! The plain tar, cut into frames.
//!
//! Bytes are put where they stay until they are compressed: into the room of a slab. A frame ends at the size that was
//! chosen for frames, where somebody wants it to end, and at the end of its slab. Full slabs go to the [`Pipeline`].

use crate::error::{Error, Result};
use crate::limits;
use crate::pipeline::{Batch, Content, Pipeline, Written};

/// Most frames that wait in a batch for more: those of members that are all empty take no slab that could be full.
const BATCH_FRAMES: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cutter {
    pipeline: Pipeline,
    frame_size: usize,
    batch: Batch,
    /// Where in the slab the frame begins that is being filled.
    start: usize,
    /// Frames that were cut.
    frames: u64,
}

impl Cutter {
    /// Cuts for `pipeline`, at `frame_size` plain bytes or less.
    pub(crate) fn new(pipeline: Pipeline, frame_size: usize) -> Self {
        Self { pipeline, frame_size, batch: Batch::default(), start: 0, frames: 0 }
    }

    /// As [`Pipeline::reserve`].
    pub(crate) fn reserve(&self, bytes: u64, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        self.pipeline.reserve(bytes, cancelled)
    }

    /// Where the next bytes of the tar go; never empty. Waits while more is under way than the budget allows.
    pub(crate) fn room(&mut self) -> Result<&mut [u8]> {
        if self.batch.slab.as_ref().is_some_and(|slab| slab.filled() == slab.size()) {
            self.cut();
            self.submit()?;
        }
        let slab = match &mut self.batch.slab {
            Some(slab) => slab,
            none => none.insert(self.pipeline.slab()?),
        };
        Ok(slab.room())
    }

    /// The first `count` bytes of the room are of the tar now.
    pub(crate) fn advance(&mut self, count: usize) -> Result<()> {
        let Some(slab) = self.batch.slab.as_mut().filter(|slab| count <= slab.size() - slab.filled()) else {
            return Err(Error::Misuse { what: "take more bytes than it gave room for" });
        };
        slab.advance(count);
        let filled = slab.filled();
        while filled - self.start >= self.frame_size {
            self.batch.frames.push(Content::Plain(self.start..self.start + self.frame_size));
            self.start += self.frame_size;
            self.frames += 1;
        }
        Ok(())
    }

    /// Adds bytes that lie elsewhere.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            self.advance(now.len())?;
            bytes = later;
        }
        Ok(())
    }

    /// Ends the frame, if one is begun. Returns the number that the next one will have.
    pub(crate) fn cut(&mut self) -> u64 {
        let filled = self.batch.slab.as_ref().map_or(0, |slab| slab.filled());
        if filled > self.start {
            self.batch.frames.push(Content::Plain(self.start..filled));
            self.start = filled;
            self.frames += 1;
        }
        self.frames
    }

    /// Adds a finished frame that holds `plain` bytes. Returns its number.
    pub(crate) fn frame(&mut self, frame: Vec<u8>, plain: u32) -> Result<u64> {
        let number = self.cut();
        self.batch.frames.push(Content::Frame(frame, plain));
        self.frames += 1;
        if self.batch.slab.is_none() && self.batch.frames.len() >= BATCH_FRAMES {
            self.submit()?;
        }
        Ok(number)
    }

    /// Waits until everything is written.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.cut();
        self.submit()?;
        self.pipeline.finish()
    }

    fn submit(&mut self) -> Result<()> {
        if self.frames > limits::FRAMES {
            return Err(Error::Limit { what: "the number of frames", limit: limits::FRAMES });
        }
        self.start = 0;
        self.pipeline.submit(std::mem::take(&mut self.batch))
    }
}
