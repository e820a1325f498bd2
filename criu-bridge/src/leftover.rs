//! Folders in `/tmp` that a killed CRIU leaves.
//!
//! CRIU makes empty folders there as mount points in mount namespaces of its own, and removes them at its end. Killed, it
//! does not. What is new since our CRIU began, is empty, and is nobody's mount point any more was its.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How CRIU begins the names of such folders (criu/mount.c, criu/util.c of CRIU 4.1).
const PREFIXES: [&str; 3] = [".criu.mntns.", "cr-tmpfs.", "crtools-proc."];

/// Where CRIU makes them, whatever TMPDIR says.
const PLACE: &str = "/tmp";

/// The folders that were there before.
#[derive(Debug, Clone)]
pub(crate) struct Folders(HashSet<PathBuf>);

impl Folders {
    /// Looks before a CRIU is started.
    pub(crate) fn look() -> Self {
        Self(present(Path::new(PLACE)))
    }

    /// After a CRIU that was killed: removes what is new. A folder that another CRIU uses is left alone.
    pub(crate) fn remove_new(&self) {
        let new: Vec<PathBuf> = present(Path::new(PLACE)).difference(&self.0).cloned().collect();
        if new.is_empty() {
            return;
        }
        let used = mount_tables();
        for folder in new {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !used.iter().any(|table| table.contains(&name)) {
                // Only an empty folder can be removed this way.
                let _ = fs::remove_dir(&folder);
            }
        }
    }
}

fn present(place: &Path) -> HashSet<PathBuf> {
    let entries = fs::read_dir(place).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    entries.into_iter().filter(|entry| entry.file_name().to_str().is_some_and(ours)).map(|entry| entry.path()).collect()
}

/// The mount table of every process.
fn mount_tables() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbered = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    numbered.filter_map(|entry| fs::read_to_string(entry.path().join("mountinfo")).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_and_unused_is_removed() {
        let old = tempfile::Builder::new().prefix(".criu.mntns.").tempdir_in(PLACE).unwrap();
        let before = Folders::look();
        let new = tempfile::Builder::new().prefix(".criu.mntns.").tempdir_in(PLACE).unwrap();
        before.remove_new();
        assert!(old.path().exists());
        assert!(!new.path().exists());
    }
}
