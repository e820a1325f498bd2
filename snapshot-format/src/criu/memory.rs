//! `mm-P.img`: the memory areas of a task.

use super::framing::{COMMON, MM, messages, parse};
use super::images::{Mm_entry, Vma_entry};
use super::pagemap::Run;
use crate::error::{Error, Result};
use crate::limits;
use crate::manifest::{Area, AreaKind};

/// Bits of an area's status (criu/include/image.h).
mod status {
    pub(super) const STACK: u32 = 1 << 1;
    pub(super) const VSYSCALL: u32 = 1 << 2;
    pub(super) const VDSO: u32 = 1 << 3;
    pub(super) const HEAP: u32 = 1 << 5;
    pub(super) const FILE_PRIVATE: u32 = 1 << 6;
    pub(super) const FILE_SHARED: u32 = 1 << 7;
    pub(super) const ANONYMOUS_SHARED: u32 = 1 << 8;
    pub(super) const SYSV: u32 = 1 << 10;
    pub(super) const VVAR: u32 = 1 << 12;
    pub(super) const MEMFD: u32 = 1 << 14;
}

/// Bytes of a page in CRIU's images of x86-64.
const PAGE: u64 = 4096;

/// The flag of a run whose pages are in the page image.
const PRESENT: u32 = 4;

/// The areas in the image `name`, in the order of their addresses, each with the pages that `runs` holds of it.
///
/// # Errors
/// [`crate::Error::BadImage`], [`Error::Limit`].
pub fn areas(name: &str, bytes: &[u8], runs: &[Run]) -> Result<Vec<Area>> {
    let Some(message) = messages(name, bytes, COMMON, MM)?.first().copied() else { return Ok(Vec::new()) };
    let entry: Mm_entry = parse(name, message)?;
    if entry.vmas.len() > limits::AREAS {
        return Err(Error::Limit {
            what: "the number of memory areas of a task",
            limit: limits::AREAS as u64,
        });
    }
    let mut places = Places { runs, next: 0, passed: 0, at: 0 };
    Ok(entry.vmas.iter().map(|area| describe(area, &mut places)).collect())
}

fn describe(entry: &Vma_entry, places: &mut Places<'_>) -> Area {
    let status = entry.status();
    let is = |bit: u32| status & bit != 0;
    let kind = match () {
        () if is(status::VDSO | status::VVAR | status::VSYSCALL) => AreaKind::Kernel,
        () if is(status::MEMFD) => AreaKind::Memfd,
        () if is(status::SYSV) => AreaKind::Sysv,
        () if is(status::FILE_PRIVATE | status::FILE_SHARED) => AreaKind::File,
        () if is(status::ANONYMOUS_SHARED) => AreaKind::Shared,
        () if is(status::STACK) => AreaKind::Stack,
        () if is(status::HEAP) => AreaKind::Heap,
        () => AreaKind::Anonymous,
    };
    let (at, pages) = places.of(entry.start(), entry.end());
    Area {
        start: entry.start(),
        end: entry.end(),
        protection: protection(entry.prot(), entry.flags()),
        kind,
        // For areas of files the field holds the file's number.
        file: matches!(kind, AreaKind::File | AreaKind::Memfd)
            .then(|| u32::try_from(entry.shmid()).ok())
            .flatten(),
        pages,
        at,
    }
}

/// As `/proc/PID/maps` shows it (proc_pid_maps(5)); bits of mmap(2).
fn protection(prot: u32, flags: u32) -> String {
    const SHARED: u32 = 1;
    let letter = |set: bool, letter: char| if set { letter } else { '-' };
    let shared = if flags & 3 == SHARED { 's' } else { 'p' };
    [letter(prot & 1 != 0, 'r'), letter(prot & 2 != 0, 'w'), letter(prot & 4 != 0, 'x'), shared]
        .into_iter()
        .collect()
}

/// Where pages lie in the page image: one behind the other, in the order of the runs.
struct Places<'a> {
    runs: &'a [Run],
    /// The run that is next, and how many of its pages are behind us: a run may reach over several areas.
    next: usize,
    passed: u64,
    at: u64,
}

impl Places<'_> {
    /// Where the pages from `start` to `end` begin, and how many there are. Asked in the order of addresses.
    fn of(&mut self, start: u64, end: u64) -> (u64, u64) {
        let mut pages = 0;
        let mut first = None;
        while let Some(run) = self.runs.get(self.next) {
            let from = run.vaddr.saturating_add(self.passed.saturating_mul(PAGE));
            if from >= end {
                break;
            }
            let stop = run.vaddr.saturating_add(run.pages.saturating_mul(PAGE)).min(end);
            let passed = (stop - from).div_ceil(PAGE);
            let present = if run.flags & PRESENT != 0 { passed } else { 0 };
            if from >= start && present > 0 {
                first.get_or_insert(self.at);
                pages += present;
            }
            self.at = self.at.saturating_add(present.saturating_mul(PAGE));
            self.passed += passed;
            if self.passed >= run.pages || passed == 0 {
                (self.next, self.passed) = (self.next + 1, 0);
            }
        }
        (first.unwrap_or(self.at), pages)
    }
}

#[cfg(test)]
mod tests {
    use super::super::framing::Image;
    use super::*;

    fn area(start: u64, end: u64, status: u32, file: u64) -> Vma_entry {
        let mut entry = Vma_entry::new();
        entry.set_start(start);
        entry.set_end(end);
        entry.set_status(status);
        entry.set_shmid(file);
        entry.set_prot(5);
        entry.set_flags(2);
        entry
    }

    #[test]
    fn areas_say_where_their_pages_lie() {
        let mut entry = Mm_entry::new();
        entry.vmas = vec![
            area(0x1000, 0x4000, status::FILE_PRIVATE, 7),
            area(0x10_000, 0x20_000, status::HEAP, 0),
            area(0x20_000, 0x30_000, 0, 0),
            area(0x7f00_0000, 0x7f01_0000, status::STACK, 0),
        ];
        let mut image = Image::new(COMMON, MM);
        image.message("mm-1.img", &entry).unwrap();
        let run = |vaddr, pages, flags| Run { vaddr, pages, flags };
        let runs = [run(0x2000, 1, 4), run(0x10_000, 2, 6), run(0x1f_000, 3, 6), run(0x7f00_8000, 8, 1)];
        let found = areas("mm-1.img", &image.finish(), &runs).unwrap();
        let brief: Vec<_> = found.iter().map(|area| (area.kind, area.file, area.pages, area.at)).collect();
        assert_eq!(
            brief,
            [
                (AreaKind::File, Some(7), 1, 0),
                (AreaKind::Heap, None, 3, 4096),
                // The last run reaches into it.
                (AreaKind::Anonymous, None, 2, 4 * 4096),
                (AreaKind::Stack, None, 0, 6 * 4096)
            ]
        );
        assert_eq!(found[0].protection, "r-xp");
    }
}
