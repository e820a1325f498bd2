//! Pressure: how long processes waited for something. The kernel's `Documentation/accounting/psi.rst`; Linux 4.20.

use std::path::Path;

use nix::errno::Errno;
use serde::Serialize;

use crate::cgroup::files;
use crate::error::{Error, Result};

/// Pressure by one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Psi {
    /// Time in which some process waited.
    pub some: PsiLine,
    /// Time in which all of them did.
    pub full: PsiLine,
}

/// One kind of waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PsiLine {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}

impl Psi {
    /// Reads a `*.pressure` file; `None` where the kernel doesn't count (it is built or started without, or not asked
    /// for this cgroup).
    ///
    /// # Errors
    /// [`Error::Call`]; [`Error::Unexpected`].
    pub(in crate::cgroup) fn read(dir: &Path, file: &str) -> Result<Option<Self>> {
        let text = match files::read_if_there(dir, file) {
            Err(error) if files::is(&error, Errno::EOPNOTSUPP) => return Ok(None),
            other => other?,
        };
        let Some(text) = text else { return Ok(None) };
        let mut psi = Self::default();
        for line in text.lines() {
            let parsed = PsiLine::parse(line)
                .ok_or_else(|| Error::Unexpected { path: dir.join(file), found: line.to_owned() })?;
            match line.split_whitespace().next() {
                Some("some") => psi.some = parsed,
                Some("full") => psi.full = parsed,
                _ => {}
            }
        }
        Ok(Some(psi))
    }
}

impl PsiLine {
    /// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`
    fn parse(line: &str) -> Option<Self> {
        let mut found = Self::default();
        for field in line.split_whitespace().skip(1) {
            match field.split_once('=')? {
                ("avg10", value) => found.avg10 = value.parse().ok()?,
                ("avg60", value) => found.avg60 = value.parse().ok()?,
                ("avg300", value) => found.avg300 = value.parse().ok()?,
                ("total", value) => found.total = value.parse().ok()?,
                _ => {}
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=4242\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        std::fs::write(dir.path().join("memory.pressure"), text).unwrap();
        let psi = Psi::read(dir.path(), "memory.pressure").unwrap().unwrap();
        assert_eq!((psi.some.avg10, psi.some.avg60, psi.some.total, psi.full.total), (1.5, 0.25, 4242, 7));
        assert_eq!(Psi::read(dir.path(), "io.pressure").unwrap(), None);
        std::fs::write(dir.path().join("io.pressure"), "some avg10=high\n").unwrap();
        assert!(matches!(Psi::read(dir.path(), "io.pressure"), Err(Error::Unexpected { .. })));
    }
}
