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
/// The member with the pages of the first process.
const PAGES: &str = "checkpoint/pages-1.img";

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
    /// The members that it holds something of, in order.
    pub members: Vec<Piece>,
}

/// A part of a member in a frame.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The member's name.
    pub name: String,
    /// Whether its header begins here.
    pub header: bool,
    /// Whether some of its content is here.
    pub content: bool,
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
                members: Vec::new(),
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
            let content = entry.raw_file_position() as usize;
            let content = content..content + entry.size() as usize;
            for frame in &mut self.frames {
                let piece = Piece {
                    name: name.clone(),
                    header: frame.plain.contains(&header),
                    content: frame.plain.start < content.end && frame.plain.end > content.start,
                };
                if piece.header || piece.content {
                    frame.members.push(piece);
                }
            }
        }
    }

    /// Bytes of the file.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The first frame with content of a member whose name ends like this.
    #[track_caller]
    pub fn frame_of(&self, ending: &str) -> &Frame {
        self.frames_of(ending)
            .next()
            .unwrap_or_else(|| panic!("no member ends with {ending}: {:?}", self.members()))
    }

    fn frames_of(&self, ending: &str) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(move |frame| {
            frame.members.iter().any(|piece| piece.content && piece.name.ends_with(ending))
        })
    }

    /// The first byte of a member's name in its header, which has to lie in its frame as it is: the header of a
    /// member that grows is written again when its size is known, so it is not compressed.
    #[track_caller]
    pub fn name_of(&self, name: &str) -> usize {
        let has_header =
            |frame: &&Frame| frame.members.iter().any(|piece| piece.header && piece.name == name);
        let frame = self.frames.iter().find(has_header);
        let frame = frame.unwrap_or_else(|| panic!("no member is {name}: {:?}", self.members()));
        let packed = &self.bytes[frame.packed.clone()];
        let at = packed.windows(name.len()).position(|window| window == name.as_bytes());
        frame.packed.start + at.unwrap_or_else(|| panic!("the name of {name} is not in its frame"))
    }

    fn members(&self) -> Vec<&str> {
        let pieces = self.frames.iter().flat_map(|frame| &frame.members);
        pieces.filter(|piece| piece.header).map(|piece| piece.name.as_str()).collect()
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
            ("a member's name", Damage::Flip(self.name_of(PAGES))),
            ("the index", Damage::Flip(middle(&self.frame_of("floe-index").packed))),
            ("the manifest", Damage::Flip(middle(&self.frame_of("floe.json").packed))),
            ("between the last frame and the table", Damage::Flip(middle(&self.between))),
            ("the table's header", Damage::Flip(self.table.start)),
            ("the table", Damage::Flip(middle(&self.table))),
            ("the last byte", Damage::Flip(self.length() - 1)),
        ]
    }

    /// The middle one of the frames with the first process's pages.
    #[track_caller]
    pub fn pages(&self) -> &Frame {
        let frames: Vec<&Frame> = self.frames_of(PAGES).collect();
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
