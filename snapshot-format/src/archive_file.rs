//! The archive as a sink: a file that gets its name when it is whole.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::Archive;
use crate::cutter::Cutter;
use crate::error::{Error, Result};
use crate::frame::{self, SEAL_MAGIC, raw512, skippable};
use crate::index::{self, Entry};
use crate::manifest::{FrameRef, Head, Index, Manifest, Member, MemberKind};
use crate::name::MemberName;
use crate::pipeline::{Pipeline, compressor};
use crate::place::Unnamed;
use crate::roster::Roster;
use crate::sink::{self, Destination, Sink};
use crate::tarball::{self, BLOCK};
use crate::{HEAD_NAME, INDEX_NAME, MANIFEST_NAME, limits};

/// First bytes of a seal.
pub(crate) const SEAL_WORD: &[u8; 8] = b"floeseal";
/// Bytes of a seal with its skippable header: word, version, four numbers, three digests.
pub(crate) const SEAL_SIZE: usize = 8 + 8 + 4 + 4 * 8 + 3 * 32;

/// Plain bytes in each frame of the manifest.
const MANIFEST_PIECE: usize = 1 << 20;

/// How an archive is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Level of zstd, 1 to 19. 1 keeps up with a dump.
    pub level: i32,
    /// Plain bytes in each frame of a growing member; a multiple of 4096.
    pub frame_size: usize,
    /// Threads that compress.
    pub workers: usize,
    /// Bytes of memory that may be under way, plain or packed, before [`Sink::room`] blocks. Beside it each worker has
    /// some megabytes in hand, and as much is kept for reuse.
    pub spool_budget: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            level: 1,
            frame_size: 128 << 10,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            spool_budget: 256 << 20,
        }
    }
}

/// An archive that is being written. Dropped, nothing of it is left.
#[derive(Debug)]
pub struct ArchiveFile {
    place: Unnamed,
    cutter: Cutter,
    level: i32,
    /// Where the plain tar ends.
    plain_at: u64,
    roster: Roster,
    open: Option<Growing>,
    grown: Vec<Growing>,
}

/// A member whose header is written again at the end.
#[derive(Debug)]
struct Growing {
    member: usize,
    /// Number of the frame that holds its header. Those of its content follow.
    header: u64,
    /// Number of the frame behind them.
    last: u64,
}

impl ArchiveFile {
    /// Begins the archive that is to become `path`, with `head` as its first member.
    ///
    /// # Errors
    /// [`Error::Io`]: the folder is missing, read-only or full.
    pub fn create(path: &Path, head: &Head, options: WriterOptions) -> Result<Self> {
        let place = Unnamed::create(path)?;
        let file = place.file().try_clone().map_err(|source| Error::io("duplicate", path, source))?;
        let WriterOptions { level, workers, spool_budget, frame_size } = options;
        if frame_size == 0 || frame_size % 4096 != 0 || frame_size > limits::FRAME {
            return Err(Error::Misuse {
                what: "use a frame size that is no multiple of 4096 within the limit",
            });
        }
        let pipeline = Pipeline::start(file, path, level, workers, spool_budget, frame_size)?;
        let mut archive = Self {
            place,
            cutter: Cutter::new(pipeline, frame_size),
            level,
            plain_at: 0,
            // Written by `complete`, and by nobody else.
            roster: Roster::new(&[INDEX_NAME, MANIFEST_NAME], "it is taken in this archive")?,
            open: None,
            grown: Vec::new(),
        };
        let text = json(head, path)?;
        archive.add(&MemberName::new(HEAD_NAME)?, 0o600, &text)?;
        // The head has a frame of its own: it is read from the first bytes.
        archive.cutter.cut();
        Ok(archive)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.plain_at += bytes.len() as u64;
        self.cutter.append(bytes)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let zeros = [0u8; BLOCK as usize];
        self.put(&zeros[..tarball::padding(size)])
    }

    fn enter(
        &mut self,
        name: &MemberName,
        kind: MemberKind,
        mode: u32,
        size: u64,
        digest: String,
    ) -> Result<usize> {
        let (name, offset) = (name.clone(), self.plain_at + BLOCK);
        let member = Member { name, kind, mode, offset, size, digest, of_frames: false };
        self.roster.enter(member, self.open.is_some())
    }

    /// Writes manifest, index, seal and table, and syncs the file. It has no name yet.
    ///
    /// # Errors
    /// [`Error::Io`] with the first write that failed.
    pub fn complete(self, mut manifest: Manifest) -> Result<Complete> {
        if self.open.is_some() {
            return Err(Error::Misuse { what: "complete while a member is open" });
        }
        let Self { place, cutter, level, roster, grown, plain_at, .. } = self;
        let mut members = roster.members;
        let written = cutter.finish()?;
        let mut entries = written.entries;
        settle(&place, &mut entries, &mut members, &grown)?;

        let mut tail = Tail::new(&place, &entries, level, plain_at)?;
        let blocks = index::encode(&entries);
        let parts = tail.index(&blocks)?;
        manifest.members = members;
        manifest.members.push(tail.index_member(&blocks)?);
        manifest.index = Index { frames: entries.len() as u64, block: index::BLOCK as u64, parts };
        let sealed = tail.seal(&manifest)?;
        let file = place.file();
        file.sync_all().map_err(|source| Error::io("sync", place.target(), source))?;
        // Read back through the reader's own eyes: a tail that cannot be opened must not replace anything.
        let copy = file.try_clone().map_err(|source| Error::io("duplicate", place.target(), source))?;
        Archive::from_file(copy, place.target())?.frames.check_index()?;
        Ok(Complete {
            sealed: Sealed {
                path: place.target().to_owned(),
                spool_peak: written.peak,
                blocked: written.blocked,
                ..sealed
            },
            place,
        })
    }
}

impl Sink for ArchiveFile {
    fn reserve(&self, bytes: u64, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        self.cutter.reserve(bytes, cancelled)
    }

    fn add(&mut self, name: &MemberName, mode: u32, content: &[u8]) -> Result<()> {
        let size = content.len() as u64;
        let digest = blake3::hash(content).to_hex().to_string();
        self.enter(name, MemberKind::File, mode, size, digest)?;
        self.put(&tarball::header(name, MemberKind::File, mode, size)?)?;
        self.put(content)?;
        self.pad(size)
    }

    fn add_directory(&mut self, name: &MemberName, mode: u32) -> Result<()> {
        self.enter(name, MemberKind::Directory, mode, 0, String::new())?;
        self.put(&tarball::header(name, MemberKind::Directory, mode, 0)?)
    }

    fn begin(&mut self, name: &MemberName, mode: u32) -> Result<()> {
        let member = self.enter(name, MemberKind::File, mode, 0, String::new())?;
        let placeholder = raw512(&tarball::header(name, MemberKind::File, mode, 0)?);
        let header = self.cutter.frame(placeholder.to_vec(), 512)?;
        self.plain_at += BLOCK;
        self.open = Some(Growing { member, header, last: header + 1 });
        Ok(())
    }

    fn room(&mut self) -> Result<&mut [u8]> {
        if self.open.is_none() {
            return Err(Error::Misuse { what: "give room while no member is open" });
        }
        self.cutter.room()
    }

    fn advance(&mut self, count: usize) -> Result<()> {
        let Some(growing) = &self.open else {
            return Err(Error::Misuse { what: "take bytes while no member is open" });
        };
        self.cutter.advance(count)?;
        self.roster.members[growing.member].size += count as u64;
        self.plain_at += count as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut growing) = self.open.take() else {
            return Err(Error::Misuse { what: "end a member while none is open" });
        };
        growing.last = self.cutter.cut();
        let size = self.roster.members[growing.member].size;
        self.grown.push(growing);
        self.pad(size)
    }

    fn complete(self: Box<Self>, manifest: Manifest) -> Result<Box<dyn sink::Complete>> {
        Ok(Box::new((*self).complete(manifest)?))
    }
}

/// The file that an archive is to become, as a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivePath(pub PathBuf);

impl Destination for ArchivePath {
    fn begin(&self, head: &Head, options: WriterOptions) -> Result<Box<dyn Sink>> {
        Ok(Box::new(ArchiveFile::create(&self.0, head, options)?))
    }

    fn take_back(&self, sealed: &Sealed) -> Result<()> {
        match std::fs::remove_file(&sealed.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &sealed.path, error))
            }
            _ => Ok(()),
        }
    }
}

/// Writes the headers of grown members again, now that their sizes are known, and digests their frames.
fn settle(place: &Unnamed, entries: &mut [Entry], members: &mut [Member], grown: &[Growing]) -> Result<()> {
    for growing in grown {
        let member = &mut members[growing.member];
        let header = raw512(&tarball::header(&member.name, member.kind, member.mode, member.size)?);
        let place_of = usize::try_from(growing.header).unwrap_or(usize::MAX);
        let entry = &mut entries[place_of];
        place
            .file()
            .write_all_at(&header, entry.offset)
            .map_err(|source| Error::io("write", place.target(), source))?;
        entry.digest = *blake3::hash(&header).as_bytes();
        let mut hasher = blake3::Hasher::new();
        for number in growing.header + 1..growing.last {
            hasher.update(&entries[usize::try_from(number).unwrap_or(usize::MAX)].digest);
        }
        member.digest = hasher.finalize().to_hex().to_string();
        member.of_frames = true;
    }
    Ok(())
}

/// The end of the archive, written by one thread.
struct Tail<'a> {
    place: &'a Unnamed,
    compressor: zstd::bulk::Compressor<'static>,
    offset: u64,
    plain_at: u64,
    /// Packed and plain sizes of every frame, for the table.
    sizes: Vec<(u32, u32)>,
}

impl<'a> Tail<'a> {
    fn new(place: &'a Unnamed, entries: &[Entry], level: i32, plain_at: u64) -> Result<Self> {
        let offset = entries.last().map_or(0, |last| last.offset + u64::from(last.packed));
        let compressor =
            compressor(level).map_err(|source| Error::io("compress for", place.target(), source))?;
        let sizes = entries.iter().map(|entry| (entry.packed, entry.plain)).collect();
        Ok(Self { place, compressor, offset, plain_at, sizes })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.place.file().write_all_at(bytes, self.offset);
        written.map_err(|source| Error::io("write", self.place.target(), source))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn frame(&mut self, plain: &[u8]) -> Result<(FrameRef, Vec<u8>)> {
        let packed = self
            .compressor
            .compress(plain)
            .map_err(|source| Error::io("compress for", self.place.target(), source))?;
        let frame = FrameRef {
            offset: self.offset,
            packed: u32::try_from(packed.len()).unwrap_or(u32::MAX),
            plain: u32::try_from(plain.len()).unwrap_or(u32::MAX),
            digest: blake3::hash(&packed).to_hex().to_string(),
        };
        self.write(&packed)?;
        self.plain_at += plain.len() as u64;
        self.sizes.push((frame.packed, frame.plain));
        Ok((frame, packed))
    }

    fn index(&mut self, blocks: &[Vec<u8>]) -> Result<Vec<FrameRef>> {
        let size: usize = blocks.iter().map(Vec::len).sum();
        let header = tarball::header(&MemberName::new(INDEX_NAME)?, MemberKind::File, 0o600, size as u64)?;
        let mut parts = vec![self.frame(&header)?.0];
        for (number, block) in blocks.iter().enumerate() {
            if number + 1 == blocks.len() {
                let mut last = block.clone();
                last.resize(block.len() + tarball::padding(size as u64), 0);
                parts.push(self.frame(&last)?.0);
            } else {
                parts.push(self.frame(block)?.0);
            }
        }
        Ok(parts)
    }

    fn index_member(&self, blocks: &[Vec<u8>]) -> Result<Member> {
        let size: u64 = blocks.iter().map(|block| block.len() as u64).sum();
        let mut hasher = blake3::Hasher::new();
        for block in blocks {
            hasher.update(block);
        }
        Ok(Member {
            name: MemberName::new(INDEX_NAME)?,
            kind: MemberKind::File,
            mode: 0o600,
            offset: self.plain_at - size - tarball::padding(size) as u64,
            size,
            digest: hasher.finalize().to_hex().to_string(),
            of_frames: false,
        })
    }

    fn seal(&mut self, manifest: &Manifest) -> Result<Sealed> {
        // Thousands of memory areas are in it: on a line each they would be five times as long.
        let text = serde_json::to_vec(manifest)
            .map_err(|source| Error::io("encode for", self.place.target(), source.into()))?;
        let size = text.len() as u64;
        let mut plain =
            tarball::header(&MemberName::new(MANIFEST_NAME)?, MemberKind::File, 0o600, size)?.to_vec();
        plain.extend_from_slice(&text);
        // The member's padding, and the two zero blocks that end a tar.
        plain.resize(plain.len() + tarball::padding(size) + 2 * BLOCK as usize, 0);

        let (first, offset) = (self.sizes.len() as u64, self.offset);
        let mut hasher = blake3::Hasher::new();
        for piece in plain.chunks(MANIFEST_PIECE) {
            hasher.update(&self.frame(piece)?.1);
        }
        let digest = hasher.finalize();
        let table = frame::seek_table(self.sizes.iter().copied());

        let mut content = SEAL_WORD.to_vec();
        content.extend_from_slice(&crate::FORMAT_VERSION.to_le_bytes());
        for number in [first, offset, self.sizes.len() as u64, self.plain_at] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        content.extend_from_slice(digest.as_bytes());
        content.extend_from_slice(blake3::hash(&table).as_bytes());
        let own = blake3::hash(&content);
        content.extend_from_slice(own.as_bytes());
        self.write(&skippable(SEAL_MAGIC, &content))?;
        self.write(&table)?;
        Ok(Sealed {
            path: PathBuf::new(),
            bytes: self.offset,
            plain_bytes: self.plain_at,
            frames: self.sizes.len() as u64,
            manifest_digest: blake3::hash(&text).to_hex().to_string(),
            spool_peak: 0,
            blocked: Duration::ZERO,
        })
    }
}

fn json(value: &impl serde::Serialize, path: &Path) -> Result<Vec<u8>> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|source| Error::io("encode for", path, source.into()))?;
    text.push(b'\n');
    Ok(text)
}

/// An archive that is written and synced, and has no name yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Complete {
    place: Unnamed,
    sealed: Sealed,
}

impl Complete {
    /// Gives it its name, replacing what had it, and syncs the folder.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is left under the name that was not there before.
    pub fn publish(self) -> Result<Sealed> {
        self.place.publish()?;
        Ok(self.sealed)
    }
}

impl sink::Complete for Complete {
    fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    fn publish(self: Box<Self>) -> Result<Sealed> {
        (*self).publish()
    }
}

/// A finished archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes of the tar in it.
    pub plain_bytes: u64,
    /// How many frames it has.
    pub frames: u64,
    /// BLAKE3 of the manifest's text, hexadecimal.
    pub manifest_digest: String,
    /// Most bytes of memory that were under way at once.
    pub spool_peak: u64,
    /// How long [`Sink::room`] was blocked, all in all.
    pub blocked: Duration,
}
