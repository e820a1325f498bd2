//! Who is in the middle of what.
//!
//! It is on disk before anything is frozen. Should its owner be killed, the next floe command finds it, and knows
//! that it has to thaw the container, and whether it was meant to be paused.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ProcessId;
use crate::error::{Error, Result};

/// Work that must not be left half done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// A checkpoint.
    Checkpoint,
    /// A restore.
    Restore,
}

impl Verb {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Restore => "restore",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// What is done.
    pub(crate) verb: Verb,
    /// By whom.
    pub(crate) owner: ProcessId,
    /// Whether the container was paused before.
    pub(crate) was_paused: bool,
}

impl Journal {
    /// This process begins `verb`.
    pub(crate) fn begin(verb: Verb, was_paused: bool) -> Result<Self> {
        let owner = ProcessId::own().ok_or_else(|| Error::start("/proc is not mounted"))?;
        Ok(Self { verb, owner, was_paused })
    }
}

/// Name of the file.
pub(crate) const FILE: &str = "journal.json";
