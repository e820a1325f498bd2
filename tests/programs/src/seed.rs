//! Content that can be made again at any time from a label: nothing has to be remembered to check it.

/// Steps a SplitMix64 generator: small, and every seed gives a full-period stream.
fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// One number for a label, the same in every process and every run.
#[must_use]
pub fn number(label: &str, round: u32) -> u64 {
    let mut state = u64::from(round);
    for byte in label.bytes() {
        state = state.rotate_left(8) ^ u64::from(byte);
        step(&mut state);
    }
    step(&mut state)
}

/// Fills a buffer with the bytes that belong to a label and a round; they do not compress.
pub fn fill(label: &str, round: u32, buffer: &mut [u8]) {
    let mut state = number(label, round);
    for chunk in buffer.chunks_mut(8) {
        let word = step(&mut state).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// Fills a buffer with words that belong to a label and a round: like what programs keep, it packs to about a third.
pub fn fill_words(label: &str, round: u32, buffer: &mut [u8]) {
    const WORDS: [&str; 16] = [
        "container",
        "freeze",
        "thaw",
        "page",
        "socket",
        "restore",
        "archive",
        "frame",
        "process",
        "thread",
        "namespace",
        "mount",
        "cgroup",
        "signal",
        "timer",
        "pipe",
    ];
    let mut state = number(label, round);
    let mut rest = buffer;
    while !rest.is_empty() {
        let random = step(&mut state);
        let line = format!("{}={:x};", WORDS[(random % 16) as usize], random >> 52);
        let (start, next) = rest.split_at_mut(line.len().min(rest.len()));
        start.copy_from_slice(&line.as_bytes()[..start.len()]);
        rest = next;
    }
}

/// `length` bytes that belong to a label and a round.
#[must_use]
pub fn bytes(label: &str, round: u32, length: usize) -> Vec<u8> {
    let mut content = vec![0; length];
    fill(label, round, &mut content);
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_depends_on_label_round_and_nothing_else() {
        assert_eq!(bytes("pipe 3", 1, 21), bytes("pipe 3", 1, 21));
        assert_ne!(bytes("pipe 3", 1, 21), bytes("pipe 3", 2, 21));
        assert_ne!(bytes("pipe 3", 1, 21), bytes("pipe 4", 1, 21));
        assert_eq!(bytes("pipe 3", 1, 21)[..16], bytes("pipe 3", 1, 16)[..]);
    }
}
