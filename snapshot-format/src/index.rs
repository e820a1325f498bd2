//! The index of frames, `floe-index`, in blocks that can be read and checked one by one.
//!
//! A block: the number of its first frame, that frame's offset in the file and in the plain tar (u64 each, little
//! endian), then for each frame its packed and plain size (u32 each) and the BLAKE3 of the frame as it lies in the
//! file. Every block but the last holds [`BLOCK`] entries.

use crate::limits;

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

/// Reads one block, the `number`th, of an index of `total` frames; `offset` and `plain_at` are where the block
/// before it ended. Appends to `entries` and returns where this one ends.
pub(crate) fn decode(
    block: &[u8],
    number: usize,
    total: u64,
    (mut offset, mut plain_at): (u64, u64),
    entries: &mut Vec<Entry>,
) -> Result<(u64, u64), String> {
    let first = (number * BLOCK) as u64;
    let expected = total.saturating_sub(first).min(BLOCK as u64);
    if expected == 0 || block.len() as u64 != HEAD as u64 + expected * ENTRY as u64 {
        return Err(format!("block {number} has {} bytes", block.len()));
    }
    let word = |at: usize| {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&block[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if (word(0), word(8), word(16)) != (first, offset, plain_at) {
        return Err(format!("block {number} does not follow the one before it"));
    }
    for raw in block[HEAD..].chunks_exact(ENTRY) {
        let half = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let (packed, plain) = (half(0), half(4));
        if plain as usize > limits::FRAME || u64::from(plain) > u64::from(packed) * limits::RATIO {
            return Err(format!("block {number} has a frame of {packed} bytes for {plain}"));
        }
        let mut digest = [0u8; 32];
        digest.copy_from_slice(&raw[8..]);
        entries.push(Entry { offset, packed, plain, digest });
        offset += u64::from(packed);
        plain_at += u64::from(plain);
    }
    Ok((offset, plain_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_say_again_what_went_in() {
        let mut entries = Vec::new();
        let mut offset = 0;
        for number in 0..2500u32 {
            entries.push(Entry { offset, packed: 100 + number, plain: 4096, digest: [number as u8; 32] });
            offset += u64::from(100 + number);
        }
        let blocks = encode(&entries);
        assert_eq!(blocks.len(), 3);
        let mut read = Vec::new();
        let mut at = (0, 0);
        for (number, block) in blocks.iter().enumerate() {
            at = decode(block, number, 2500, at, &mut read).unwrap();
        }
        assert_eq!(read, entries);
        assert_eq!(at, (offset, 2500 * 4096));
    }

    #[test]
    fn a_block_out_of_place_or_with_a_bomb_is_refused() {
        let entries = vec![Entry { offset: 0, packed: 10, plain: 20, digest: [0; 32] }; 1];
        let block = encode(&entries).remove(0);
        assert!(decode(&block, 0, 2, (0, 0), &mut Vec::new()).is_err());
        assert!(decode(&block, 0, 1, (1, 0), &mut Vec::new()).is_err());
        assert!(decode(&block[..block.len() - 1], 0, 1, (0, 0), &mut Vec::new()).is_err());
        let bomb = encode(&[Entry { offset: 0, packed: 1, plain: 1 << 20, digest: [0; 32] }]).remove(0);
        assert!(decode(&bomb, 0, 1, (0, 0), &mut Vec::new()).is_err());
    }
}
