//! Archives of somebody who knows the format: every digest is right, and what they cover is not.

use std::path::Path;

use crate::archive_file::SEAL_WORD;
use crate::frame::{SEAL_MAGIC, SEEKABLE_MAGIC, seek_table, skippable};
use crate::manifest::{Manifest, MemberKind};
use crate::name::MemberName;
use crate::{
    Archive, ArchiveFile, Error, FORMAT_VERSION, Head, MANIFEST_NAME, Sink, Source, Tool, Unheard,
    WriterOptions,
};
use crate::{limits, tarball};

/// What a forger may change.
struct Parts {
    manifest: Manifest,
    /// Frames in front of the manifest's, as the table will name them.
    sizes: Vec<(u32, u32)>,
    version: u32,
    /// Added to the number of frames and to the place of the manifest that the seal names.
    frames_more: u64,
    offset_more: u64,
    /// Added behind the manifest's text, within its member's padding.
    after_manifest: Option<u8>,
    /// Plain bytes of zeros in front of the text.
    bomb: usize,
}

struct Forger {
    dir: tempfile::TempDir,
    good: Vec<u8>,
    manifest: Manifest,
}

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

impl Forger {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("good");
        let tool = Tool { name: "floe".into(), version: "0.1.0".into() };
        let head = Head {
            format: FORMAT_VERSION,
            kind: "floe-archive".into(),
            snapshot: "aa".into(),
            container: "web".into(),
            created: String::new(),
            tool,
            extra: serde_json::Map::new(),
        };
        let options = WriterOptions { frame_size: 4096, workers: 1, ..WriterOptions::default() };
        let mut archive = ArchiveFile::create(&path, &head, options).unwrap();
        archive.add(&name("config.dump"), 0o600, b"{}").unwrap();
        archive.add_directory(&name("checkpoint"), 0o755).unwrap();
        archive.begin(&name("checkpoint/pages-1.img"), 0o600).unwrap();
        archive.append(&[1; 4096]).unwrap();
        archive.append(&[2; 4096]).unwrap();
        archive.end().unwrap();
        let manifest = Manifest { format: FORMAT_VERSION, snapshot: "aa".into(), ..Manifest::default() };
        archive.complete(manifest).unwrap().publish().unwrap();
        let good = std::fs::read(&path).unwrap();
        let manifest = Archive::open(&path).unwrap().manifest().clone();
        Self { dir, good, manifest }
    }

    /// Seals the archive again after `change`.
    fn forge(&self, change: impl FnOnce(&mut Parts)) -> Vec<u8> {
        let end = self.good.len();
        let word = |at: usize| u32::from_le_bytes(self.good[at..at + 4].try_into().unwrap());
        assert_eq!(word(end - 4), SEEKABLE_MAGIC);
        let count = word(end - 9) as usize;
        let table = end - 9 - count * 8;
        let frames = (0..count).map(|number| (word(table + number * 8), word(table + number * 8 + 4)));
        let before = self.manifest.index.frames as usize + self.manifest.index.parts.len();
        let mut parts = Parts {
            manifest: self.manifest.clone(),
            sizes: frames.take(before).collect(),
            version: FORMAT_VERSION,
            frames_more: 0,
            offset_more: 0,
            after_manifest: None,
            bomb: 0,
        };
        let offset: u32 = parts.sizes.iter().map(|(packed, _)| packed).sum();
        let mut bytes = self.good[..offset as usize].to_vec();
        change(&mut parts);

        let mut text = vec![b' '; parts.bomb];
        text.extend_from_slice(&serde_json::to_vec(&parts.manifest).unwrap());
        let size = text.len() as u64;
        let mut plain =
            tarball::header(&name(MANIFEST_NAME), MemberKind::File, 0o600, size).unwrap().to_vec();
        plain.extend_from_slice(&text);
        plain.resize(plain.len() + tarball::padding(size) + 1024, parts.after_manifest.unwrap_or(0));
        let mut hasher = blake3::Hasher::new();
        let first = parts.sizes.len() as u64;
        for piece in plain.chunks(limits::FRAME) {
            let packed = zstd::bulk::compress(piece, 1).unwrap();
            hasher.update(&packed);
            bytes.extend_from_slice(&packed);
            parts.sizes.push((packed.len() as u32, piece.len() as u32));
        }
        let table = seek_table(parts.sizes.iter().copied());
        let total: u64 = parts.sizes.iter().map(|(_, plain)| u64::from(*plain)).sum();
        let mut seal = SEAL_WORD.to_vec();
        seal.extend_from_slice(&parts.version.to_le_bytes());
        let frames = (parts.sizes.len() as u64).wrapping_add(parts.frames_more);
        for number in [first, u64::from(offset).wrapping_add(parts.offset_more), frames, total] {
            seal.extend_from_slice(&number.to_le_bytes());
        }
        seal.extend_from_slice(hasher.finalize().as_bytes());
        seal.extend_from_slice(blake3::hash(&table).as_bytes());
        let own = blake3::hash(&seal);
        seal.extend_from_slice(own.as_bytes());
        bytes.extend_from_slice(&skippable(SEAL_MAGIC, &seal));
        bytes.extend_from_slice(&table);
        bytes
    }

    fn open(&self, bytes: &[u8]) -> Result<Archive, Error> {
        let path = self.dir.path().join("forged");
        std::fs::write(&path, bytes).unwrap();
        Archive::open(Path::new(&path))
    }

    #[track_caller]
    fn refused(&self, said: &str, change: impl FnOnce(&mut Parts)) -> Error {
        let error = self.open(&self.forge(change)).expect_err(said);
        assert!(error.to_string().contains(said), "{error} instead of {said}");
        error
    }
}

#[test]
fn a_forged_copy_without_a_change_is_read() {
    let forger = Forger::new();
    let archive = forger.open(&forger.forge(|_| {})).unwrap();
    archive.verify(&Unheard).unwrap();
    assert_eq!(archive.read(&name("config.dump")).unwrap(), b"{}");
}

#[test]
fn members_fill_the_tar_and_nothing_is_hidden_between_them() {
    let forger = Forger::new();
    let cannot = "lies where it cannot";
    forger.refused(cannot, |parts| parts.manifest.members[1].offset += 512);
    forger.refused(cannot, |parts| parts.manifest.members[1].offset = u64::MAX);
    forger.refused(cannot, |parts| parts.manifest.members[1].size = u64::MAX);
    forger.refused(cannot, |parts| parts.manifest.members[3].size += 4096);
    forger.refused(cannot, |parts| parts.manifest.members[2].size = 512);
    forger.refused(cannot, |parts| drop(parts.manifest.members.remove(2)));
    forger.refused(cannot, |parts| parts.manifest.members.swap(1, 2));
    forger.refused(cannot, |parts| parts.manifest.members[3].name = name("config.dump"));
    forger.refused(cannot, |parts| parts.manifest.members[1].name = name(MANIFEST_NAME));
    forger.refused("do not fill the tar", |parts| drop(parts.manifest.members.pop()));
    forger.refused("do not fill the tar", |parts| parts.manifest.members.clear());
    forger.refused("do not fill the tar", |parts| parts.manifest.members[4].name = name("other"));
    forger.refused("not the first member", |parts| parts.manifest.members[0].name = name("other"));
    forger.refused("another snapshot", |parts| parts.manifest.snapshot = "bb".into());
    forger.refused("the tar around it", |parts| parts.after_manifest = Some(1));
}

#[test]
fn the_index_lies_where_the_table_says() {
    let forger = Forger::new();
    let unfit = "does not fit the table";
    forger.refused(unfit, |parts| parts.manifest.index.frames = u64::MAX);
    forger.refused(unfit, |parts| parts.manifest.index.frames -= 1);
    forger.refused(unfit, |parts| parts.manifest.index.block = 1);
    forger.refused(unfit, |parts| parts.manifest.index.parts.clear());
    forger.refused(unfit, |parts| parts.manifest.index.parts[1].packed = u32::MAX);
    forger.refused(unfit, |parts| parts.manifest.index.parts[1].plain = u32::MAX);
    forger.refused(unfit, |parts| parts.manifest.index.parts[1].offset = 0);
    forger.refused("cannot be", |parts| parts.manifest.index.parts[1].digest = "zz".into());
    // The head's digest stands in this block.
    let error = forger.refused("the index", |parts| parts.manifest.index.parts[1].digest = "00".repeat(32));
    assert!(error.is_damage());
}

#[test]
fn no_size_is_believed() {
    let forger = Forger::new();
    forger.refused("a frame of 1 bytes for 4194304", |parts| parts.sizes[0] = (1, 4 << 20));
    forger.refused("a frame of", |parts| parts.sizes[0].1 = u32::MAX);
    forger.refused("a frame of", |parts| parts.sizes[0].0 = u32::MAX);
    forger.refused("a frame of", |parts| parts.sizes[0].1 = 0);
    forger.refused("do not fill the file", |parts| parts.sizes[0].0 += 1);
    forger.refused("not what was written", |parts| parts.frames_more = 1);
    forger.refused("manifest's place", |parts| parts.offset_more = 1);
    forger.refused("manifest's place", |parts| parts.offset_more = u64::MAX);
    assert!(matches!(forger.refused("beyond the limit", |parts| parts.bomb = 64 << 20), Error::Limit { .. }));
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let forger = Forger::new();
    let newer = |error| assert!(matches!(error, Error::TooNew { found: 9, .. }), "{error}");
    newer(forger.refused("format version 9", |parts| parts.version = 9));
    newer(forger.refused("format version 9", |parts| parts.manifest.format = 9));
}

#[test]
fn what_another_tar_reader_would_see_is_compared() {
    let forger = Forger::new();
    let verified = |change: fn(&mut Parts)| {
        let error = forger.open(&forger.forge(change)).unwrap().verify(&Unheard).unwrap_err();
        assert!(error.is_damage());
        error.to_string()
    };
    assert!(verified(|parts| parts.manifest.members[1].mode = 0o4755).contains("tar header"));
    assert!(verified(|parts| parts.manifest.members[1].name = name("config.damp")).contains("tar header"));
    assert!(verified(|parts| parts.manifest.members[1].size = 3).contains("tar header"));
    assert!(verified(|parts| parts.manifest.members[1].digest = "00".repeat(32)).contains("digest"));
    assert!(verified(|parts| parts.manifest.members[3].digest = "00".repeat(32)).contains("digest"));
    assert!(verified(|parts| parts.manifest.members[4].digest = "00".repeat(32)).contains("digest"));
}
