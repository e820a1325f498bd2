//! Names of containers.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest name that is accepted, in bytes: libcontainer's limit.
const MAX_LEN: usize = 1024;

/// Longest name that can be a file's: `NAME_MAX` of `limits.h`.
const LONGEST_FILE_NAME: usize = 255;

/// How the folders of longer names begin. No name does, so none can be taken for such a folder.
pub(crate) const HASHED: &str = "@id-";

/// A container's name: 1 to 1024 of `A-Z a-z 0-9 _ + - .`, and neither `.` nor `..`. This is runc's rule, which has no end
/// but that of file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Error::InvalidId`] when it breaks the rule above.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |problem: &'static str| Err(Error::InvalidId { id: text.to_owned(), problem });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_LEN {
            return refuse("it is longer than 1024 bytes");
        }
        if text == "." || text == ".." {
            return refuse("it would name a directory itself");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte)) {
            return refuse("it has other characters than letters, digits, `_`, `+`, `-` and `.`");
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its folder below the state directory and its cgroup are called: the name itself, or the BLAKE3 hash of a name
    /// that is too long for a file.
    #[must_use]
    pub fn folder_name(&self) -> Cow<'_, str> {
        if self.0.len() <= LONGEST_FILE_NAME {
            return Cow::Borrowed(&self.0);
        }
        Cow::Owned(format!("{HASHED}{}", blake3::hash(self.0.as_bytes()).to_hex()))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_harmless_path_component() {
        for good in ["web", "a", "a.b_c+d-e", "...", "0"] {
            assert_eq!(ContainerId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "../a", "a b", "ä", "a\n", "a\0", &"x".repeat(1025)] {
            let error = ContainerId::parse(bad).unwrap_err();
            assert!(matches!(error, Error::InvalidId { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_for_a_file_has_a_folder_all_the_same() {
        let name = |length: usize| ContainerId::parse(&"x".repeat(length)).unwrap();
        assert_eq!(name(255).folder_name().len(), 255);
        let (long, longer) = (name(256), name(1024));
        assert!(long.folder_name().starts_with(HASHED) && long.folder_name().len() < 255);
        assert_ne!(long.folder_name(), longer.folder_name());
        assert!(ContainerId::parse(&long.folder_name()).is_err(), "no container can be called so");
    }

    #[test]
    fn a_bad_name_in_a_file_is_refused() {
        assert!(serde_json::from_str::<ContainerId>("\"../../etc\"").is_err());
    }
}
