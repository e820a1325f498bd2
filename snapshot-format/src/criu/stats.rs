//! `stats-dump` and `stats-restore`: the figures of CRIU's own work.

use super::framing::{Image, SERVICE, STATS, messages, parse};
use super::images::{Dump_stats_entry, Stats_entry};
use crate::error::Result;
use crate::manifest::Stats;

const NAME: &str = "stats-dump";

/// Reads the figures of a dump; `None` if the image is of a restore.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn decode(image: &[u8]) -> Result<Option<Stats>> {
    let Some(message) = messages(NAME, image, SERVICE, STATS)?.first().copied() else { return Ok(None) };
    let entry: Stats_entry = parse(NAME, message)?;
    Ok(entry.dump.as_ref().map(|dump| Stats {
        freezing_us: u64::from(dump.freezing_time()),
        frozen_us: u64::from(dump.frozen_time()),
        memdump_us: u64::from(dump.memdump_time()),
        memwrite_us: u64::from(dump.memwrite_time()),
        pages_scanned: dump.pages_scanned(),
        pages_written: dump.pages_written(),
    }))
}

/// Writes figures of a dump, for an archive that is sealed before CRIU writes its own.
///
/// # Errors
/// [`crate::Error::BadImage`]; does not happen.
pub fn encode(stats: &Stats) -> Result<Vec<u8>> {
    let micros = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut dump = Dump_stats_entry::new();
    dump.set_freezing_time(micros(stats.freezing_us));
    dump.set_frozen_time(micros(stats.frozen_us));
    dump.set_memdump_time(micros(stats.memdump_us));
    dump.set_memwrite_time(micros(stats.memwrite_us));
    dump.set_pages_scanned(stats.pages_scanned);
    dump.set_pages_skipped_parent(0);
    dump.set_pages_written(stats.pages_written);
    dump.set_irmap_resolve(0);
    dump.set_pages_lazy(0);
    let mut entry = Stats_entry::new();
    entry.dump = protobuf::MessageField::some(dump);
    let mut image = Image::new(SERVICE, STATS);
    image.message(NAME, &entry)?;
    Ok(image.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_back() {
        let stats = Stats { frozen_us: 1234, pages_written: 9, ..Stats::default() };
        assert_eq!(decode(&encode(&stats).unwrap()).unwrap(), Some(stats));
    }
}
