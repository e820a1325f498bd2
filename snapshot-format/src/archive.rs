//! The archive as a source: opened from its end, read frame by frame, nothing believed before it is checked.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::archive_file::{SEAL_SIZE, SEAL_WORD};
use crate::error::{Error, Part, Result};
use crate::frame::{SEAL_MAGIC, SEEKABLE_MAGIC, TABLE_MAGIC};
use crate::index::{self, Entry};
use crate::manifest::{FORMAT_VERSION, Head, Manifest, Member, MemberKind};
use crate::name::MemberName;
use crate::{HEAD_NAME, MANIFEST_NAME, limits, tarball};

/// Bytes of a seek table that are not entries: skippable header and footer.
const TABLE_FIXED: u64 = 8 + 9;

/// An opened archive. Its tail (table, seal, manifest, index) was checked; members are checked as they are read.
#[derive(Debug)]
pub struct Archive {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    head: Head,
    manifest: Manifest,
    entries: Vec<Entry>,
    /// Where each frame begins in the plain tar.
    starts: Vec<u64>,
    by_name: HashMap<MemberName, usize>,
}

/// What a verification went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Members, the manifest included.
    pub members: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the tar in it.
    pub plain_bytes: u64,
}

struct Seal {
    first: u64,
    offset: u64,
    frames: u64,
    plain: u64,
    manifest: [u8; 32],
    table: [u8; 32],
    /// Where the seal begins, and the manifest's frames end.
    at: u64,
}

impl Archive {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    /// [`Error::NotAFloeArchive`], [`Error::Damaged`], [`Error::TooNew`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
        let kind = file.metadata().map_err(|source| Error::io("stat", path, source))?.file_type();
        if !kind.is_file() {
            return Err(Error::NotAFloeArchive { path: path.to_owned(), what: "it is no regular file" });
        }
        Self::from_file(file, path)
    }

    pub(crate) fn from_file(file: File, path: &Path) -> Result<Self> {
        let opener = Opener { file: &file, path };
        let length = file.metadata().map_err(|source| Error::io("stat", path, source))?.len();
        opener.first_bytes(length)?;
        let (table_at, frames) = opener.footer(length)?;
        let seal = opener.seal(table_at)?;
        let sizes = opener.table(table_at, length, frames, &seal)?;
        let manifest = opener.manifest(&seal, &sizes)?;
        let entries = opener.index(&manifest, &seal, &sizes)?;
        let mut starts = Vec::with_capacity(entries.len());
        let mut at = 0;
        for entry in &entries {
            starts.push(at);
            at += u64::from(entry.plain);
        }
        let by_name = opener.names(&manifest, at)?;
        let mut archive = Self {
            path: path.to_owned(),
            head: Head {
                format: 0,
                kind: String::new(),
                snapshot: String::new(),
                container: String::new(),
                created: String::new(),
                tool: crate::Tool::default(),
                extra: serde_json::Map::new(),
            },
            file,
            manifest,
            entries,
            starts,
            by_name,
        };
        let text = archive.read(&MemberName::new(HEAD_NAME)?)?;
        archive.head = serde_json::from_slice(&text)
            .map_err(|error| archive.damaged(0, Part::Head, error.to_string()))?;
        if archive.head.snapshot != archive.manifest.snapshot {
            return Err(archive.damaged(
                0,
                Part::Head,
                "it is of another snapshot than the manifest".to_owned(),
            ));
        }
        Ok(archive)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its members but the manifest, in order.
    pub fn members(&self) -> &[Member] {
        &self.manifest.members
    }

    /// The member `name`.
    ///
    /// # Errors
    /// [`Error::NoMember`].
    pub fn member(&self, name: &MemberName) -> Result<&Member> {
        self.by_name
            .get(name)
            .map(|at| &self.manifest.members[*at])
            .ok_or_else(|| Error::NoMember { path: self.path.clone(), name: name.to_string() })
    }

    /// All of a member, checked.
    ///
    /// # Errors
    /// [`Error::NoMember`], [`Error::Limit`] beyond [`limits::WHOLE_MEMBER`], [`Error::Damaged`], [`Error::Io`].
    pub fn read(&self, name: &MemberName) -> Result<Vec<u8>> {
        let member = self.member(name)?;
        if member.size > limits::WHOLE_MEMBER {
            return Err(Error::Limit {
                what: "the size of a member read as a whole",
                limit: limits::WHOLE_MEMBER,
            });
        }
        let mut bytes = Vec::new();
        let mut reader = FrameReader::new(self)?;
        for number in self.frames_of(member) {
            let plain = reader.read(number)?;
            let (from, to) = self.overlap(number, member);
            bytes.extend_from_slice(&plain[from..to]);
        }
        let digest = blake3::hash(&bytes).to_hex();
        if !member.of_frames && *digest != *member.digest {
            return Err(self.damaged(0, Part::Member(name.to_string()), "its digest is another".to_owned()));
        }
        Ok(bytes)
    }

    /// `buffer` filled from `offset` of a member, each frame that is touched checked first.
    ///
    /// # Errors
    /// As [`Archive::read`]; [`Error::Misuse`] beyond the member's end.
    pub fn read_at(&self, member: &Member, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= member.size);
        if end.is_none() {
            return Err(Error::Misuse { what: "read beyond the end of a member" });
        }
        let mut reader = FrameReader::new(self)?;
        let mut filled = 0;
        let mut number = self.frame_at(member.offset + offset);
        while filled < buffer.len() {
            let at = member.offset + offset + filled as u64;
            let start = self.starts[number];
            let plain = reader.read(number)?;
            let from = usize::try_from(at - start).unwrap_or(usize::MAX);
            let count = (plain.len() - from).min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&plain[from..from + count]);
            filled += count;
            number += 1;
        }
        Ok(())
    }

    pub(crate) fn frame_count(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn plain_size(&self, number: usize) -> u64 {
        u64::from(self.entries[number].plain)
    }

    pub(crate) fn plain_total(&self) -> u64 {
        self.starts.last().map_or(0, |start| start + u64::from(self.entries[self.entries.len() - 1].plain))
    }

    pub(crate) fn start(&self, number: usize) -> u64 {
        self.starts[number]
    }

    pub(crate) fn file_size(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|source| Error::io("stat", &self.path, source))?.len())
    }

    /// The frames that a member's data lies in.
    pub(crate) fn frames_of(&self, member: &Member) -> std::ops::Range<usize> {
        if member.size == 0 {
            return 0..0;
        }
        self.frame_at(member.offset)..self.frame_at(member.offset + member.size - 1) + 1
    }

    fn frame_at(&self, plain: u64) -> usize {
        self.starts.partition_point(|start| *start <= plain).saturating_sub(1)
    }

    /// Which bytes of a frame belong to `member`.
    pub(crate) fn overlap(&self, number: usize, member: &Member) -> (usize, usize) {
        let start = self.starts[number];
        let from = member.offset.saturating_sub(start);
        let to = (member.offset + member.size).saturating_sub(start).min(self.plain_size(number));
        (usize::try_from(from).unwrap_or(usize::MAX), usize::try_from(to).unwrap_or(usize::MAX))
    }

    pub(crate) fn damaged(&self, at: u64, part: Part, what: String) -> Error {
        Error::Damaged { path: self.path.clone(), at, part, what }
    }

    fn owner_of(&self, number: usize) -> Option<String> {
        let (start, end) = (self.starts[number], self.starts[number] + self.plain_size(number));
        let members = self.manifest.members.iter();
        members
            .filter(|member| member.kind == MemberKind::File)
            .find(|member| member.offset < end && member.offset + member.size > start)
            .map(|member| member.name.to_string())
    }
}

/// Reads frames of one archive, checking each; its buffers are used again.
pub(crate) struct FrameReader<'a> {
    archive: &'a Archive,
    decompressor: zstd::bulk::Decompressor<'static>,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(archive: &'a Archive) -> Result<Self> {
        let decompressor = zstd::bulk::Decompressor::new()
            .map_err(|source| Error::io("decompress", &archive.path, source))?;
        Ok(Self { archive, decompressor, packed: Vec::new(), plain: Vec::new() })
    }

    /// The plain bytes of frame `number`. Not a byte of it is decompressed before its digest was compared.
    pub(crate) fn read(&mut self, number: usize) -> Result<&[u8]> {
        let archive = self.archive;
        let entry = archive.entries[number];
        let wrong = |what: String| {
            archive.damaged(
                entry.offset,
                Part::Frame { number: number as u64, member: archive.owner_of(number) },
                what,
            )
        };
        self.packed.resize(entry.packed as usize, 0);
        archive
            .file
            .read_exact_at(&mut self.packed, entry.offset)
            .map_err(|source| Error::io("read", &archive.path, source))?;
        if *blake3::hash(&self.packed).as_bytes() != entry.digest {
            return Err(wrong("its digest is another than the index says".to_owned()));
        }
        self.plain.clear();
        self.plain.reserve(entry.plain as usize);
        self.decompressor
            .decompress_to_buffer(&self.packed, &mut self.plain)
            .map_err(|error| wrong(format!("it cannot be decompressed: {error}")))?;
        if self.plain.len() != entry.plain as usize {
            return Err(wrong(format!("it holds {} bytes instead of {}", self.plain.len(), entry.plain)));
        }
        Ok(&self.plain)
    }
}

/// Opening, step by step from the end.
struct Opener<'a> {
    file: &'a File,
    path: &'a Path,
}

impl Opener<'_> {
    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0u8; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, at).map_err(|source| Error::io("read", self.path, source))?;
        Ok(bytes)
    }

    fn damaged<T>(&self, at: u64, part: Part, what: impl Into<String>) -> Result<T> {
        Err(Error::Damaged { path: self.path.to_owned(), at, part, what: what.into() })
    }

    fn not_ours<T>(&self, what: &'static str) -> Result<T> {
        Err(Error::NotAFloeArchive { path: self.path.to_owned(), what })
    }

    fn first_bytes(&self, length: u64) -> Result<()> {
        if length == 0 {
            return self.not_ours("it is empty");
        }
        let start = self.bytes(0, length.min(4))?;
        match start.as_slice() {
            [0x28, 0xb5, 0x2f, 0xfd] => Ok(()),
            [0x1f, 0x8b, ..] => self.not_ours("it is a gzip file"),
            _ if self.ends_as_ours(length) => self.damaged(
                0,
                Part::Frame { number: 0, member: Some(HEAD_NAME.to_owned()) },
                "it does not begin with a zstd frame",
            ),
            _ => self.not_ours("it is no zstd file"),
        }
    }

    fn ends_as_ours(&self, length: u64) -> bool {
        length > 4 && self.bytes(length - 4, 4).is_ok_and(|end| end == SEEKABLE_MAGIC.to_le_bytes())
    }

    /// Where the seek table begins, and how many frames it has.
    fn footer(&self, length: u64) -> Result<(u64, u64)> {
        if length < TABLE_FIXED + SEAL_SIZE as u64 {
            return self.damaged(length, Part::End, "the file is cut");
        }
        let footer = self.bytes(length - 9, 9)?;
        if footer[5..] != SEEKABLE_MAGIC.to_le_bytes() {
            return match self.looks_like_ours(length) {
                true => self.damaged(
                    length,
                    Part::End,
                    "the seek table is missing: the file is cut, or was added to",
                ),
                false => self.not_ours(
                    "it is a zstd file without floe's seek table (podman's archives are read by floe import)",
                ),
            };
        }
        let frames = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]));
        let size = frames * 8 + TABLE_FIXED;
        if footer[4] != 0 || frames > limits::FRAMES || size + SEAL_SIZE as u64 > length {
            return self.damaged(length - 9, Part::Table, "its footer is wrong");
        }
        Ok((length - size, frames))
    }

    /// Whether the first frame holds a head of ours, for a better word about a cut file.
    fn looks_like_ours(&self, length: u64) -> bool {
        let Ok(start) = self.bytes(0, length.min(1 << 16)) else { return false };
        let mut plain = [0u8; 64];
        zstd::stream::read::Decoder::new(&start[..])
            .is_ok_and(|mut decoder| std::io::Read::read_exact(&mut decoder, &mut plain).is_ok())
            && plain.starts_with(HEAD_NAME.as_bytes())
    }

    fn seal(&self, table_at: u64) -> Result<Seal> {
        let at = table_at - SEAL_SIZE as u64;
        let bytes = self.bytes(at, SEAL_SIZE as u64)?;
        let (header, content) = bytes.split_at(8);
        let (body, own) = content.split_at(content.len() - 32);
        let expected_header = [SEAL_MAGIC.to_le_bytes(), ((SEAL_SIZE - 8) as u32).to_le_bytes()].concat();
        let is_seal = body.starts_with(SEAL_WORD) && header == expected_header;
        if !is_seal || *blake3::hash(body).as_bytes() != own {
            return self.damaged(at, Part::Seal, "it is not what was written");
        }
        let version = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
        if version > FORMAT_VERSION {
            return Err(Error::TooNew { path: self.path.to_owned(), found: version, known: FORMAT_VERSION });
        }
        let number = |at: usize| {
            let mut word = [0u8; 8];
            word.copy_from_slice(&body[12 + at * 8..20 + at * 8]);
            u64::from_le_bytes(word)
        };
        let digest = |at: usize| {
            let mut word = [0u8; 32];
            word.copy_from_slice(&body[44 + at * 32..76 + at * 32]);
            word
        };
        Ok(Seal {
            first: number(0),
            offset: number(1),
            frames: number(2),
            plain: number(3),
            manifest: digest(0),
            table: digest(1),
            at,
        })
    }

    fn table(&self, at: u64, length: u64, frames: u64, seal: &Seal) -> Result<Vec<(u32, u32)>> {
        let bytes = self.bytes(at, length - at)?;
        if *blake3::hash(&bytes).as_bytes() != seal.table
            || frames != seal.frames
            || bytes[..4] != TABLE_MAGIC.to_le_bytes()
        {
            return self.damaged(at, Part::Table, "it is not what was written");
        }
        let word = |raw: &[u8]| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        let entries = bytes[8..bytes.len() - 9].chunks_exact(8);
        Ok(entries.map(|entry| (word(entry), word(&entry[4..]))).collect())
    }

    fn manifest(&self, seal: &Seal, sizes: &[(u32, u32)]) -> Result<Manifest> {
        let first = usize::try_from(seal.first).unwrap_or(usize::MAX);
        let Some(own) = sizes.get(first..) else {
            return self.damaged(seal.at, Part::Seal, "it points beyond the frames");
        };
        let plain_size: u64 = own.iter().map(|(_, plain)| u64::from(*plain)).sum();
        let size = seal.at.checked_sub(seal.offset);
        let Some(size) = size.filter(|size| *size <= limits::JSON && plain_size <= limits::JSON) else {
            return self.damaged(seal.at, Part::Seal, "the manifest's place is wrong");
        };
        let packed = self.bytes(seal.offset, size)?;
        if *blake3::hash(&packed).as_bytes() != seal.manifest {
            return self.damaged(seal.offset, Part::Manifest, "its digest is another than the seal says");
        }
        let mut plain = Vec::new();
        let decoder = zstd::stream::read::Decoder::new(&packed[..]);
        let read = decoder.and_then(|decoder| {
            std::io::Read::read_to_end(&mut std::io::Read::take(decoder, plain_size + 1), &mut plain)
        });
        if read.is_err() || plain.len() as u64 != plain_size {
            return self.damaged(seal.offset, Part::Manifest, "it cannot be decompressed");
        }
        let text = match tar_content(&plain, MANIFEST_NAME) {
            Some(text) => text,
            None => return self.damaged(seal.offset, Part::Manifest, "its tar header is wrong"),
        };
        match serde_json::from_slice::<Manifest>(text) {
            Ok(manifest) if manifest.format > FORMAT_VERSION => Err(Error::TooNew {
                path: self.path.to_owned(),
                found: manifest.format,
                known: FORMAT_VERSION,
            }),
            Ok(manifest) => Ok(manifest),
            Err(error) => self.damaged(seal.offset, Part::Manifest, error.to_string()),
        }
    }

    fn index(&self, manifest: &Manifest, seal: &Seal, sizes: &[(u32, u32)]) -> Result<Vec<Entry>> {
        let index = &manifest.index;
        let blocks = index.frames.div_ceil(index::BLOCK as u64);
        let parts = index.parts.len() as u64;
        if index.block != index::BLOCK as u64 || parts != blocks + 1 || index.frames + parts != seal.first {
            return self.damaged(
                seal.offset,
                Part::Manifest,
                "what it says of the index does not fit the table",
            );
        }
        let mut entries = Vec::new();
        let mut at = (0, 0);
        for (number, part) in index.parts.iter().enumerate() {
            let packed = self.bytes(part.offset, u64::from(part.packed))?;
            if *blake3::hash(&packed).to_hex() != *part.digest {
                return self.damaged(
                    part.offset,
                    Part::Index,
                    "its digest is another than the manifest says",
                );
            }
            if part.plain as usize > limits::FRAME {
                return self.damaged(part.offset, Part::Index, "a part of it is too large");
            }
            // The first part is the tar header.
            if number > 0 {
                let plain = zstd::bulk::decompress(&packed, part.plain as usize);
                let Ok(mut plain) = plain else {
                    return self.damaged(part.offset, Part::Index, "it cannot be decompressed");
                };
                if number as u64 == blocks {
                    let padding = manifest.members.last().map_or(0, |member| tarball::padding(member.size));
                    plain.truncate(plain.len().saturating_sub(padding));
                }
                match index::decode(&plain, number - 1, index.frames, at, &mut entries) {
                    Ok(end) => at = end,
                    Err(what) => return self.damaged(part.offset, Part::Index, what),
                }
            }
        }
        let agrees = entries
            .iter()
            .map(|entry| (entry.packed, entry.plain))
            .eq(sizes.iter().take(entries.len()).copied());
        if !agrees || index.parts.first().is_none_or(|part| part.offset != at.0) {
            return self.damaged(seal.offset, Part::Index, "it does not fit the seek table");
        }
        if seal.plain < at.1 {
            return self.damaged(seal.at, Part::Seal, "its sizes do not fit the index");
        }
        Ok(entries)
    }

    /// The members by name; each must lie within the tar of `total` bytes, in order, without overlap.
    fn names(&self, manifest: &Manifest, total: u64) -> Result<HashMap<MemberName, usize>> {
        if manifest.members.len() > limits::MEMBERS {
            return Err(Error::Limit { what: "the number of members", limit: limits::MEMBERS as u64 });
        }
        let mut names = HashMap::with_capacity(manifest.members.len());
        let mut end = 0u64;
        for (number, member) in manifest.members.iter().enumerate() {
            let next = member.offset.checked_add(member.size);
            let of_index = member.name.as_str() == crate::INDEX_NAME;
            let fits = next.is_some_and(|next| member.offset >= end && (of_index || next <= total));
            if !fits || names.insert(member.name.clone(), number).is_some() {
                return self.damaged(
                    0,
                    Part::Manifest,
                    format!("member {} lies where it cannot", member.name),
                );
            }
            end = next.unwrap_or(end);
        }
        Ok(names)
    }
}

/// The content of the first member of `tar`, if it is the file `name`.
fn tar_content<'a>(tar: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let header = tar::Header::from_byte_slice(tar.get(..512)?);
    let size = usize::try_from(header.size().ok()?).ok()?;
    if header.path_bytes() != name.as_bytes() {
        return None;
    }
    tar.get(512..512usize.checked_add(size)?)
}
