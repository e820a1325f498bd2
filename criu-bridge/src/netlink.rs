//! The form of answers from the kernel over netlink(7): messages, each with attributes behind a fixed part.

/// Length of `struct nlmsghdr` in bytes (`<linux/netlink.h>`).
pub(crate) const HEADER: usize = 16;

/// Asks for something.
pub(crate) const REQUEST: u16 = 1;
/// Wants an answer in any case.
pub(crate) const ACK: u16 = 4;
/// Wants all that there is.
pub(crate) const DUMP: u16 = 0x300;

/// An errno, 0 for none.
pub(crate) const ERROR: u16 = 2;
/// The end of all that there is.
pub(crate) const DONE: u16 = 3;

/// Types and bodies of the messages in a packet. One that is cut off is left out.
pub(crate) fn messages(packet: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = packet;
    while let (Some(length), Some(kind)) = (word(rest, 0), half(rest, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = rest.get(HEADER..length) else { break };
        found.push((kind, body));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Types and values of attributes. One that is cut off is left out.
pub(crate) fn attributes(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        found.push((kind, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// 32 bits at a place.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_left_out() {
        let attribute = [6, 0, 7, 0, b'a', b'b', 0, 0];
        let mut packet = 24_u32.to_ne_bytes().to_vec();
        packet.extend(9_u16.to_ne_bytes());
        packet.extend([0; 10]);
        packet.extend(attribute);
        let two = [&packet[..], &packet].concat();
        assert_eq!(messages(&two), [(9, &attribute[..]), (9, &attribute)]);
        assert_eq!(attributes(&attribute), [(7, &b"ab"[..])]);
        for length in 0..packet.len() {
            assert!(messages(&packet[..length]).is_empty());
        }
        for length in 0..6 {
            assert!(attributes(&attribute[..length]).is_empty());
        }
        // Shorter than its own head.
        packet[0] = 3;
        assert!(messages(&packet).is_empty());
    }
}
