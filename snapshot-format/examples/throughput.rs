//! How fast an archive is written and read: the figures of `docs/decisions/0004-frame-size.md`.
//!
//! ```text
//! cargo run --release -p floe-snapshot-format --example throughput -- FOLDER [MIB [LEVEL [GRAIN [FRAME-KIB…]]]]
//! ```
//!
//! Runs of GRAIN pages (256) are random by turns, the others hold small counters as a heap does. Pages come from memory,
//! as they come from a socket in a dump. Times of the processor are those of all threads.

use std::path::Path;
use std::time::{Duration, Instant};

use floe_snapshot_format::{
    Archive, ArchiveFile, FORMAT_VERSION, Head, Manifest, MemberName, Sink, Source, Tool, Unheard,
    WriterOptions,
};

type Failure = Box<dyn std::error::Error>;

const PAGE: usize = 4096;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder is the archive to be written in?")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let mib = number(1024)?;
    let level = i32::try_from(number(1)?)?;
    let grain = number(256)?;
    let mut sizes: Vec<usize> = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    if sizes.is_empty() {
        sizes = vec![64, 128, 256];
    }
    let source = half_random(mib << 20, grain);
    println!(
        "frame KiB  pushed MB/s  synced MB/s  cpu s  packed %  frames  spool MiB  verify MB/s  cpu s  page µs (p50, p99)"
    );
    for kib in sizes {
        measure(Path::new(&folder), &source, level, kib << 10)?;
    }
    Ok(())
}

fn half_random(size: usize, grain: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(size);
    for page in 0..size / PAGE {
        for word in 0..PAGE as u64 / 8 {
            let value =
                if (page / grain).is_multiple_of(2) { random() } else { ((page as u64) << 8) | (word % 7) };
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

fn measure(folder: &Path, source: &[u8], level: i32, frame_size: usize) -> Result<(), Failure> {
    let path = folder.join("throughput.tar.zst");
    let member = MemberName::new("checkpoint/pages-1.img")?;
    let options = WriterOptions { level, frame_size, spool_budget: 4 << 30, ..WriterOptions::default() };
    let (began, cpu) = (Instant::now(), processor_time()?);
    let mut archive = ArchiveFile::create(&path, &head(), options)?;
    archive.begin(&member, 0o600)?;
    archive.append(source)?;
    archive.end()?;
    let pushed = began.elapsed();
    let sealed = archive.complete(manifest())?.publish()?;
    let (synced, cpu_write) = (began.elapsed(), processor_time()? - cpu);

    let opened = Archive::open(&path)?;
    let (began, cpu) = (Instant::now(), processor_time()?);
    opened.verify(&Unheard)?;
    let (verified, cpu_verify) = (began.elapsed(), processor_time()? - cpu);
    let (median, slowest) = single_pages(&opened, &member)?;
    println!(
        "{:9}  {:11.0}  {:11.0}  {cpu_write:5.2}  {:8.1}  {:6}  {:9}  {:11.0}  {cpu_verify:5.2}  {median:.0}, {slowest:.0}",
        frame_size >> 10,
        speed(source.len(), pushed),
        speed(source.len(), synced),
        sealed.bytes as f64 * 100.0 / sealed.plain_bytes as f64,
        sealed.frames,
        sealed.spool_peak >> 20,
        speed(source.len(), verified),
    );
    std::fs::remove_file(&path)?;
    Ok(())
}

/// Microseconds to read one page somewhere: half of them took no longer, and 99 of 100.
fn single_pages(archive: &Archive, name: &MemberName) -> Result<(f64, f64), Failure> {
    let member = archive.member(name)?;
    let pages = member.size / PAGE as u64;
    let mut page = [0u8; PAGE];
    let mut times = Vec::new();
    for round in 0..2000u64 {
        let at = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % pages * PAGE as u64;
        let began = Instant::now();
        archive.read_at(member, at, &mut page)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Ok((micros(times[times.len() / 2]), micros(times[times.len() * 99 / 100])))
}

/// Seconds of user and system time of this process so far (proc_pid_stat(5), in ticks of 10 ms).
fn processor_time() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = text.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).map_or(Ok(0), |field| field.parse::<u64>());
    Ok((ticks(11)? + ticks(12)?) as f64 / 100.0)
}

fn speed(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

fn head() -> Head {
    Head {
        format: FORMAT_VERSION,
        kind: "floe-archive".to_owned(),
        snapshot: "00112233445566778899aabbccddeeff".to_owned(),
        container: "throughput".to_owned(),
        created: "2026-11-24T00:00:00Z".to_owned(),
        tool: Tool { name: "floe".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        extra: serde_json::Map::new(),
    }
}

fn manifest() -> Manifest {
    let Head { format, snapshot, created, tool, .. } = head();
    Manifest { format, snapshot, created, tool, ..Manifest::default() }
}
