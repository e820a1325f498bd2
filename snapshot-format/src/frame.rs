//! Frames of zstd that are written by hand: one of known size, and skippable ones (RFC 8878, 3.1).

/// Magic number of a zstd frame.
const MAGIC: u32 = 0xFD2F_B528;

/// Bytes that [`raw512`] makes of a tar header.
pub(crate) const RAW512: usize = 4 + 1 + 2 + 3 + 512;

/// The skippable frame of the seal. Any of 0x184D2A50 to 0x184D2A5F is skipped by readers; E is the seek table's.
pub(crate) const SEAL_MAGIC: u32 = 0x184D_2A5F;

/// Magic of the skippable frame that holds a seek table.
pub(crate) const TABLE_MAGIC: u32 = 0x184D_2A5E;

/// Magic at the very end of a seekable file.
pub(crate) const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// A tar header as a frame of one raw block: it can be written again in place when the member's size is known,
/// which a compressed frame, whose size depends on its content, could not.
pub(crate) fn raw512(header: &[u8; 512]) -> [u8; RAW512] {
    let mut frame = [0u8; RAW512];
    frame[..4].copy_from_slice(&MAGIC.to_le_bytes());
    // Frame header: single segment, content size in two bytes (less 256), no checksum, no dictionary.
    frame[4] = 0b0110_0000;
    frame[5..7].copy_from_slice(&(512u16 - 256).to_le_bytes());
    // Block header: last, raw, its size.
    let block = (512u32 << 3) | 1;
    frame[7..10].copy_from_slice(&block.to_le_bytes()[..3]);
    frame[10..].copy_from_slice(header);
    frame
}

/// `content` in a skippable frame.
pub(crate) fn skippable(magic: u32, content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + content.len());
    frame.extend_from_slice(&magic.to_le_bytes());
    frame.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

/// The seek table of `frames` (packed and plain sizes), without checksums: zstd's own and BLAKE3 stand elsewhere.
pub(crate) fn seek_table(frames: impl ExactSizeIterator<Item = (u32, u32)>) -> Vec<u8> {
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let mut content = Vec::with_capacity(frames.len() * 8 + 9);
    for (packed, plain) in frames {
        content.extend_from_slice(&packed.to_le_bytes());
        content.extend_from_slice(&plain.to_le_bytes());
    }
    content.extend_from_slice(&count.to_le_bytes());
    content.push(0);
    content.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    skippable(TABLE_MAGIC, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_made_frame_is_one_that_zstd_reads() {
        let mut header = [7u8; 512];
        header[0] = 1;
        let frame = raw512(&header);
        assert_eq!(zstd::bulk::decompress(&frame, 512).unwrap(), header);
    }

    #[test]
    fn the_table_is_one_that_zeekstd_reads() {
        let table = seek_table([(522u32, 512u32), (100, 131_072)].into_iter());
        let read = zeekstd::SeekTable::from_seekable(&mut zeekstd::BytesWrapper::new(&table)).unwrap();
        assert_eq!(read.num_frames(), 2);
        assert_eq!(read.size_comp(), 622);
        assert_eq!(read.size_decomp(), 131_584);
    }
}
