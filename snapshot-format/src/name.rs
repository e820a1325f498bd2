//! Names of members.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits;

/// A name that is safe to be joined to a folder: relative, without `.`, `..` or empty parts, without control
/// characters, within [`limits::NAME`] and [`limits::DEPTH`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberName(String);

impl MemberName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(name: &str) -> Result<Self> {
        let bad = |what| Err(Error::BadName { name: name.chars().take(80).collect(), what });
        if name.is_empty() {
            return bad("it is empty");
        }
        if name.len() > limits::NAME {
            return bad("it is too long");
        }
        if name.starts_with('/') {
            return bad("it is absolute");
        }
        if name.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'\\') {
            return bad("it holds control characters or backslashes");
        }
        let mut parts = 0;
        for part in name.split('/') {
            parts += 1;
            if part.is_empty() || part == "." || part == ".." {
                return bad("it has a part that is empty, `.` or `..`");
            }
        }
        if parts > limits::DEPTH {
            return bad("it is too deep");
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MemberName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<MemberName> for String {
    fn from(name: MemberName) -> Self {
        name.0
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\nb",
            "a\\b",
            &"x/".repeat(20),
            &"n".repeat(256),
        ] {
            assert!(MemberName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["floe.json", "checkpoint/pages-1.img", "a b", "é", "..a"] {
            assert_eq!(MemberName::new(good).unwrap().as_str(), good);
        }
    }
}
