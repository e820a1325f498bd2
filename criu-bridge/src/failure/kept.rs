//! Where the logs of failures are kept.
//!
//! CRIU's log lies in a tmpfs that goes with floe. When its work fails, the log is what tells a person the rest; so it
//! is kept beside the records of this host: in `/var/lib/floe/failures` for the default root, else in `@failures` of the
//! root. Few are kept, and of a giant one the end.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Most logs that are kept; the oldest go first.
const KEPT: usize = 32;

/// Bytes of a log that are kept: its end.
const SIZE_LIMIT: usize = 8 << 20;

/// Writes `log` into `folder` under a name with `subject` (a container's name, or `pid-N`) in it, and returns its path.
///
/// # Errors
/// [`Error::Call`] if it cannot be written.
pub(crate) fn keep(folder: &Path, subject: &str, verb: &str, log: &str) -> Result<PathBuf> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::call("mkdir", folder, source))?;
    let subject = subject.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-', "_");
    let time = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string().replace(':', "");
    let path = (0..1000)
        .map(|number| if number == 0 { String::new() } else { format!("-{number}") })
        .map(|number| folder.join(format!("{time}-{subject}-{verb}{number}.log")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| folder.join(format!("{time}-{subject}-{verb}-last.log")));
    let written = || -> std::io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(end_of(log).as_bytes())
    };
    if let Err(source) = written() {
        let _ = fs::remove_file(&path);
        return Err(Error::call("write", &path, source));
    }
    prune(folder);
    Ok(path)
}

fn end_of(log: &str) -> &str {
    let mut from = log.len().saturating_sub(SIZE_LIMIT);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    log.get(from..).unwrap_or(log)
}

fn prune(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    // The names begin with the time.
    let mut all: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .collect();
    all.sort();
    for path in all.iter().take(all.len().saturating_sub(KEPT)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_logs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("failures");
        fs::create_dir(&folder).unwrap();
        for number in 0..KEPT {
            fs::write(folder.join(format!("2001-01-{number:02}-old.log")), "").unwrap();
        }
        let path = keep(&folder, "web", "dump", "words").unwrap();
        let again = keep(&folder, "web", "dump", "other").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "words");
        assert_eq!(fs::read_to_string(again).unwrap(), "other");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), KEPT);
        assert!(!folder.join("2001-01-00-old.log").exists());
    }

    #[test]
    fn of_a_giant_log_the_end_is_kept() {
        let log = "é".repeat(SIZE_LIMIT);
        assert!(end_of(&log).len() <= SIZE_LIMIT);
        assert!(end_of("short") == "short");
    }
}
