//! What a reader accepts before it takes memory for it, each with its reason. A writer stays well below.

/// Most members of an archive: a task has about ten images, and Linux has at most 2^22 tasks; archives of more than a
/// hundred thousand tasks are not whole any more but hostile.
pub const MEMBERS: usize = 1 << 20;
/// Longest member name in bytes: what a ustar header holds without extensions.
pub const NAME: usize = 255;
/// Most parts of a member name.
pub const DEPTH: usize = 16;
/// Largest manifest, in bytes of JSON: [`MEMBERS`] of them at 250 bytes each.
pub const JSON: u64 = 256 << 20;
/// Most bytes of JSON for a packed one, beyond the first [`HEAD`]: digests, which no packer makes smaller, are a third
/// of a manifest.
pub const JSON_RATIO: u64 = 128;
/// Largest head, in bytes of JSON.
pub const HEAD: u64 = 1 << 20;
/// Largest frame, plain. Page frames are 64 to 256 KiB; small members share frames of that size.
pub const FRAME: usize = 4 << 20;
/// Largest frame as it lies in the file: what cannot be made smaller, and zstd's headers around it.
pub const PACKED_FRAME: usize = FRAME + (FRAME >> 8) + 4096;
/// Most frames: the limit of the seekable format.
pub const FRAMES: u64 = 0x0800_0000;
/// Most plain bytes for a packed one. zstd packs a frame of zeros of [`FRAME`] bytes to some 150.
pub const RATIO: u64 = 1 << 16;
/// Largest member that is read into memory as a whole. Pages are never read that way.
pub const WHOLE_MEMBER: u64 = 1 << 30;
/// Largest image of CRIU that is parsed. Page maps of a task with a million runs have 20 MiB.
pub const IMAGE: usize = 1 << 30;
/// Most runs of pages of one task: 2^26 single pages are 256 GiB that are torn to pieces, in 2 GiB of page map.
pub const RUNS: usize = 1 << 26;
/// Most memory areas of one task. The kernel's own bound is vm.max_map_count, 65530 by default and a million where
/// databases set it.
pub const AREAS: usize = 1 << 24;
/// Most tasks: pids of Linux (PID_MAX_LIMIT).
pub const TASKS: usize = 1 << 22;
