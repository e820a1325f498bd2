//! Archives that are cut or have a bit flipped, in every part of them.
//!
//! The parts are found without floe's own reader: frames by the seek table (zstd seekable format), what is in them by
//! zstd and tar.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The magic number at the very end of a seekable file.
const SEEKABLE: u32 = 0x8F92_EAB1;
/// Bytes of a tar header, and of the blocks that content is filled up to.
const BLOCK: usize = 512;
/// Where a tar header has the first byte of the name.
const NAME: usize = 0;

/// An archive taken apart.
#[derive(Debug)]
pub struct Anatomy {
    bytes: Vec<u8>,
    /// Frames in order.
    pub frames: Vec<Frame>,
    /// From the end of the last frame to the start of the table: skippable frames that the table does not list.
    pub between: Range<usize>,
    /// The frame with the table, to the end of the file.
    pub table: Range<usize>,
}

/// A frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its bytes in the file.
    pub packed: Range<usize>,
    /// Its content's place in the tar.
    pub plain: Range<usize>,
    /// The member whose content begins or goes on in it, or whose header it has.
    pub member: String,
    /// Whether it holds the header of that member.
    pub header: bool,
}

/// A change of an archive.
#[derive(Debug, Clone)]
pub enum Damage {
    /// Everything from this byte on is gone.
    Cut(usize),
    /// A bit of this byte is flipped.
    Flip(usize),
}

impl Anatomy {
    /// Takes an archive apart.
    pub fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (sizes, table) = seek_table(&bytes);
        let (mut packed, mut plain) = (0, 0);
        let mut frames = Vec::new();
        for (packed_size, plain_size) in sizes {
            frames.push(Frame {
                packed: packed..packed + packed_size,
                plain: plain..plain + plain_size,
                member: String::new(),
                header: false,
            });
            (packed, plain) = (packed + packed_size, plain + plain_size);
        }
        let between = packed..table.start;
        let mut anatomy = Self { bytes, frames, between, table };
        anatomy.name_frames();
        anatomy
    }

    /// Says of each frame which member it belongs to, as tar sees it.
    fn name_frames(&mut self) {
        let mut content = Vec::new();
        for frame in &self.frames {
            let plain = zstd::bulk::decompress(&self.bytes[frame.packed.clone()], frame.plain.len()).unwrap();
            assert_eq!(plain.len(), frame.plain.len(), "the table lies about frame {frame:?}");
            content.extend_from_slice(&plain);
        }
        let mut archive = tar::Archive::new(content.as_slice());
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let header = entry.raw_header_position() as usize;
            let end = entry.raw_file_position() as usize + (entry.size() as usize).next_multiple_of(BLOCK);
            for frame in &mut self.frames {
                if frame.plain.start < end && frame.plain.end > header {
                    frame.member.clone_from(&name);
                    frame.header |= frame.plain.contains(&header);
                }
            }
        }
    }

    /// Bytes of the file.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// A frame of content of a member whose name ends like this.
    #[track_caller]
    pub fn frame_of(&self, ending: &str) -> &Frame {
        let mut frames = self.frames.iter().filter(|frame| frame.member.ends_with(ending));
        let found = frames.clone().find(|frame| !frame.header).or_else(|| frames.next());
        found.unwrap_or_else(|| panic!("no member ends with {ending}: {:?}", self.members()))
    }

    /// The first byte of a member's name in its header, which has to lie in its frame as it is: the header of a
    /// member that grows is written again when its size is known, so it is not compressed.
    #[track_caller]
    pub fn name_of(&self, ending: &str) -> usize {
        let frame = self.frames.iter().find(|frame| frame.header && frame.member.ends_with(ending));
        let frame = frame.unwrap_or_else(|| panic!("no member ends with {ending}: {:?}", self.members()));
        let name = frame.member.as_bytes();
        let packed = &self.bytes[frame.packed.clone()];
        let at = packed.windows(name.len()).position(|window| window == name);
        frame.packed.start
            + NAME
            + at.unwrap_or_else(|| panic!("the name of {} is not in its frame", frame.member))
    }

    fn members(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.frames.iter().map(|frame| frame.member.as_str()).collect();
        names.dedup();
        names
    }

    /// Every place where a copy may have ended: at each frame's start and within it, in the table, one byte short.
    pub fn cuts(&self) -> Vec<Damage> {
        let ranges = self.frames.iter().map(|frame| &frame.packed).chain([&self.between, &self.table]);
        let mut cuts: Vec<usize> = ranges
            .filter(|range| !range.is_empty())
            .flat_map(|range| [range.start, range.start + range.len() / 2])
            .collect();
        cuts.push(self.length() - 1);
        cuts.into_iter().map(Damage::Cut).collect()
    }

    /// A flipped bit in each part that issue and format name, with what the part is called.
    pub fn flips(&self) -> Vec<(&'static str, Damage)> {
        let middle = |range: &Range<usize>| range.start + range.len() / 2;
        vec![
            ("the first bytes of the file", Damage::Flip(0)),
            ("the head", Damage::Flip(middle(&self.frame_of("floe-head.json").packed))),
            ("a page frame", Damage::Flip(middle(&self.pages().packed))),
            ("a small image", Damage::Flip(middle(&self.frame_of("pstree.img").packed))),
            ("the configuration", Damage::Flip(middle(&self.frame_of("spec.dump").packed))),
            ("a member's name", Damage::Flip(self.name_of(&self.pages().member))),
            ("the index", Damage::Flip(middle(&self.frame_of("floe-index").packed))),
            ("the manifest", Damage::Flip(middle(&self.frame_of("floe.json").packed))),
            ("between the last frame and the table", Damage::Flip(middle(&self.between))),
            ("the table's header", Damage::Flip(self.table.start)),
            ("the table", Damage::Flip(middle(&self.table))),
            ("the last byte", Damage::Flip(self.length() - 1)),
        ]
    }

    /// The middle one of the frames with pages.
    #[track_caller]
    pub fn pages(&self) -> &Frame {
        let is_page = |frame: &&Frame| frame.member.contains("pages-") && !frame.header;
        let frames: Vec<&Frame> = self.frames.iter().filter(is_page).collect();
        assert!(!frames.is_empty(), "no frames with pages: {:?}", self.members());
        frames[frames.len() / 2]
    }

    /// Writes a damaged copy.
    pub fn write(&self, damage: &Damage, path: PathBuf) -> PathBuf {
        let mut bytes = self.bytes.clone();
        match damage {
            Damage::Cut(at) => bytes.truncate(*at),
            Damage::Flip(at) => bytes[*at] ^= 0x10,
        }
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Packed and plain sizes of the frames, and where the table lies.
fn seek_table(bytes: &[u8]) -> (Vec<(usize, usize)>, Range<usize>) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let end = bytes.len();
    assert_eq!(word(end - 4), SEEKABLE, "the file does not end in a seek table");
    let count = word(end - 9) as usize;
    let entry = if bytes[end - 5] & 0x80 == 0 { 8 } else { 12 };
    let start = end - 9 - count * entry - 8;
    let sizes = (0..count)
        .map(|number| start + 8 + number * entry)
        .map(|at| (word(at) as usize, word(at + 4) as usize))
        .collect();
    (sizes, start..end)
}

/// What a stream of zstd holds, as its own reader sees it.
pub fn plain(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    zstd::Decoder::new(fs::File::open(path).unwrap()).unwrap().read_to_end(&mut content).unwrap();
    content
}
