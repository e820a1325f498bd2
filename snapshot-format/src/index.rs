//! The index of frames, `floe-index`, in blocks that can be read and checked one by one.
//!
//! A block: the number of its first frame, that frame's offset in the file and in the plain tar (u64 each, little
//! endian), then for each frame its packed and plain size (u32 each) and the BLAKE3 of the frame as it lies in the
//! file. Every block but the last holds [`BLOCK`] entries.

use crate::frames::Places;

/// Entries in a block: 40 KiB, so that a reader of a single page checks one block and one frame.
pub(crate) const BLOCK: usize = 1024;

const HEAD: usize = 24;
const ENTRY: usize = 40;

/// A frame of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Size in the file.
    pub(crate) packed: u32,
    /// Size of what it holds.
    pub(crate) plain: u32,
    /// BLAKE3 of the frame as it lies in the file.
    pub(crate) digest: [u8; 32],
}

/// The index as its blocks.
pub(crate) fn encode(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut plain_at = 0u64;
    let mut blocks = Vec::with_capacity(entries.len().div_ceil(BLOCK));
    for (number, chunk) in entries.chunks(BLOCK).enumerate() {
        let mut block = Vec::with_capacity(HEAD + chunk.len() * ENTRY);
        block.extend_from_slice(&((number * BLOCK) as u64).to_le_bytes());
        block.extend_from_slice(&chunk[0].offset.to_le_bytes());
        block.extend_from_slice(&plain_at.to_le_bytes());
        for entry in chunk {
            block.extend_from_slice(&entry.packed.to_le_bytes());
            block.extend_from_slice(&entry.plain.to_le_bytes());
            block.extend_from_slice(&entry.digest);
            plain_at += u64::from(entry.plain);
        }
        blocks.push(block);
    }
    blocks
}

/// Reads the block that begins with frame `first`, and has to say of its frames what `places` says. Returns their
/// digests.
pub(crate) fn decode(block: &[u8], first: usize, places: &Places) -> Result<Vec<[u8; 32]>, String> {
    let frames = places.described().saturating_sub(first).min(BLOCK);
    let size = HEAD + frames * ENTRY;
    // Only the last one is followed by anything: what fills it up to a block of the tar.
    let padding = if first + frames < places.described() { 0 } else { 511 };
    if frames == 0 || block.len() < size || block.len() > size + padding {
        return Err(format!("the block of frame {first} has {} bytes", block.len()));
    }
    let word = |at: usize| {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&block[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if Some((word(8), word(16))) != places.start(first) || word(0) != first as u64 {
        return Err(format!("the block of frame {first} does not follow the one before it"));
    }
    let mut digests = Vec::with_capacity(frames);
    for (number, raw) in (first..).zip(block[HEAD..size].chunks_exact(ENTRY)) {
        let half = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        if (half(0), half(4)) != places.sizes(number) {
            return Err(format!("frame {number} has another size than the seek table says"));
        }
        let mut digest = [0u8; 32];
        digest.copy_from_slice(&raw[8..]);
        digests.push(digest);
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: u32) -> (Vec<Entry>, Places) {
        let mut places = Places::with_capacity(count as usize);
        let mut entries = Vec::new();
        for number in 0..count {
            let (offset, packed, plain) = (places.end().0, 100 + number, 4096);
            entries.push(Entry { offset, packed, plain, digest: [number as u8; 32] });
            places.push(packed, plain);
        }
        places.keep(count as usize, Vec::new());
        (entries, places)
    }

    #[test]
    fn blocks_say_again_what_went_in() {
        let (entries, places) = some(2500);
        let blocks = encode(&entries);
        assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [40984, 40984, 18104]);
        let digests =
            blocks.iter().enumerate().flat_map(|(at, block)| decode(block, at * BLOCK, &places).unwrap());
        assert!(digests.eq(entries.iter().map(|entry| entry.digest)));
    }

    #[test]
    fn a_block_that_does_not_fit_is_refused() {
        let (entries, places) = some(2500);
        let blocks = encode(&entries);
        assert!(decode(&blocks[0], BLOCK, &places).unwrap_err().contains("follow"));
        assert!(decode(&blocks[2], BLOCK, &places).unwrap_err().contains("bytes"));
        assert!(decode(&blocks[0][..40983], 0, &places).unwrap_err().contains("bytes"));
        assert!(decode(&[&blocks[0][..], &[0]].concat(), 0, &places).unwrap_err().contains("bytes"));
        assert!(decode(&[&blocks[2][..], &[0; 511]].concat(), 2048, &places).is_ok());
        assert!(decode(&[], 4096, &places).is_err());
        let mut block = blocks[1].clone();
        block[HEAD] ^= 1;
        assert!(decode(&block, BLOCK, &places).unwrap_err().contains("frame 1024 has another size"));
    }
}
