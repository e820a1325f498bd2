//! What can be wrong with a snapshot.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The part of an archive that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The last bytes, by which everything is found.
    End,
    /// The seek table.
    Table,
    /// The frame in front of the table that holds the manifest's place and digest.
    Seal,
    /// The manifest.
    Manifest,
    /// The index of frames.
    Index,
    /// The head, the first member.
    Head,
    /// A frame, with the member that it belongs to.
    Frame {
        /// Its number, from 0.
        number: u64,
        /// The member whose data it holds; `None` for headers and padding.
        member: Option<String>,
    },
    /// A member.
    Member(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::End => f.write_str("its end"),
            Part::Table => f.write_str("the seek table"),
            Part::Seal => f.write_str("the seal"),
            Part::Manifest => f.write_str("the manifest (floe.json)"),
            Part::Index => f.write_str("the index (floe-index)"),
            Part::Head => f.write_str("the head (floe-head.json)"),
            Part::Frame { number, member: Some(member) } => write!(f, "frame {number} ({member})"),
            Part::Frame { number, member: None } => write!(f, "frame {number} (a tar header)"),
            Part::Member(name) => write!(f, "member {name}"),
        }
    }
}

/// One variant for each choice that a caller has.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not what was written.
    #[error("{path} is damaged at byte {at}: {part}: {what}; take another copy of it", path = path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// The first byte of the part that is wrong.
        at: u64,
        /// What it is.
        part: Part,
        /// How it is wrong.
        what: String,
    },
    /// The file is something else.
    #[error("{path} is no floe archive: {what}", path = path.display())]
    NotAFloeArchive {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
    },
    /// The folder is none of CRIU's.
    #[error("{path} holds no snapshot: inventory.img is missing, which every folder of CRIU's images has", path = path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
    },
    /// The link to the snapshot before leads out of the folder's neighbourhood.
    #[error("{path} builds on {link}, which is no folder beside it; put that there, and make the link ../NAME", path = path.display(), link = link.display())]
    Parent {
        /// The folder.
        path: PathBuf,
        /// Where its link leads.
        link: PathBuf,
    },
    /// A newer floe wrote it.
    #[error("{path} has format version {found}, and this floe reads up to {known}; use the floe that wrote it, or a newer one", path = path.display())]
    TooNew {
        /// The archive.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// A name that no member can have.
    #[error("{name:?} is no name for a member of an archive: {what}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A limit of [`crate::limits`] is passed.
    #[error("{what} is beyond the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The archive has no such member.
    #[error("{path} has no member {name}", path = path.display())]
    NoMember {
        /// The archive.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// An image of CRIU is not understood.
    #[error("{image} is no image that CRIU writes: {what}")]
    BadImage {
        /// Its name.
        image: String,
        /// What is wrong.
        what: String,
    },
    /// The writer was used out of order.
    #[error("the archive writer was asked to {what}")]
    Misuse {
        /// What was asked.
        what: &'static str,
    },
    /// Somebody asked to stop.
    #[error("interrupted while reading {path}", path = path.display())]
    Interrupted {
        /// The archive.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{call} {path}: {source}{hint}", path = path.display(), hint = hint_for(source))]
    Io {
        /// What was done.
        call: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

fn hint_for(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; free space or write elsewhere"
        }
        std::io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}

impl Error {
    /// Whether the snapshot is damaged or not trusted (exit code 4).
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Error::Damaged { .. }
                | Error::NotAFloeArchive { .. }
                | Error::NoImages { .. }
                | Error::BadImage { .. }
        )
    }

    pub(crate) fn io(call: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::Io { call, path: path.to_owned(), source }
    }
}
