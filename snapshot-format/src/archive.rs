//! The archive as a source: read frame by frame, nothing believed before it is checked.

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Part, Result};
use crate::frames::{Frames, Reader};
use crate::manifest::{Member, MemberKind};
use crate::name::MemberName;
use crate::open;
use crate::progress::Progress;
use crate::source::{Contents, Source, Verified, readable_whole};

/// An opened archive. Its tail (table, seal, manifest) was checked; index and members are checked as they are read.
///
/// It can be read from many threads at once.
#[derive(Debug)]
pub struct Archive {
    contents: Contents,
    pub(crate) frames: Frames,
}

impl Source for Archive {
    fn path(&self) -> &Path {
        self.frames.path()
    }

    fn contents(&self) -> &Contents {
        &self.contents
    }

    fn read(&self, name: &MemberName) -> Result<Vec<u8>> {
        let member = self.member(name)?;
        readable_whole(member)?;
        let mut bytes = Vec::new();
        self.frames.with_reader(|reader| reader.append(member.offset, member.size, &mut bytes))?;
        self.check_digest(member, &bytes)?;
        Ok(bytes)
    }

    fn read_at(&self, member: &Member, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= member.size);
        let start = member.offset.checked_add(offset);
        let (Some(_), Some(start)) = (end, start) else {
            return Err(Error::Misuse { what: "read beyond the end of a member" });
        };
        // Each frame that is touched is checked first.
        self.frames.with_reader(|reader| reader.fill(start, buffer))
    }

    fn unpack(
        &self,
        want: &dyn Fn(&Member) -> bool,
        place: &mut dyn FnMut(&Member) -> std::io::Result<File>,
        progress: &dyn Progress,
    ) -> Result<()> {
        self.write_members(want, place, progress)
    }

    fn verify(&self, progress: &dyn Progress) -> Result<Verified> {
        self.verify_all(progress)
    }
}

impl Archive {
    /// Opens the archive at `path`: reads and checks its end (seek table, seal, manifest) and its head. Blocks of the
    /// index are read and checked when a frame that they describe is wanted.
    ///
    /// # Errors
    /// [`Error::NotAFloeArchive`], [`Error::Damaged`], [`Error::TooNew`], [`Error::Limit`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
        let kind = file.metadata().map_err(|source| Error::io("stat", path, source))?.file_type();
        if !kind.is_file() {
            return Err(Error::NotAFloeArchive { path: path.to_owned(), what: "it is no regular file" });
        }
        Self::from_file(file, path)
    }

    pub(crate) fn from_file(file: File, path: &Path) -> Result<Self> {
        let tail = open::tail(&file, path)?;
        let frames = Frames::new(file, path.to_owned(), tail.places, &tail.manifest);
        let totals = Verified {
            members: tail.manifest.members.len() as u64 + 1,
            frames: tail.frames,
            bytes: tail.bytes,
            plain_bytes: tail.plain,
        };
        let head = open::head(&frames, &tail.manifest)?;
        Ok(Self { contents: Contents::new(head, tail.manifest, tail.digest, totals), frames })
    }

    /// Whether `content`, all of a member, is what the manifest says. Frames of grown members stand for themselves.
    pub(crate) fn check_digest(&self, member: &Member, content: &[u8]) -> Result<()> {
        let digest = if member.of_frames {
            self.frames.digest_of(self.frames.covering(member.offset, member.size))?
        } else {
            blake3::hash(content)
        };
        if member.kind == MemberKind::File && *digest.to_hex() != *member.digest {
            let part = Part::Member(member.name.to_string());
            return Err(self.frames.damaged(
                0,
                part,
                "its digest is another than the manifest says".to_owned(),
            ));
        }
        Ok(())
    }

    /// Reads what a plain tar reader sees around each member, and compares it with the manifest.
    pub(crate) fn check_member(
        &self,
        member: &Member,
        reader: &mut Reader<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let wrong =
            |what: &str| Err(self.frames.damaged(0, Part::Member(member.name.to_string()), what.to_owned()));
        let expected = crate::tarball::header(&member.name, member.kind, member.mode, member.size)?;
        let mut header = [0u8; 512];
        reader.fill(member.offset.saturating_sub(512), &mut header)?;
        if header != expected {
            return wrong("its tar header is another than the manifest says");
        }
        let mut padding = [0u8; 512];
        let padding = &mut padding[..crate::tarball::padding(member.size)];
        reader.fill(member.offset + member.size, padding)?;
        if padding.iter().any(|byte| *byte != 0) {
            return wrong("what fills it up to a block is not empty");
        }
        scratch.clear();
        if !member.of_frames {
            reader.append(member.offset, member.size, scratch)?;
        }
        self.check_digest(member, scratch)
    }
}
