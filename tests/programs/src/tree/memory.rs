//! Memory: private, shared, of files, of files that exist in memory only; with holes, locked, out of reach.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};

use super::fabric::{AREA, AREAS, Fabric, MEMORY_FILE, MEMORY_FILES};
use super::{Node, Part};
use crate::report::Report;
use crate::seed;
use crate::sys::{self, Mapping};

const PAGE: usize = 4096;
/// Private memory of most nodes, and of every ninth.
const PRIVATE: [usize; 2] = [96 * 1024, 2 * 1024 * 1024];
/// Pages of a file mapping.
const FILE_PAGES: usize = 8;

/// Maps what belongs to a node.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, fabric: &Fabric, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let index = node.index;
    let length = PRIVATE[usize::from(index.is_multiple_of(9))];
    parts.push(Box::new(Area {
        memory: Mapping::private(length)?,
        label: format!("private {index}"),
        writes: true,
    }));
    for area in 0..AREAS {
        if index % AREAS == area || index == area {
            let memory = fabric.areas[area];
            parts.push(Box::new(Area { memory, label: format!("area {area}"), writes: index == area }));
        }
    }
    if index % 16 < MEMORY_FILES {
        let (file, memory) = &fabric.memory_files[index % 16];
        parts.push(Box::new(MemoryFile {
            area: Area {
                memory: *memory,
                label: format!("memory file {}", index % 16),
                writes: index < MEMORY_FILES,
            },
            file: file.try_clone()?,
            sealed: index % 2 == 1,
        }));
    }
    match index % 5 {
        0 => parts.push(Box::new(OfFile::new(node, false)?)),
        1 => parts.push(Box::new(OfFile::new(node, true)?)),
        2 => parts.push(Box::new(Holes::new()?)),
        3 => {
            sys::reserve(64 * PAGE)?;
            let locked = Mapping::private(2 * PAGE)?;
            locked.lock().context("mlock")?;
            parts.push(Box::new(Area { memory: locked, label: format!("locked {index}"), writes: true }));
        }
        _ => {
            let own = Mapping::private(3 * PAGE)?;
            own.keep_from_children()?;
            parts.push(Box::new(Area { memory: own, label: format!("own {index}"), writes: true }));
        }
    }
    Ok(())
}

fn write(memory: &[AtomicU8], content: &[u8]) {
    memory.iter().zip(content).for_each(|(place, byte)| place.store(*byte, Relaxed));
}

fn read(memory: &[AtomicU8]) -> Vec<u8> {
    memory.iter().map(|byte| byte.load(Relaxed)).collect()
}

/// An area that is written from end to end by one node, and read by others where it is shared.
struct Area {
    memory: Mapping,
    label: String,
    writes: bool,
}

impl Part for Area {
    fn look(&mut self, round: u32, report: &mut Report) {
        let found = read(self.memory.bytes());
        report.content(&self.label, &seed::bytes(&self.label, round, found.len()), &found);
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        if self.writes {
            let memory = self.memory.bytes();
            write(memory, &seed::bytes(&self.label, round, memory.len()));
        }
        Ok(())
    }
}

/// A file in memory: the same bytes by its descriptor as by its mapping, and its seals.
struct MemoryFile {
    area: Area,
    file: File,
    sealed: bool,
}

impl Part for MemoryFile {
    fn look(&mut self, round: u32, report: &mut Report) {
        self.area.look(round, report);
        let mut found = vec![0; MEMORY_FILE];
        if report
            .works("read a memory file", std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut found, 0))
            .is_some()
        {
            report.content(
                "memory file by descriptor",
                &seed::bytes(&self.area.label, round, MEMORY_FILE),
                &found,
            );
        }
        if let Some(seals) = report.works("seals", fcntl(&self.file, FcntlArg::F_GET_SEALS)) {
            let expected =
                if self.sealed { SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW } else { SealFlag::empty() };
            report.same("seals", &expected, &SealFlag::from_bits_retain(seals));
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        self.area.refill(round)
    }
}

/// A mapping of a file on disk. The file itself is not part of a snapshot and never changes; where the mapping is
/// private, two of its pages do.
struct OfFile {
    memory: Mapping,
    label: String,
    content: Vec<u8>,
    shared: bool,
}

impl OfFile {
    fn new(node: &Node, shared: bool) -> Result<Self> {
        let label = format!("mapped-{}", node.index);
        let path = node.settings.folder.join(&label);
        let content = seed::bytes(&label, 0, FILE_PAGES * PAGE);
        std::fs::write(&path, &content)?;
        let file = super::files::open(&path, OFlag::O_RDWR)?;
        let memory = if shared {
            Mapping::shared_file(file.as_fd(), content.len())?
        } else {
            Mapping::private_file(file.as_fd(), content.len())?
        };
        Ok(Self { memory, label, content, shared })
    }

    fn changed(round: u32, content: &mut [u8]) {
        seed::fill("changed page", round, &mut content[2 * PAGE..3 * PAGE]);
        // A page of zeros over a file must not turn into the file's page again.
        content[5 * PAGE..6 * PAGE].fill(0);
    }
}

impl Part for OfFile {
    fn look(&mut self, round: u32, report: &mut Report) {
        let mut expected = self.content.clone();
        if !self.shared {
            Self::changed(round, &mut expected);
        }
        report.content(&self.label, &expected, &read(self.memory.bytes()));
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        let mut content = self.content.clone();
        if !self.shared {
            Self::changed(round, &mut content);
        }
        write(&self.memory.bytes()[2 * PAGE..6 * PAGE], &content[2 * PAGE..6 * PAGE]);
        Ok(())
    }
}

/// An area of which only some pages were ever touched, one of them with zeros.
struct Holes {
    memory: Mapping,
}

impl Holes {
    const PAGES: usize = 64;

    fn new() -> Result<Self> {
        Ok(Self { memory: Mapping::private(Self::PAGES * PAGE)? })
    }

    fn content(round: u32) -> Vec<u8> {
        let mut content = vec![0; Self::PAGES * PAGE];
        for page in [0, 5, 6, 63] {
            seed::fill("hole", round + page as u32, &mut content[page * PAGE..][..PAGE]);
        }
        content
    }
}

impl Part for Holes {
    fn look(&mut self, round: u32, report: &mut Report) {
        report.content("memory with holes", &Self::content(round), &read(self.memory.bytes()));
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        let content = Self::content(round);
        for page in [0, 5, 6, 40, 63] {
            write(&self.memory.bytes()[page * PAGE..][..PAGE], &content[page * PAGE..][..PAGE]);
        }
        Ok(())
    }
}

const _: () = assert!(AREA.is_multiple_of(PAGE) && MEMORY_FILE.is_multiple_of(PAGE));
