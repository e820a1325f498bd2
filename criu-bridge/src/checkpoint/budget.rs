//! How much memory pages may take that wait to be compressed.

/// Bytes that keep every thread busy where nobody waits for the container.
const MODEST: u64 = 256 << 20;

/// Bytes below which there is nothing to be saved.
const LEAST: u64 = 32 << 20;

/// The budget for a container with about `memory` bytes.
///
/// One that goes on afterwards stands still until all its pages are read: they may take half of what the host has to
/// give, and never as much as the container has itself, for some of them are compressed by then. One that ends stands
/// still until the archive is complete, however much of it waits in memory.
pub(crate) fn of(leave_running: bool, memory: u64) -> u64 {
    if leave_running { running(memory, available()) } else { MODEST }
}

fn running(memory: u64, available: Option<u64>) -> u64 {
    let most = available.map_or(MODEST, |available| available / 2);
    (memory / 8 * 7).clamp(LEAST, most.max(LEAST))
}

/// `MemAvailable` of proc_meminfo(5), in bytes.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_less_than_the_container_and_half_of_the_host() {
        assert_eq!(running(8 << 30, Some(64 << 30)), 7 << 30);
        assert_eq!(running(8 << 30, Some(4 << 30)), 2 << 30);
        assert_eq!(running(8 << 30, None), MODEST);
        assert_eq!(running(1 << 20, Some(64 << 30)), LEAST);
        assert_eq!(running(1 << 20, Some(1 << 20)), LEAST);
    }

    #[test]
    fn this_host_says_what_it_has() {
        assert!(available().unwrap() > LEAST);
    }
}
