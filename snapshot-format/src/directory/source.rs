//! The folder as a source.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, openat};

use super::{OWN, foreign, manifest_of, place_of};
use crate::error::{Error, Part, Result};
use crate::manifest::{Head, Member, MemberKind};
use crate::name::MemberName;
use crate::progress::Progress;
use crate::source::{Contents, Source, Verified, readable_whole};
use crate::{MANIFEST_NAME, limits};

/// Bytes of one read(2).
const READ: usize = 1 << 20;

/// An opened folder of images.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Files are looked for beneath it, and no link is followed: a folder may come from anywhere, and a link in it would
    /// make a file of this host a process's memory.
    root: OwnedFd,
    contents: Contents,
    /// Whether the manifest was made of the images, and has no digests.
    foreign: bool,
    /// Members whose digest was found right.
    checked: Mutex<Vec<bool>>,
}

impl Directory {
    /// Opens the folder `path`. With floe's manifest in it, that is read; else one is made of the images.
    ///
    /// # Errors
    /// [`Error::NoImages`], [`Error::Damaged`], [`Error::BadImage`], [`Error::TooNew`], [`Error::Limit`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|source| Error::io("open", path, source.into()))?;
        let own = Path::new(OWN).join(MANIFEST_NAME);
        let (text, is_foreign) = match open_beneath(&root, &own) {
            Ok(file) => (read_limited(file, limits::JSON, &path.join(&own))?, false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (foreign::manifest(path, &|name| open_beneath(&root, Path::new(name)))?, true)
            }
            Err(source) => return Err(Error::io("open", &path.join(&own), source)),
        };
        let manifest = manifest_of(&text, path)?;
        let names: HashSet<_> = manifest.members.iter().map(|member| &member.name).collect();
        if names.len() != manifest.members.len() {
            return Err(Error::Damaged {
                path: path.to_owned(),
                at: 0,
                part: Part::Manifest,
                what: "two members have the same name".to_owned(),
            });
        }
        let head = Head {
            format: manifest.format,
            kind: "floe-directory".to_owned(),
            snapshot: manifest.snapshot.clone(),
            container: manifest.container.id.clone(),
            created: manifest.created.clone(),
            tool: manifest.tool.clone(),
            extra: serde_json::Map::new(),
        };
        let plain: u64 = manifest.members.iter().map(|member| member.size).sum();
        let own = if is_foreign { 0 } else { text.len() as u64 };
        let totals = Verified {
            members: manifest.members.len() as u64 + u64::from(!is_foreign),
            frames: 0,
            bytes: plain + own,
            plain_bytes: plain,
        };
        let checked = Mutex::new(vec![false; manifest.members.len()]);
        let digest = blake3::hash(&text).to_hex().to_string();
        let path = path.to_owned();
        let contents = Contents::new(head, manifest, digest, totals);
        Ok(Self { path, root, contents, foreign: is_foreign, checked })
    }

    /// The snapshot that this one leaves pages to, by CRIU's link `parent`. That has to lead to a folder beside this one: a
    /// folder from elsewhere could else have pages of any dump on this host become its own.
    ///
    /// # Errors
    /// [`Error::Parent`] if it leads elsewhere; as [`Directory::open`].
    pub fn before(&self) -> Result<Option<Self>> {
        let link = match rustix::fs::readlinkat(&self.root, super::PARENT, Vec::new()) {
            Ok(link) => PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes())),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(source) => return Err(Error::io("read", &self.path.join(super::PARENT), source.into())),
        };
        let mut parts = link.components();
        let (up, beside, end) = (parts.next(), parts.next(), parts.next());
        match (up, beside, end) {
            (Some(Component::ParentDir), Some(Component::Normal(name)), None) => {
                let path = self.path.join("..").join(name);
                if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
                    return Err(Error::Parent { path: self.path.clone(), link });
                }
                Ok(Some(Self::open(&path)?))
            }
            _ => Err(Error::Parent { path: self.path.clone(), link }),
        }
    }

    fn damaged(&self, member: &Member, what: impl Into<String>) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            at: 0,
            part: Part::Member(place_of(member.name.as_str()).display().to_string()),
            what: what.into(),
        }
    }

    fn file(&self, member: &Member) -> Result<File> {
        let place = place_of(member.name.as_str());
        let file = match open_beneath(&self.root, &place) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(self.damaged(member, "it is missing"));
            }
            Err(source) => return Err(Error::io("open", &self.path.join(place), source)),
        };
        let meta = file.metadata().map_err(|source| Error::io("stat", &self.path.join(&place), source))?;
        if meta.len() != member.size {
            return Err(
                self.damaged(member, format!("it has {} bytes instead of {}", meta.len(), member.size))
            );
        }
        Ok(file)
    }

    /// Reads all of a member, checks it, and hands its pieces on as they come.
    fn stream(&self, member: &Member, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut file = self.file(member)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; READ.min(usize::try_from(member.size).unwrap_or(READ)).max(1)];
        let mut left = member.size;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(self.damaged(member, "it became shorter while it was read")),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::io("read", &self.path.join(place_of(member.name.as_str())), source));
                }
            };
            if !self.foreign {
                hasher.update(&buffer[..got]);
            }
            each(&buffer[..got])?;
            left -= got as u64;
        }
        if !self.foreign && *hasher.finalize().to_hex() != *member.digest {
            return Err(self.damaged(
                member,
                format!(
                    "its digest is another than the manifest says (if another program wrote a snapshot into the folder, \
                     remove {OWN}/ from it)"
                ),
            ));
        }
        Ok(())
    }

    /// Goes through all members on all cores. The first failure stops all.
    fn each(
        &self,
        progress: &dyn Progress,
        then: &(dyn Fn(usize, &Member, &AtomicU64) -> Result<()> + Sync),
    ) -> Result<()> {
        // The largest first: they take longest.
        let mut order: Vec<usize> = (0..self.members().len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(self.members()[*number].size));
        let (next, done, stop) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let failure = Mutex::new(None);
        let work = || {
            while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let member = &self.members()[number];
                if member.kind != MemberKind::File {
                    continue;
                }
                if let Err(error) = then(number, member, &done) {
                    stop.store(true, Ordering::Relaxed);
                    let mut slot = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    slot.get_or_insert(error);
                    return;
                }
                progress.bytes(done.load(Ordering::Relaxed), self.totals().plain_bytes);
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(order.len()).max(1);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn note(&self, number: usize) {
        self.checked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[number] = true;
    }

    fn heard(&self, progress: &dyn Progress, done: &AtomicU64, bytes: usize) -> Result<()> {
        if progress.cancelled() {
            return Err(Error::Interrupted { path: self.path.clone() });
        }
        let done = done.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        progress.bytes(done, self.totals().plain_bytes);
        Ok(())
    }

    /// An image that the manifest does not name would be read by CRIU and not by floe.
    fn nothing_else(&self) -> Result<()> {
        let failed = |source| Error::io("read", &self.path, source);
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            let known = |name: &str| {
                let member = MemberName::new(&format!("{}/{name}", super::IMAGES));
                member.is_ok_and(|member| self.contents.number(&member).is_some())
            };
            if name.ends_with(".img") && !known(&name) {
                return Err(Error::Damaged {
                    path: self.path.clone(),
                    at: 0,
                    part: Part::Member(name),
                    what: "the manifest does not name it".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// Opens a regular file beneath a folder, without following a link.
pub(super) fn open_beneath(root: &OwnedFd, place: &Path) -> std::io::Result<File> {
    let nofollow = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts = place.components().peekable();
    let mut above: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let folder = above.as_ref().unwrap_or(root);
        if parts.peek().is_none() {
            let file =
                File::from(openat(folder, part.as_os_str(), nofollow | OFlags::NONBLOCK, Mode::empty())?);
            if !file.metadata()?.is_file() {
                return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
            }
            return Ok(file);
        }
        above = Some(openat(folder, part.as_os_str(), nofollow | OFlags::DIRECTORY, Mode::empty())?);
    }
    Err(ErrorKind::InvalidInput.into())
}

/// All of a file, if it is not longer than `limit`.
pub(super) fn read_limited(file: File, limit: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Limit { what: "the size of a file read as a whole", limit });
    }
    Ok(bytes)
}

impl Source for Directory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn contents(&self) -> &Contents {
        &self.contents
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        Ok(self.before()?.map(|parent| Box::new(parent) as Box<dyn Source>))
    }

    fn read(&self, name: &MemberName) -> Result<Vec<u8>> {
        let member = self.member(name)?;
        readable_whole(member)?;
        let mut bytes = Vec::new();
        self.stream(member, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn read_at(&self, member: &Member, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > member.size) {
            return Err(Error::Misuse { what: "read beyond the end of a member" });
        }
        // A file has one digest for all of it.
        let number = self.contents.number(&member.name);
        let checked = self.checked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = number.and_then(|number| checked.get(number).copied()).unwrap_or(false);
        drop(checked);
        if !known && !self.foreign {
            self.stream(member, &mut |_| Ok(()))?;
            number.into_iter().for_each(|number| self.note(number));
        }
        let file = self.file(member)?;
        file.read_exact_at(buffer, offset)
            .map_err(|source| Error::io("read", &self.path.join(place_of(member.name.as_str())), source))
    }

    fn unpack(
        &self,
        want: &dyn Fn(&Member) -> bool,
        place: &mut dyn FnMut(&Member) -> std::io::Result<File>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut files = Vec::new();
        for member in self.members() {
            let wanted = member.kind == MemberKind::File && want(member);
            let create = |source| Error::io("create", member.name.as_str().as_ref(), source);
            files.push(if wanted { Some(place(member).map_err(create)?) } else { None });
        }
        self.each(progress, &|number, member, done| {
            self.stream(member, &mut |piece| {
                if let Some(mut file) = files[number].as_ref() {
                    let failed = |source| Error::io("write", member.name.as_str().as_ref(), source);
                    file.write_all(piece).map_err(failed)?;
                }
                self.heard(progress, done, piece.len())
            })
        })
    }

    fn verify(&self, progress: &dyn Progress) -> Result<Verified> {
        self.each(progress, &|number, member, done| {
            self.stream(member, &mut |piece| self.heard(progress, done, piece.len()))?;
            self.note(number);
            Ok(())
        })?;
        self.nothing_else()?;
        if let Some(before) = self.before()? {
            before.verify(progress)?;
        }
        foreign::check(self.manifest(), &|name| {
            let name = MemberName::new(&format!("{}/{name}", super::IMAGES)).ok()?;
            self.read(&name).ok()
        })?;
        Ok(self.totals())
    }
}
