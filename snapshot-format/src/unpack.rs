//! Members written to files, and whole archives checked, on all cores.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::archive::{Archive, FrameReader, Verified};
use crate::error::{Error, Part, Result};
use crate::manifest::{Member, MemberKind};
use crate::sink::Progress;
use crate::tarball;

/// A piece of a frame that goes to a file.
struct Piece {
    file: usize,
    from: usize,
    to: usize,
    at: u64,
}

impl Archive {
    /// Writes the members that `want` names to the files that `place` makes for them. Each frame is checked before
    /// a byte of it is written; on failure files are left half filled.
    ///
    /// The frames of everything else are checked too: whoever starts a container from an archive that is damaged in
    /// its configuration or a member's name should hear of it then.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Interrupted`], [`Error::Io`].
    pub fn unpack(
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
            for number in self.frames_of(member) {
                let (from, to) = self.overlap(number, member);
                let at = (self.start(number) + from as u64).saturating_sub(member.offset);
                pieces.entry(number).or_default().push(Piece { file: files.len(), from, to, at });
            }
            files.push((file, member.name.to_string()));
        }
        let frames: Vec<usize> = (0..self.frame_count()).collect();
        self.each_frame(&frames, progress, &|number, plain| {
            for piece in pieces.get(&number).into_iter().flatten() {
                let (file, name) = &files[piece.file];
                file.write_all_at(&plain[piece.from..piece.to], piece.at)
                    .map_err(|source| Error::io("write", name.as_ref(), source))?;
            }
            Ok(())
        })
    }

    /// Reads every frame, compares every digest, and checks that the tar headers say what the manifest says.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the first place that is wrong; [`Error::Interrupted`], [`Error::Io`].
    pub fn verify(&self, progress: &dyn Progress) -> Result<Verified> {
        let frames: Vec<usize> = (0..self.frame_count()).collect();
        self.each_frame(&frames, progress, &|_, _| Ok(()))?;
        self.check_headers()?;
        for member in
            self.members().iter().filter(|member| member.kind == MemberKind::File && !member.of_frames)
        {
            if member.name.as_str() != crate::INDEX_NAME {
                self.read(&member.name)?;
            }
        }
        Ok(Verified {
            members: self.members().len() as u64 + 1,
            frames: self.frame_count() as u64,
            bytes: self.file_size()?,
            plain_bytes: self.plain_total(),
        })
    }

    /// What a plain tar reader sees must be what the manifest says.
    fn check_headers(&self) -> Result<()> {
        let mut header = [0u8; 512];
        for member in self.members().iter().filter(|member| member.name.as_str() != crate::INDEX_NAME) {
            let expected = tarball::header(&member.name, member.kind, member.mode, member.size)?;
            let place = Member { offset: member.offset.saturating_sub(512), size: 512, ..member.clone() };
            self.read_at(&place, 0, &mut header)?;
            if header != expected {
                let part = Part::Member(member.name.to_string());
                return Err(self.damaged(
                    0,
                    part,
                    "its tar header is another than the manifest says".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Reads `frames` on all cores and hands each to `then`. The first failure stops all.
    fn each_frame(
        &self,
        frames: &[usize],
        progress: &dyn Progress,
        then: &(dyn Fn(usize, &[u8]) -> Result<()> + Sync),
    ) -> Result<()> {
        let total: u64 = frames.iter().map(|number| self.plain_size(*number)).sum();
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
        let work = || {
            let mut reader = match FrameReader::new(self) {
                Ok(reader) => reader,
                Err(error) => return fail(0, error),
            };
            while !stop.load(Ordering::Relaxed) {
                let Some(&number) = frames.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if progress.cancelled() {
                    return fail(number, Error::Interrupted { path: self.path.clone() });
                }
                if let Err(error) = reader.read(number).and_then(|plain| then(number, plain)) {
                    return fail(number, error);
                }
                let size = self.plain_size(number);
                progress.bytes(done.fetch_add(size, Ordering::Relaxed) + size, total);
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(frames.len().max(1));
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
