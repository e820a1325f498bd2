//! Members written to files, and whole archives checked, on all cores.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::frames::{Reader, overlap};
use crate::manifest::{Member, MemberKind};
use crate::progress::Progress;
use crate::source::{Source, Verified};

/// Plain bytes for which a further thread is started.
const THREAD_WORTH: u64 = 256 << 10;

/// A piece of a frame that goes to a file.
struct Piece {
    /// Number of the file.
    file: usize,
    /// Its bytes in the frame.
    within: Range<usize>,
    /// Where they go in the file.
    at: u64,
}

impl Archive {
    /// See [`Source::unpack`]. Each frame is checked before a byte of it is written.
    pub(crate) fn write_members(
        &self,
        want: &dyn Fn(&Member) -> bool,
        place: &mut dyn FnMut(&Member) -> std::io::Result<File>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut files: Vec<(File, String)> = Vec::new();
        let mut pieces: HashMap<usize, Vec<Piece>> = HashMap::new();
        for member in self.members().iter().filter(|member| member.kind == MemberKind::File && want(member)) {
            let file =
                place(member).map_err(|source| Error::io("create", member.name.as_str().as_ref(), source))?;
            for number in self.frames.covering(member.offset, member.size) {
                let frame = self.frames.range(number);
                let within = overlap(&frame, member.offset, member.size);
                let at = frame.start.saturating_sub(member.offset);
                pieces.entry(number).or_default().push(Piece { file: files.len(), within, at });
            }
            files.push((file, member.name.to_string()));
        }
        let frames: Vec<usize> = (0..self.frames.count()).collect();
        self.each_frame(&frames, progress, &|number, plain| {
            for piece in pieces.get(&number).into_iter().flatten() {
                let (file, name) = &files[piece.file];
                file.write_all_at(&plain[piece.within.clone()], piece.at)
                    .map_err(|source| Error::io("write", name.as_ref(), source))?;
            }
            Ok(())
        })
    }

    /// See [`Source::verify`].
    pub(crate) fn verify_all(&self, progress: &dyn Progress) -> Result<Verified> {
        let frames: Vec<usize> = (0..self.frames.count()).collect();
        self.each_frame(&frames, progress, &|_, _| Ok(()))?;
        let mut content = Vec::new();
        self.frames.with_reader(|reader| {
            self.members().iter().try_for_each(|member| self.check_member(member, reader, &mut content))
        })?;
        Ok(self.totals())
    }

    /// Reads `frames` on all cores and hands each to `then`. The first failure stops all.
    fn each_frame(
        &self,
        frames: &[usize],
        progress: &dyn Progress,
        then: &(dyn Fn(usize, &[u8]) -> Result<()> + Sync),
    ) -> Result<()> {
        let size = |number: usize| {
            let range = self.frames.range(number);
            range.end - range.start
        };
        let total: u64 = frames.iter().map(|number| size(*number)).sum();
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        // The lowest frame that failed, so that what is said does not depend on the threads.
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let fail = |number: usize, error: Error| {
            stop.store(true, Ordering::Relaxed);
            let mut slot = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if slot.as_ref().is_none_or(|(lowest, _)| number < *lowest) {
                *slot = Some((number, error));
            }
        };
        let one = |reader: &mut Reader<'_>, number: usize| {
            if progress.cancelled() {
                return Err(Error::Interrupted { path: self.path().to_owned() });
            }
            reader.frame(number).and_then(|plain| then(number, plain))?;
            progress.bytes(done.fetch_add(size(number), Ordering::Relaxed) + size(number), total);
            Ok(())
        };
        let work = || {
            let all = self.frames.with_reader(|reader| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(&number) = frames.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    if let Err(error) = one(reader, number) {
                        fail(number, error);
                    }
                }
                Ok(())
            });
            // Without a context for zstd there is nothing that it can do.
            all.unwrap_or_else(|error| fail(0, error));
        };
        // A thread costs as much as some frames do.
        let worth = usize::try_from(total / THREAD_WORTH).unwrap_or(usize::MAX).min(frames.len()).max(1);
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(worth);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}
