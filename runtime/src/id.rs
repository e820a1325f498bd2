//! Names of containers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest name that is accepted, in bytes. libcontainer's limit; a file name ends earlier, at `NAME_MAX` (255), and
/// the kernel's own error says so.
const MAX_LEN: usize = 1024;

/// A container's name: 1 to 1024 of `A-Z a-z 0-9 _ + - .`, and neither `.` nor `..`, so that it is one path component
/// below the state directory and one below each cgroup hierarchy. This is runc's rule.
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
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for ContainerId {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
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
    fn a_bad_name_in_a_file_is_refused() {
        assert!(serde_json::from_str::<ContainerId>("\"../../etc\"").is_err());
    }
}
