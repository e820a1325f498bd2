//! Where messages about a configuration point to.

use std::path::Path;

use crate::error::Error;

/// The file, and helpers that name a key in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
}

impl Source<'_> {
    pub(super) fn bad(&self, key: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::BadConfig { path: self.file.to_owned(), key: key.into(), problem: problem.into() }
    }

    pub(super) fn unsupported(&self, key: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Unsupported { path: self.file.to_owned(), key: key.into(), reason: reason.into() }
    }

    pub(super) fn broken(&self, what: &'static str, source: serde_json::Error) -> Error {
        Error::Json { path: self.file.to_owned(), what, source }
    }
}
