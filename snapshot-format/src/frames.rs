//! The frames of an archive: which of them hold a piece of the tar, and their content, checked.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::{Error, Part, Result};
use crate::index;
use crate::manifest::{Manifest, MemberKind};

/// Where every frame lies, in the file and in the plain tar.
#[derive(Debug)]
pub(crate) struct Places {
    /// Where each begins; one more says where the last ends.
    starts: Vec<(u64, u64)>,
    /// How many of them the index describes. Those that hold the index itself follow.
    described: usize,
    /// The digests of those that hold the index: of its tar header, then of each block.
    digests: Vec<[u8; 32]>,
}

impl Places {
    pub(crate) fn with_capacity(frames: usize) -> Self {
        let mut starts = Vec::with_capacity(frames + 1);
        starts.push((0, 0));
        Self { starts, described: 0, digests: Vec::new() }
    }

    pub(crate) fn push(&mut self, packed: u32, plain: u32) {
        let (offset, plain_at) = self.end();
        self.starts.push((offset + u64::from(packed), plain_at + u64::from(plain)));
    }

    /// Offsets behind the last frame, in the file and in the plain tar.
    pub(crate) fn end(&self) -> (u64, u64) {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Where a frame begins, in the file and in the plain tar; for the number after the last, where that ends.
    pub(crate) fn start(&self, number: usize) -> Option<(u64, u64)> {
        self.starts.get(number).copied()
    }

    /// Packed and plain size of a frame.
    pub(crate) fn sizes(&self, number: usize) -> (u32, u32) {
        let (Some(start), Some(end)) = (self.start(number), self.start(number + 1)) else { return (0, 0) };
        // Both were added as u32.
        ((end.0 - start.0) as u32, (end.1 - start.1) as u32)
    }

    /// How many frames the index describes.
    pub(crate) fn described(&self) -> usize {
        self.described
    }

    /// Says which frames hold the index: from number `first` on, one for each digest. Later ones are forgotten.
    pub(crate) fn keep(&mut self, first: usize, digests: Vec<[u8; 32]>) {
        self.starts.truncate(first + digests.len() + 1);
        (self.described, self.digests) = (first, digests);
    }
}

/// Every frame but those of the manifest.
pub(crate) struct Frames {
    file: File,
    path: PathBuf,
    places: Places,
    /// The digests that each block of the index holds, once it was needed.
    blocks: Vec<OnceLock<Vec<[u8; 32]>>>,
    /// Where the content of each file lies in the plain tar, in order; for errors that name the member.
    files: Vec<(Range<u64>, String)>,
    /// Contexts and buffers of readers that have ended: a reader of single pages makes none anew.
    idle: Mutex<Vec<Buffers>>,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames")
            .field("path", &self.path)
            .field("places", &self.places.starts.len())
            .finish_non_exhaustive()
    }
}

impl Frames {
    pub(crate) fn new(file: File, path: PathBuf, places: Places, manifest: &Manifest) -> Self {
        let files =
            manifest.members.iter().filter(|member| member.kind == MemberKind::File && member.size > 0);
        let files = files
            .map(|member| (member.offset..member.offset + member.size, member.name.to_string()))
            .collect();
        let blocks = (0..places.described.div_ceil(index::BLOCK)).map(|_| OnceLock::new()).collect();
        Self { file, path, places, blocks, files, idle: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn count(&self) -> usize {
        self.places.starts.len() - 1
    }

    /// The piece of the plain tar that a frame holds.
    pub(crate) fn range(&self, number: usize) -> Range<u64> {
        self.places.starts[number].1..self.places.starts[number + 1].1
    }

    /// The frames that `size` bytes from `offset` of the plain tar lie in.
    pub(crate) fn covering(&self, offset: u64, size: u64) -> Range<usize> {
        if size == 0 {
            return 0..0;
        }
        self.at(offset)..self.at(offset + size - 1) + 1
    }

    fn at(&self, plain: u64) -> usize {
        self.places.starts.partition_point(|start| start.1 <= plain).saturating_sub(1)
    }

    /// BLAKE3 of a frame as it has to lie in the file.
    fn digest(&self, number: usize) -> Result<[u8; 32]> {
        match number.checked_sub(self.places.described) {
            Some(own) => Ok(self.places.digests[own]),
            None => Ok(self.block(number / index::BLOCK)?[number % index::BLOCK]),
        }
    }

    /// The digests in a block of the index, read and checked when they are first needed.
    fn block(&self, block: usize) -> Result<&[[u8; 32]]> {
        if let Some(digests) = self.blocks[block].get() {
            return Ok(digests);
        }
        // Another thread may do the same meanwhile; both come to the same digests.
        let frame = self.places.described + 1 + block;
        let mut buffers = Buffers::new(&self.path)?;
        let plain = buffers.load(self, frame)?;
        let digests = index::decode(plain, block * index::BLOCK, &self.places);
        let digests = digests.map_err(|what| self.damaged(self.places.starts[frame].0, Part::Index, what))?;
        Ok(self.blocks[block].get_or_init(|| digests))
    }

    /// Reads and checks the whole index.
    pub(crate) fn check_index(&self) -> Result<()> {
        (0..self.blocks.len()).try_for_each(|block| self.block(block).map(drop))
    }

    /// BLAKE3 of the digests of frames, one after the other.
    pub(crate) fn digest_of(&self, frames: Range<usize>) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        for number in frames {
            hasher.update(&self.digest(number)?);
        }
        Ok(hasher.finalize())
    }

    pub(crate) fn damaged(&self, at: u64, part: Part, what: String) -> Error {
        Error::Damaged { path: self.path.clone(), at, part, what }
    }

    fn owner_of(&self, number: usize) -> Option<String> {
        let frame = self.range(number);
        let first = self.files.partition_point(|(file, _)| file.end <= frame.start);
        self.files.get(first).filter(|(file, _)| file.start < frame.end).map(|(_, name)| name.clone())
    }

    /// Lends a reader.
    pub(crate) fn with_reader<T>(&self, then: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffers = idle.map_or_else(|| Buffers::new(&self.path), Ok)?;
        let mut reader = Reader { frames: self, buffers };
        let result = then(&mut reader);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader.buffers);
        result
    }
}

struct Buffers {
    decompressor: zstd::bulk::Decompressor<'static>,
    packed: Vec<u8>,
    plain: Vec<u8>,
    /// The frame whose content `plain` is.
    holds: Option<usize>,
}

impl Buffers {
    fn new(path: &Path) -> Result<Self> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|source| Error::io("decompress", path, source))?;
        Ok(Self { decompressor, packed: Vec::new(), plain: Vec::new(), holds: None })
    }

    /// The plain bytes of frame `number`. Not a byte of it is decompressed before its digest was compared.
    fn load(&mut self, frames: &Frames, number: usize) -> Result<&[u8]> {
        if self.holds == Some(number) {
            return Ok(&self.plain);
        }
        let (offset, (packed, plain)) = (frames.places.starts[number].0, frames.places.sizes(number));
        let wrong = |what: String| {
            let part = match number < frames.places.described {
                true => Part::Frame { number: number as u64, member: frames.owner_of(number) },
                false => Part::Index,
            };
            frames.damaged(offset, part, what)
        };
        let digest = frames.digest(number)?;
        self.holds = None;
        self.packed.resize(packed as usize, 0);
        frames.file.read_exact_at(&mut self.packed, offset).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                wrong("the file became shorter while it was read".to_owned())
            }
            _ => Error::io("read", &frames.path, source),
        })?;
        if *blake3::hash(&self.packed).as_bytes() != digest {
            return Err(wrong("its digest is another than was written down".to_owned()));
        }
        self.plain.clear();
        self.plain.reserve(plain as usize);
        self.decompressor
            .decompress_to_buffer(self.packed.as_slice(), &mut self.plain)
            .map_err(|error| wrong(format!("it cannot be decompressed: {error}")))?;
        if self.plain.len() != plain as usize {
            return Err(wrong(format!("it holds {} bytes instead of {plain}", self.plain.len())));
        }
        self.holds = Some(number);
        Ok(&self.plain)
    }
}

/// Reads frames of one archive, checking each. The last one is kept.
pub(crate) struct Reader<'a> {
    frames: &'a Frames,
    buffers: Buffers,
}

impl Reader<'_> {
    /// The plain bytes of frame `number`, checked.
    pub(crate) fn frame(&mut self, number: usize) -> Result<&[u8]> {
        self.buffers.load(self.frames, number)
    }

    /// The content of the plain tar from `offset` on, until `buffer` is full.
    pub(crate) fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        for number in self.frames.covering(offset, buffer.len() as u64) {
            let piece = self.piece(number, offset, buffer.len() as u64)?;
            buffer[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        Ok(())
    }

    /// `size` bytes of the plain tar from `offset` on, appended to `bytes`.
    pub(crate) fn append(&mut self, offset: u64, size: u64, bytes: &mut Vec<u8>) -> Result<()> {
        for number in self.frames.covering(offset, size) {
            bytes.extend_from_slice(self.piece(number, offset, size)?);
        }
        Ok(())
    }

    /// What of `size` bytes from `offset` lies in a frame.
    fn piece(&mut self, number: usize, offset: u64, size: u64) -> Result<&[u8]> {
        let within = overlap(&self.frames.range(number), offset, size);
        Ok(&self.frame(number)?[within])
    }
}

/// The part of `size` bytes from `offset` that lies in `frame`, counted from the frame's start.
pub(crate) fn overlap(frame: &Range<u64>, offset: u64, size: u64) -> Range<usize> {
    let within =
        |at: u64| usize::try_from(at.clamp(frame.start, frame.end) - frame.start).unwrap_or(usize::MAX);
    within(offset)..within(offset + size)
}
