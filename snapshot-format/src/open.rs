//! Opening an archive, step by step from its end. Each step is proved by the one before it:
//!
//! ```text
//!   footer ─► seal (its own digest) ─► table (digest in the seal)
//!                                   └► manifest (digest in the seal) ─► index blocks, when they are needed
//!                                                                    └► members: they fill the tar without a gap
//! ```
//!
//! That the members fill the tar is more than tidiness: what another tar reader finds in it is then exactly what the
//! manifest names, and nothing is hidden between two members.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::archive_file::{SEAL_SIZE, SEAL_WORD};
use crate::error::{Error, Part, Result};
use crate::frame::{SEAL_MAGIC, SEEKABLE_MAGIC, TABLE_MAGIC};
use crate::frames::{Frames, Places};
use crate::index;
use crate::manifest::{FORMAT_VERSION, Head, Manifest, MemberKind};
use crate::name::MemberName;
use crate::{HEAD_NAME, INDEX_NAME, MANIFEST_NAME, limits, tarball};

/// Bytes of a seek table that are not entries: skippable header and footer.
const TABLE_FIXED: u64 = 8 + 9;

/// Bytes from the start in which the head is looked for, where the end does not lead to it.
const GLANCE: u64 = 64 << 10;

/// What the end of an archive says.
pub(crate) struct Tail {
    pub(crate) manifest: Manifest,
    /// BLAKE3 of the manifest's text, hexadecimal.
    pub(crate) digest: String,
    /// Where every frame lies but the manifest's.
    pub(crate) places: Places,
    /// All frames.
    pub(crate) frames: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Bytes of the tar.
    pub(crate) plain: u64,
}

/// Reads and checks the end of `file`.
pub(crate) fn tail(file: &File, path: &Path) -> Result<Tail> {
    let length = file.metadata().map_err(|source| Error::io("stat", path, source))?.len();
    let opener = Opener { file, path, length };
    opener.tail().map_err(|error| opener.explain(error))
}

/// Reads the head, the first member.
pub(crate) fn head(frames: &Frames, manifest: &Manifest) -> Result<Head> {
    let wrong = |what: String| Err(frames.damaged(0, Part::Head, what));
    let Some(member) = manifest.members.first().filter(|member| member.name.as_str() == HEAD_NAME) else {
        return wrong("it is not the first member".to_owned());
    };
    if member.size > limits::HEAD {
        return Err(Error::Limit { what: "the size of the head", limit: limits::HEAD });
    }
    let mut text = Vec::new();
    frames.with_reader(|reader| reader.append(member.offset, member.size, &mut text))?;
    let head: Head = match serde_json::from_slice(&text) {
        Ok(head) => head,
        Err(error) => return wrong(error.to_string()),
    };
    if head.snapshot != manifest.snapshot {
        return wrong("it is of another snapshot than the manifest".to_owned());
    }
    Ok(head)
}

struct Seal {
    /// Number of the manifest's first frame, and where it begins.
    first: u64,
    offset: u64,
    frames: u64,
    plain: u64,
    manifest: [u8; 32],
    table: [u8; 32],
    /// Where the seal begins, and the manifest's frames end.
    at: u64,
}

struct Opener<'a> {
    file: &'a File,
    path: &'a Path,
    length: u64,
}

impl Opener<'_> {
    fn tail(&self) -> Result<Tail> {
        self.first_bytes()?;
        let (table_at, frames) = self.footer()?;
        let seal = self.seal(table_at)?;
        let mut places = self.table(table_at, frames, &seal)?;
        let (manifest, digest) = self.manifest(&seal, &places)?;
        self.index(&manifest, &seal, &mut places)?;
        self.members(&manifest, &places)?;
        Ok(Tail { manifest, digest, places, frames: seal.frames, bytes: self.length, plain: seal.plain })
    }

    /// Bytes of the file. Their number was compared with the file's length before memory is taken for them.
    fn bytes(&self, at: u64, length: u64, part: Part) -> Result<Vec<u8>> {
        let within = at.checked_add(length).is_some_and(|end| end <= self.length);
        let (true, Ok(size)) = (within, usize::try_from(length)) else {
            return self.damaged(at, part, "it would lie beyond the end of the file");
        };
        let mut bytes = vec![0u8; size];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.damaged(at, part, "the file became shorter while it was read")
            }
            Err(source) => Err(Error::io("read", self.path, source)),
        }
    }

    fn damaged<T>(&self, at: u64, part: Part, what: impl Into<String>) -> Result<T> {
        Err(Error::Damaged { path: self.path.to_owned(), at, part, what: what.into() })
    }

    fn not_ours<T>(&self, what: &'static str) -> Result<T> {
        Err(Error::NotAFloeArchive { path: self.path.to_owned(), what })
    }

    /// An end that is not understood may be one of a newer floe, which the head tells.
    fn explain(&self, error: Error) -> Error {
        let newer = |head: &serde_json::Value| {
            head.get("format")?.as_u64().filter(|it| *it > u64::from(FORMAT_VERSION))
        };
        match error {
            Error::Damaged { .. } => match self.glance().as_ref().and_then(newer) {
                Some(found) => self.too_new(u32::try_from(found).unwrap_or(u32::MAX)),
                None => error,
            },
            error => error,
        }
    }

    fn too_new(&self, found: u32) -> Error {
        Error::TooNew { path: self.path.to_owned(), found, known: FORMAT_VERSION }
    }

    /// The head as the first frame has it, whatever the rest of the file is. zstd's checksum is what covers it.
    fn glance(&self) -> Option<serde_json::Value> {
        let start = self.bytes(0, self.length.min(GLANCE), Part::Head).ok()?;
        let decoder = zstd::stream::read::Decoder::with_buffer(&start[..]).ok()?.single_frame();
        let mut plain = Vec::new();
        decoder.take(limits::HEAD).read_to_end(&mut plain).ok()?;
        serde_json::from_slice(tar_content(&plain, HEAD_NAME)?).ok()
    }

    fn first_bytes(&self) -> Result<()> {
        if self.length == 0 {
            return self.not_ours("it is empty");
        }
        let start = self.bytes(0, self.length.min(BLOCK), Part::End)?;
        match start.as_slice() {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(()),
            _ if self.ends_as_ours() => {
                let part = Part::Frame { number: 0, member: Some(HEAD_NAME.to_owned()) };
                self.damaged(0, part, "it does not begin with a zstd frame")
            }
            [0x1f, 0x8b, ..] => self.not_ours("it is a gzip file"),
            _ if start.get(257..262) == Some(b"ustar") => self.not_ours("it is a tar that is not packed"),
            _ => self.not_ours("it is no zstd file"),
        }
    }

    fn ends_as_ours(&self) -> bool {
        let end = self.length.checked_sub(4).map(|at| self.bytes(at, 4, Part::End));
        matches!(end, Some(Ok(end)) if end == SEEKABLE_MAGIC.to_le_bytes())
    }

    /// Where the seek table begins, and how many frames it has.
    fn footer(&self) -> Result<(u64, u64)> {
        let least = TABLE_FIXED + SEAL_SIZE as u64;
        let footer = match self.length.checked_sub(9).filter(|_| self.length >= least) {
            Some(at) => self.bytes(at, 9, Part::End)?,
            None => return self.damaged(self.length, Part::End, "the file is cut"),
        };
        if footer[5..] != SEEKABLE_MAGIC.to_le_bytes() {
            return match self.glance() {
                Some(_) => {
                    let what = "the seek table is missing: the file is cut, or was added to";
                    self.damaged(self.length, Part::End, what)
                }
                None => self.not_ours("it is a zstd file without floe's seek table, such as podman writes"),
            };
        }
        let frames = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]));
        let size = frames * 8 + TABLE_FIXED;
        if footer[4] != 0 || frames > limits::FRAMES || size + SEAL_SIZE as u64 > self.length {
            return self.damaged(self.length - 9, Part::Table, "its footer is wrong");
        }
        Ok((self.length - size, frames))
    }

    fn seal(&self, table_at: u64) -> Result<Seal> {
        let at = table_at - SEAL_SIZE as u64;
        let bytes = self.bytes(at, SEAL_SIZE as u64, Part::Seal)?;
        let (header, content) = bytes.split_at(8);
        let (body, own) = content.split_at(content.len() - 32);
        let expected_header = [SEAL_MAGIC.to_le_bytes(), ((SEAL_SIZE - 8) as u32).to_le_bytes()].concat();
        let is_seal = body.starts_with(SEAL_WORD) && header == expected_header;
        if !is_seal || *blake3::hash(body).as_bytes() != own {
            return self.damaged(at, Part::Seal, "it is not what was written");
        }
        let version = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
        if version > FORMAT_VERSION {
            return Err(self.too_new(version));
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
        let [first, offset, frames, plain] = [number(0), number(1), number(2), number(3)];
        Ok(Seal { first, offset, frames, plain, manifest: digest(0), table: digest(1), at })
    }

    /// The places of all frames. They follow each other from the first byte to the seal.
    fn table(&self, at: u64, frames: u64, seal: &Seal) -> Result<Places> {
        let bytes = self.bytes(at, self.length - at, Part::Table)?;
        let is_table = bytes[..4] == TABLE_MAGIC.to_le_bytes() && frames == seal.frames;
        if !is_table || *blake3::hash(&bytes).as_bytes() != seal.table {
            return self.damaged(at, Part::Table, "it is not what was written");
        }
        let word = |raw: &[u8]| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        let mut places = Places::with_capacity(usize::try_from(frames).unwrap_or(0) + 1);
        for raw in bytes[8..bytes.len() - 9].chunks_exact(8) {
            let (packed, plain) = (word(raw), word(&raw[4..]));
            let bomb = u64::from(plain) > u64::from(packed) * limits::RATIO;
            if plain == 0 || plain as usize > limits::FRAME || packed as usize > limits::PACKED_FRAME || bomb
            {
                let what = format!("it has a frame of {packed} bytes for {plain}");
                return self.damaged(at, Part::Table, what);
            }
            places.push(packed, plain);
        }
        if places.end() != (seal.at, seal.plain) {
            return self.damaged(at, Part::Table, "its frames do not fill the file");
        }
        Ok(places)
    }

    fn manifest(&self, seal: &Seal, places: &Places) -> Result<(Manifest, String)> {
        let damaged = |what: &str| self.damaged(seal.offset, Part::Manifest, what);
        let first = usize::try_from(seal.first).unwrap_or(usize::MAX);
        let Some((offset, plain_at)) = places.start(first).filter(|(offset, _)| *offset == seal.offset)
        else {
            return self.damaged(seal.at, Part::Seal, "the manifest's place is wrong");
        };
        let (packed_size, plain_size) = (seal.at - offset, seal.plain - plain_at);
        if plain_size > limits::JSON || plain_size > limits::HEAD + packed_size * limits::JSON_RATIO {
            return Err(Error::Limit { what: "the size of the manifest", limit: limits::JSON });
        }
        let packed = self.bytes(offset, packed_size, Part::Manifest)?;
        if *blake3::hash(&packed).as_bytes() != seal.manifest {
            return damaged("its digest is another than the seal says");
        }
        let mut plain = Vec::new();
        let read = zstd::stream::read::Decoder::with_buffer(&packed[..])
            .and_then(|decoder| decoder.take(plain_size + 1).read_to_end(&mut plain));
        if read.is_err() || plain.len() as u64 != plain_size {
            return damaged("it cannot be decompressed");
        }
        let Some(text) = tar_content(&plain, MANIFEST_NAME) else {
            return damaged("its tar header is wrong");
        };
        let own = MemberName::new(MANIFEST_NAME)?;
        let header = tarball::header(&own, MemberKind::File, MANIFEST_MODE, text.len() as u64)?;
        let end = tarball::padding(text.len() as u64) + 2 * BLOCK as usize;
        let rest = plain.get(BLOCK as usize + text.len()..).unwrap_or_default();
        if !plain.starts_with(&header) || rest.len() != end || rest.iter().any(|byte| *byte != 0) {
            return damaged("the tar around it is wrong");
        }
        match serde_json::from_slice::<Manifest>(text) {
            Ok(manifest) if manifest.format > FORMAT_VERSION => Err(self.too_new(manifest.format)),
            Ok(manifest) => Ok((manifest, blake3::hash(text).to_hex().to_string())),
            Err(error) => damaged(&error.to_string()),
        }
    }

    /// Checks that the index lies where it must: behind the frames that it describes, in front of the manifest.
    fn index(&self, manifest: &Manifest, seal: &Seal, places: &mut Places) -> Result<()> {
        let index = &manifest.index;
        let damaged = |what: &str| self.damaged(seal.offset, Part::Manifest, what);
        let parts = index.frames.div_ceil(index::BLOCK as u64).saturating_add(1);
        let fits = index.parts.len() as u64 == parts && index.frames.checked_add(parts) == Some(seal.first);
        if index.block != index::BLOCK as u64 || !fits {
            return damaged("what it says of the index does not fit the table");
        }
        let first = usize::try_from(index.frames).unwrap_or(usize::MAX);
        let mut digests = Vec::with_capacity(index.parts.len());
        for (number, part) in (first..).zip(&index.parts) {
            let (Some((offset, _)), Ok(digest)) =
                (places.start(number), blake3::Hash::from_hex(&part.digest))
            else {
                return damaged("what it says of the index cannot be");
            };
            if (offset, places.sizes(number)) != (part.offset, (part.packed, part.plain)) {
                return damaged("what it says of the index does not fit the table");
            }
            digests.push(*digest.as_bytes());
        }
        places.keep(first, digests);
        Ok(())
    }

    /// The members fill the tar up to the manifest, in order, and none has the name of another.
    fn members(&self, manifest: &Manifest, places: &Places) -> Result<()> {
        if manifest.members.len() > limits::MEMBERS {
            return Err(Error::Limit { what: "the number of members", limit: limits::MEMBERS as u64 });
        }
        let mut names = std::collections::HashSet::with_capacity(manifest.members.len());
        let mut at = 0u64;
        for member in &manifest.members {
            let offset = at.checked_add(BLOCK).filter(|offset| *offset == member.offset);
            let end =
                offset.and_then(|offset| offset.checked_add(member.size)?.checked_next_multiple_of(BLOCK));
            let empty = member.kind == MemberKind::File || member.size == 0;
            let free = member.name.as_str() != MANIFEST_NAME && names.insert(&member.name);
            let (Some(end), true, true) = (end, empty, free) else {
                return self.damaged(
                    0,
                    Part::Manifest,
                    format!("member {} lies where it cannot", member.name),
                );
            };
            at = end;
        }
        let last = manifest.members.last();
        let described = places.start(places.described()).map(|(_, plain)| plain + BLOCK);
        let index_fits =
            last.is_some_and(|last| last.name.as_str() == INDEX_NAME && Some(last.offset) == described);
        if !index_fits || at != places.end().1 {
            return self.damaged(0, Part::Manifest, "its members do not fill the tar");
        }
        Ok(())
    }
}

const BLOCK: u64 = tarball::BLOCK;

/// Permission bits of the manifest.
const MANIFEST_MODE: u32 = 0o600;

/// The content of the first member of `tar`, if it is the file `name`.
fn tar_content<'a>(tar: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let header = tar::Header::from_byte_slice(tar.get(..512)?);
    let size = usize::try_from(header.size().ok()?).ok()?;
    if header.path_bytes() != name.as_bytes() {
        return None;
    }
    tar.get(512..512usize.checked_add(size)?)
}
