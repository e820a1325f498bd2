//! What a reader accepts before it takes memory for it, each with its reason. A writer stays well below.

/// Most members of an archive: a task has about ten images, and Linux has at most 2^22 tasks; archives of more than a
/// hundred thousand tasks are not whole any more but hostile.
pub const MEMBERS: usize = 1 << 20;
/// Longest member name in bytes: what a ustar header holds without extensions.
pub const NAME: usize = 255;
/// Most parts of a member name.
pub const DEPTH: usize = 16;
/// Largest manifest or head, in bytes of JSON.
pub const JSON: u64 = 256 << 20;
/// Largest frame, plain. Page frames are 64 to 256 KiB; small members share frames of at most this.
pub const FRAME: usize = 4 << 20;
/// Most frames: the limit of the seekable format.
pub const FRAMES: u64 = 0x0800_0000;
/// Most plain bytes for a packed one. zstd packs a frame of zeros of [`FRAME`] bytes to some 150.
pub const RATIO: u64 = 1 << 16;
/// Largest member that is read into memory as a whole. Pages are never read that way.
pub const WHOLE_MEMBER: u64 = 1 << 30;
/// Most runs of pages in one page map: 2^32 pages in runs of one are 16 TiB.
pub const RUNS: usize = 1 << 26;
