//! The forms in which cgroup files hold numbers.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;

use crate::cgroup::files;
use crate::error::{Error, Result};

/// The file's only number; `None` where the kernel has no such file.
pub(in crate::cgroup) fn number(dir: &Path, file: &str) -> Result<Option<u64>> {
    parsed(dir, file, |text| text.parse().ok())
}

/// As [`number`], where `max` is without limit and becomes `u64::MAX`.
pub(in crate::cgroup) fn number_or_max(dir: &Path, file: &str) -> Result<Option<u64>> {
    parsed(dir, file, |text| if text == "max" { Some(u64::MAX) } else { text.parse().ok() })
}

fn parsed(dir: &Path, file: &str, parse: impl Fn(&str) -> Option<u64>) -> Result<Option<u64>> {
    let Some(text) = text(dir, file)? else { return Ok(None) };
    parse(&text).map(Some).ok_or(Error::Unexpected { path: dir.join(file), found: text })
}

/// The file's content; `None` where the kernel has no such file, or counts nothing in it.
fn text(dir: &Path, file: &str) -> Result<Option<String>> {
    match files::read_if_there(dir, file) {
        Err(error) if files::is(&error, Errno::EOPNOTSUPP) => Ok(None),
        other => other,
    }
}

/// A file with a line `key value` for each key.
#[derive(Debug, Default)]
pub(in crate::cgroup) struct Table(pub(in crate::cgroup) BTreeMap<String, u64>);

impl Table {
    /// Empty where the kernel has no such file. A line whose value is no number is left out: newer kernels may add some.
    pub(in crate::cgroup) fn read(dir: &Path, file: &str) -> Result<Self> {
        let text = text(dir, file)?.unwrap_or_default();
        let line = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        };
        Ok(Self(text.lines().filter_map(line).collect()))
    }

    /// 0 for a key that isn't there.
    pub(in crate::cgroup) fn get(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_what_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "42\n").unwrap();
        std::fs::write(dir.path().join("b"), "max\n").unwrap();
        assert_eq!(number(dir.path(), "a").unwrap(), Some(42));
        assert_eq!(number_or_max(dir.path(), "b").unwrap(), Some(u64::MAX));
        assert_eq!(number(dir.path(), "c").unwrap(), None);
        assert!(number(dir.path(), "b").unwrap_err().to_string().contains("max"));
        std::fs::write(dir.path().join("t"), "anon 7\nfile x\nshmem 8\n").unwrap();
        let table = Table::read(dir.path(), "t").unwrap();
        assert_eq!((table.get("anon"), table.get("file"), table.get("shmem")), (7, 0, 8));
    }
}
