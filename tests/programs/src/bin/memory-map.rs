//! An amount of memory whose content and map stay as they are, and a heartbeat.
//!
//! `memory-map --dir DIR [--mib N] [--random PERCENT] [--words PERCENT] [--beat MS]`: `DIR` is a folder that it may fill. Each answer
//! is `ok …`, or what has changed since it was ready. The heartbeat is a counter of eight bytes in `DIR/beat`: where
//! it goes on, the process runs; it is one file that stays open, written in place.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use floe_test_programs::door::Door;
use floe_test_programs::portrait::MemoryMap;
use floe_test_programs::report::Report;
use floe_test_programs::seed;
use floe_test_programs::sys::Mapping;

const MIB: usize = 1024 * 1024;

struct Settings {
    folder: PathBuf,
    mib: usize,
    random: usize,
    words: usize,
    beat: Duration,
}

fn main() -> Result<()> {
    let settings = settings(std::env::args().skip(1))?;
    let door = Door::new(settings.folder.clone());
    let beat = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(settings.folder.join("beat"))
        .context("open the heartbeat's file")?;
    let memory = Memory::new(&settings)?;
    // Everything below allocates once, so that it does not change the map when it comes again.
    let mut content = vec![0; MIB];
    memory.compare(&mut content, &mut Report::default());
    let mut map = MemoryMap::new();
    map.record()?;
    map.compare(&mut Report::default())?;
    map.record()?;
    door.ready("ok\n")?;
    let mut beats = 0;
    loop {
        let question = beat_until_asked(&door, &beat, settings.beat, &mut beats)?;
        let mut report = Report::default();
        map.compare(&mut report)?;
        memory.compare(&mut content, &mut report);
        let text = match report.failed {
            0 => format!("ok {} checks\n", report.checks),
            failed => {
                format!("{failed} of {} checks failed\n{}\n", report.checks, report.differences.join("\n"))
            }
        };
        door.answer(&question, &text)?;
    }
}

/// Areas of a MiB, some with content that does not compress, some with words, the others never touched.
struct Memory {
    areas: Vec<Mapping>,
    random: usize,
    words: usize,
}

impl Memory {
    fn new(settings: &Settings) -> Result<Self> {
        let areas = (0..settings.mib).map(|_| Ok(Mapping::private(MIB)?)).collect::<Result<Vec<_>>>()?;
        let memory = Self { areas, random: settings.random, words: settings.words };
        let mut content = vec![0; MIB];
        for (number, area) in memory.areas.iter().enumerate() {
            if !memory.expected(number, &mut content) {
                continue;
            }
            area.bytes().iter().zip(&content).for_each(|(place, byte)| place.store(*byte, Relaxed));
        }
        Ok(memory)
    }

    /// What an area holds, and whether anything was written to it. A pattern of a hundred areas, so that contents and
    /// holes are mixed.
    fn expected(&self, number: usize, content: &mut [u8]) -> bool {
        let place = number * 37 % 100;
        if place < self.random {
            seed::fill("memory", number as u32, content);
        } else if place < self.random + self.words {
            seed::fill_words("memory", number as u32, content);
        } else {
            content.fill(0);
            return false;
        }
        true
    }

    fn compare(&self, content: &mut [u8], report: &mut Report) {
        for (number, area) in self.areas.iter().enumerate() {
            self.expected(number, content);
            let same = area.bytes().iter().zip(&*content).all(|(place, byte)| place.load(Relaxed) == *byte);
            report.holds(format_args!("area {number} has changed"), same);
        }
    }
}

/// Counts in the file until there is a question.
fn beat_until_asked(
    door: &Door,
    file: &File,
    every: Duration,
    beats: &mut u64,
) -> Result<floe_test_programs::door::Question> {
    let mut next = Instant::now();
    loop {
        if let Some(question) = door.question()? {
            return Ok(question);
        }
        if Instant::now() >= next {
            *beats += 1;
            file.write_all_at(&beats.to_le_bytes(), 0).context("write the heartbeat")?;
            next = Instant::now() + every;
        }
        std::thread::sleep(every.min(floe_test_programs::door::PATIENCE));
    }
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings> {
    let mut folder = None;
    let (mut mib, mut random, mut words, mut beat) = (16, 50, 0, 20);
    while let Some(word) = arguments.next() {
        let value = arguments.next().with_context(|| format!("flag needs an argument: {word}"))?;
        match word.as_str() {
            "--dir" => folder = Some(PathBuf::from(value)),
            "--mib" => mib = value.parse().context("--mib")?,
            "--random" => random = value.parse().context("--random")?,
            "--words" => words = value.parse().context("--words")?,
            "--beat" => beat = value.parse().context("--beat")?,
            other => bail!("unknown argument {other}"),
        }
    }
    let folder = folder.context("--dir is missing")?;
    Ok(Settings { folder, mib, random, words, beat: Duration::from_millis(beat) })
}
