//! Where a snapshot is read from.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};
use crate::limits;
use crate::manifest::{Head, Manifest, Member};
use crate::name::MemberName;
use crate::progress::Progress;

/// A snapshot that can be read, in any order and from many threads at once. Its manifest was checked when it was opened;
/// no byte of a member is handed out before it was.
pub trait Source: Debug + Send + Sync {
    /// Where it lies, for messages.
    fn path(&self) -> &Path;

    /// What was checked when it was opened.
    fn contents(&self) -> &Contents;

    /// Its head.
    fn head(&self) -> &Head {
        &self.contents().head
    }

    /// Its manifest.
    fn manifest(&self) -> &Manifest {
        &self.contents().manifest
    }

    /// BLAKE3 of the manifest's text, hexadecimal. It stands for every byte of the snapshot.
    fn manifest_digest(&self) -> &str {
        &self.contents().digest
    }

    /// Its members but the manifest, in order.
    fn members(&self) -> &[Member] {
        &self.manifest().members
    }

    /// How much there is of it; what [`Source::verify`] goes through.
    fn totals(&self) -> Verified {
        self.contents().totals
    }

    /// The member `name`.
    ///
    /// # Errors
    /// [`crate::Error::NoMember`].
    fn member(&self, name: &MemberName) -> Result<&Member> {
        let found = self.contents().number(name).and_then(|number| self.members().get(number));
        found.ok_or_else(|| Error::NoMember { path: self.path().to_owned(), name: name.to_string() })
    }

    /// The snapshot that this one leaves pages to, if there is one.
    ///
    /// # Errors
    /// As the place has them.
    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        Ok(None)
    }

    /// All of a member.
    ///
    /// # Errors
    /// [`crate::Error::NoMember`], [`crate::Error::Limit`] beyond [`crate::limits::WHOLE_MEMBER`],
    /// [`crate::Error::Damaged`], [`crate::Error::Io`].
    fn read(&self, name: &MemberName) -> Result<Vec<u8>>;

    /// `buffer` filled from `offset` of a member.
    ///
    /// # Errors
    /// As [`Source::read`]; [`crate::Error::Misuse`] beyond the member's end.
    fn read_at(&self, member: &Member, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Writes the members that `want` names to the files that `place` makes for them. On failure files are left half
    /// filled.
    ///
    /// Everything else is checked too: whoever starts a container from a snapshot that is damaged in its configuration or
    /// in a member's name should hear of it then.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], [`crate::Error::Interrupted`], [`crate::Error::Io`].
    fn unpack(
        &self,
        want: &dyn Fn(&Member) -> bool,
        place: &mut dyn FnMut(&Member) -> std::io::Result<File>,
        progress: &dyn Progress,
    ) -> Result<()>;

    /// Reads and checks every byte, and that another reader would find in it exactly what the manifest says.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] with the first place that is wrong; [`crate::Error::Interrupted`],
    /// [`crate::Error::Io`].
    fn verify(&self, progress: &dyn Progress) -> Result<Verified>;
}

/// What a verification went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Members, the manifest included.
    pub members: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes that it takes where it lies.
    pub bytes: u64,
    /// Bytes of the tar in it.
    pub plain_bytes: u64,
}

/// What an opened snapshot says of itself.
#[derive(Debug)]
pub struct Contents {
    head: Head,
    manifest: Manifest,
    digest: String,
    by_name: HashMap<MemberName, usize>,
    totals: Verified,
}

impl Contents {
    /// `digest` is that of the manifest's text.
    pub(crate) fn new(head: Head, manifest: Manifest, digest: String, totals: Verified) -> Self {
        let names = manifest.members.iter().enumerate();
        let by_name = names.map(|(number, member)| (member.name.clone(), number)).collect();
        Self { head, manifest, digest, by_name, totals }
    }

    /// The place of a member among the others.
    pub(crate) fn number(&self, name: &MemberName) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// Whether a member may be read as a whole.
pub(crate) fn readable_whole(member: &Member) -> Result<()> {
    if member.size > limits::WHOLE_MEMBER {
        return Err(Error::Limit {
            what: "the size of a member read as a whole",
            limit: limits::WHOLE_MEMBER,
        });
    }
    Ok(())
}
