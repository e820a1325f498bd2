//! The folder as a sink.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::staging::{Staging, sync};
use super::writer::Writer;
use super::{OWN, place_of};
use crate::MANIFEST_NAME;
use crate::archive_file::{Sealed, WriterOptions};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, Member, MemberKind};
use crate::name::MemberName;
use crate::roster::Roster;
use crate::sink::{self, Sink};
use crate::slab::Slab;

/// Threads that sync: the file system writes its journal once for all that wait.
const SYNCING: usize = 8;

/// A folder of images that is being written. Dropped, nothing of it is left.
#[derive(Debug)]
pub(crate) struct DirectorySink {
    staging: Staging,
    writer: Writer,
    roster: Roster,
    /// Numbers of the members that grew, in order.
    grown: Vec<usize>,
    open: bool,
    slab: Option<Slab>,
}

impl DirectorySink {
    pub(crate) fn new(staging: Staging, options: WriterOptions) -> Result<Self> {
        let writer = Writer::start(options.spool_budget, staging.target())?;
        let roster = Roster::new(&[MANIFEST_NAME], "it is taken in this folder")?;
        Ok(Self { staging, writer, roster, grown: Vec::new(), open: false, slab: None })
    }

    fn enter(
        &mut self,
        name: &MemberName,
        kind: MemberKind,
        mode: u32,
        size: u64,
        digest: String,
    ) -> Result<usize> {
        let member = Member { name: name.clone(), kind, mode, offset: 0, size, digest, of_frames: false };
        self.roster.enter(member, self.open)
    }

    /// The path as it will be, for messages, and the file.
    fn create(&self, name: &MemberName, mode: u32) -> Result<(PathBuf, File)> {
        create(&self.staging, &place_of(name.as_str()), mode)
    }

    fn hand_over(&mut self) -> Result<()> {
        self.slab.take().map_or(Ok(()), |slab| self.writer.bytes(slab))
    }
}

fn create(staging: &Staging, place: &Path, mode: u32) -> Result<(PathBuf, File)> {
    let (path, shown) = (staging.folder().join(place), staging.target().join(place));
    let make = || {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(mode & 0o777).open(&path)
    };
    match make() {
        Ok(file) => Ok((shown, file)),
        Err(source) => Err(Error::io("create", &shown, source)),
    }
}

impl Sink for DirectorySink {
    fn reserve(&self, bytes: u64, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        self.writer.reserve(bytes, cancelled)
    }

    fn add(&mut self, name: &MemberName, mode: u32, content: &[u8]) -> Result<()> {
        let digest = blake3::hash(content).to_hex().to_string();
        self.enter(name, MemberKind::File, mode, content.len() as u64, digest)?;
        let (path, mut file) = self.create(name, mode)?;
        file.write_all(content).map_err(|source| Error::io("write", &path, source))
    }

    fn add_directory(&mut self, name: &MemberName, mode: u32) -> Result<()> {
        self.enter(name, MemberKind::Directory, mode, 0, String::new())?;
        let path = self.staging.folder().join(place_of(name.as_str()));
        let made = fs::DirBuilder::new().recursive(true).mode(mode & 0o777).create(&path);
        made.map_err(|source| Error::io("create", &path, source))
    }

    fn begin(&mut self, name: &MemberName, mode: u32) -> Result<()> {
        let number = self.enter(name, MemberKind::File, mode, 0, String::new())?;
        let (path, file) = self.create(name, mode)?;
        self.writer.begin(file, path)?;
        self.grown.push(number);
        self.open = true;
        Ok(())
    }

    fn room(&mut self) -> Result<&mut [u8]> {
        if !self.open {
            return Err(Error::Misuse { what: "give room while no member is open" });
        }
        if self.slab.as_mut().is_some_and(|slab| slab.room().is_empty()) {
            self.hand_over()?;
        }
        if self.slab.is_none() {
            self.slab = Some(self.writer.slab()?);
        }
        self.slab.as_mut().map(Slab::room).ok_or(Error::Misuse { what: "give room that it does not have" })
    }

    fn advance(&mut self, count: usize) -> Result<()> {
        let (true, Some(slab)) = (self.open, &mut self.slab) else {
            return Err(Error::Misuse { what: "take bytes while no member is open" });
        };
        slab.advance(count);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if !self.open {
            return Err(Error::Misuse { what: "end a member while none is open" });
        }
        self.open = false;
        self.hand_over()?;
        self.writer.end()
    }

    fn complete(self: Box<Self>, mut manifest: Manifest) -> Result<Box<dyn sink::Complete>> {
        if self.open {
            return Err(Error::Misuse { what: "complete while a member is open" });
        }
        let Self { staging, writer, roster, grown, .. } = *self;
        let mut members = roster.members;
        let written = writer.finish()?;
        for (number, (digest, size)) in grown.into_iter().zip(written.digests) {
            members[number].digest = digest;
            members[number].size = size;
        }
        let plain_bytes = members.iter().map(|member| member.size).sum();
        manifest.members = members;
        let own = Path::new(OWN).join(MANIFEST_NAME);
        let text = serde_json::to_vec(&manifest)
            .map_err(|source| Error::io("encode for", staging.target(), source.into()))?;
        let (path, mut file) = create(&staging, &own, 0o600)?;
        file.write_all(&text).map_err(|source| Error::io("write", &path, source))?;
        sync_all(&staging.folder(), &manifest).map_err(|source| Error::io("sync", &path, source))?;
        let sealed = Sealed {
            path: staging.target().to_owned(),
            bytes: plain_bytes + text.len() as u64,
            plain_bytes,
            frames: 0,
            manifest_digest: blake3::hash(&text).to_hex().to_string(),
            spool_peak: written.peak,
            blocked: written.blocked,
        };
        Ok(Box::new(Complete { staging, sealed }))
    }
}

/// Every file, then the folders.
fn sync_all(folder: &Path, manifest: &Manifest) -> std::io::Result<()> {
    let mut files: Vec<PathBuf> = manifest
        .members
        .iter()
        .filter(|member| member.kind == MemberKind::File)
        .map(|member| folder.join(place_of(member.name.as_str())))
        .collect();
    let own = folder.join(OWN);
    files.push(own.join(MANIFEST_NAME));
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = File::open(path).and_then(|file| file.sync_all()) {
                failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..SYNCING.min(files.len()) {
            scope.spawn(work);
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    let mut folders: Vec<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    folders.sort();
    folders.dedup();
    folders.into_iter().try_for_each(sync)
}

/// A folder that is written and synced, and has no name yet. Dropped, it is gone.
#[derive(Debug)]
struct Complete {
    staging: Staging,
    sealed: Sealed,
}

impl sink::Complete for Complete {
    fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    fn publish(self: Box<Self>) -> Result<Sealed> {
        let Self { staging, sealed } = *self;
        staging.publish()?;
        Ok(sealed)
    }
}
