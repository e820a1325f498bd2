//! A folder beside or within the one that it is to become, and how it becomes that.
//!
//! Where there is no folder yet, one is made beside it and renamed. Into one that is there, the files are renamed one by
//! one; the snapshot that was in it is put aside first, and comes back if anything fails. A folder that a killed floe
//! left in the midst of that is set right by the next one that writes to the same place.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::is_part;
use crate::error::{Error, Result};

/// How the names of such folders begin, within the folder that they are for.
const WITHIN: &str = ".floe-stage-";

/// In a staging folder: what was in the target before, while it is put aside; and once all of it is.
const ASIDE: [&str; 2] = ["some-of-before", "all-of-before"];

/// In a staging folder: the files that are for the target.
const NEW: &str = "new";

/// Where a snapshot grows. Dropped, it is gone, with the parents that were made for it.
#[derive(Debug)]
pub(crate) struct Staging {
    target: PathBuf,
    folder: PathBuf,
    fresh: bool,
    /// Folders that were made above it, the innermost first.
    parents: Vec<PathBuf>,
    /// Holds the lock by which the next one knows that its maker lives.
    lock: Option<File>,
}

impl Staging {
    /// Makes one for `target`.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let failed = |source| Error::io("create", target, source);
        let (target, fresh) = match fs::metadata(target) {
            Ok(meta) if meta.is_dir() => (fs::canonicalize(target).map_err(failed)?, false),
            Ok(_) => return Err(failed(std::io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (std::path::absolute(target).map_err(failed)?, true)
            }
            Err(error) => return Err(failed(error)),
        };
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
        let (within, prefix) = match (fresh, name, target.parent()) {
            (true, Some(name), Some(parent)) => {
                let short: String = name.chars().take(48).collect();
                (parent.to_owned(), format!(".{short}{WITHIN}"))
            }
            (true, ..) => return Err(failed(std::io::ErrorKind::InvalidInput.into())),
            _ => (target.clone(), WITHIN.to_owned()),
        };
        let parents = make_parents(&within).map_err(failed)?;
        sweep(&within, &prefix, &target);
        let (folder, lock) = locked(&within, &prefix).map_err(failed)?;
        let staging = Self { target, folder, fresh, parents, lock: Some(lock) };
        make(&staging.folder.join(NEW)).map_err(failed)?;
        Ok(staging)
    }

    /// Whether the target is made by this.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Where files go for now.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.join(NEW)
    }

    /// What it is to become.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the files their place. Everything in them is synced already.
    pub(crate) fn publish(mut self) -> Result<PathBuf> {
        let target = self.target.clone();
        let failed = |source| Error::io("rename to", &target, source);
        if self.fresh {
            fs::rename(self.folder(), &target).map_err(failed)?;
        } else if let Err(error) = fill(&self.folder, &target) {
            take_back(&self.folder, &target);
            return Err(failed(error));
        }
        // It is there: what was made for it stays.
        self.parents.clear();
        let above = if self.fresh { target.parent().unwrap_or(&target) } else { &target };
        sync(above).map_err(|source| Error::io("sync", above, source))?;
        Ok(target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        for parent in &self.parents {
            let _ = fs::remove_dir(parent);
        }
        self.lock.take();
    }
}

/// Syncs a folder's names.
pub(crate) fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn make(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)
}

/// Makes `folder` with what is missing above it; says what was made, the innermost first.
fn make_parents(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    let mut made = Vec::new();
    for folder in missing.into_iter().rev() {
        match make(folder) {
            Ok(()) => made.insert(0, folder.to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// A new folder that is locked.
fn locked(within: &Path, prefix: &str) -> std::io::Result<(PathBuf, File)> {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher is keyed at random for each of them.
    let salt = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let folder = within.join(format!("{prefix}{salt:016x}"));
    make(&folder)?;
    let file = File::open(&folder)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok((folder, file))
}

/// Sets right what killed floes left here.
fn sweep(within: &Path, prefix: &str, target: &Path) {
    let Ok(entries) = fs::read_dir(within) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let folder = entry.path();
        let Ok(file) = File::open(&folder) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            take_back(&folder, target);
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Renames the new files into `target`, and those of the snapshot that was there out of it.
fn fill(folder: &Path, target: &Path) -> std::io::Result<()> {
    let [some, all] = ASIDE.map(|name| folder.join(name));
    make(&some)?;
    for name in names(target)?.iter().filter(|name| is_part(name)) {
        fs::rename(target.join(name), some.join(name))?;
    }
    // From here on, what is in the target is new.
    fs::rename(&some, &all)?;
    let new = folder.join(NEW);
    let mut names = names(&new)?;
    // CRIU asks for the inventory first, and floe for the manifest: without both there is no snapshot.
    names.sort_by_key(|name| (name == super::OWN, name == "inventory.img"));
    for name in names {
        fs::rename(new.join(&name), target.join(&name))?;
    }
    Ok(())
}

/// Undoes [`fill`], as far as it came.
fn take_back(folder: &Path, target: &Path) {
    let [some, all] = ASIDE.map(|name| folder.join(name));
    if all.exists() {
        for name in names(target).unwrap_or_default().iter().filter(|name| is_part(name)) {
            remove(&target.join(name));
        }
    }
    for aside in [some, all] {
        for name in names(&aside).unwrap_or_default() {
            let _ = fs::rename(aside.join(&name), target.join(&name));
        }
    }
}

fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        let _ = fs::remove_dir_all(path);
    }
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        // A name that is no text is none of ours.
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(folder: &Path) -> Vec<(String, String)> {
        let read = |name: String| {
            let text = fs::read_to_string(folder.join(&name)).unwrap_or_else(|_| "folder".to_owned());
            (name, text)
        };
        let mut found: Vec<_> = names(folder).unwrap().into_iter().map(read).collect();
        found.sort();
        found
    }

    fn owned(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn staged(target: &Path) -> Staging {
        let staging = Staging::create(target).unwrap();
        for name in ["inventory.img", "core-1.img"] {
            fs::write(staging.folder().join(name), "new").unwrap();
        }
        staging
    }

    const OLD: [(&str, &str); 3] = [("core-7.img", "old"), ("inventory.img", "old"), ("notes", "mine")];

    fn old(target: &Path) {
        fs::create_dir(target).unwrap();
        for (name, text) in OLD {
            fs::write(target.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_new_folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/b/images");
        drop(staged(&target));
        assert!(content(dir.path()).is_empty());
        staged(&target).publish().unwrap();
        assert_eq!(content(&target), owned(&[("core-1.img", "new"), ("inventory.img", "new")]));
        assert_eq!(content(target.parent().unwrap()).len(), 1);
    }

    #[test]
    fn a_snapshot_in_a_folder_is_replaced_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("images");
        old(&target);
        drop(staged(&target));
        assert_eq!(content(&target), owned(&OLD));
        staged(&target).publish().unwrap();
        let expected = [("core-1.img", "new"), ("inventory.img", "new"), ("notes", "mine")];
        assert_eq!(content(&target), owned(&expected));
    }

    #[test]
    fn what_a_killed_one_left_is_set_right_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("images");
        old(&target);
        // Killed while the former snapshot was put aside, and while the new one was put in its place.
        for (killed_at, aside) in ASIDE.into_iter().enumerate() {
            let mut staging = staged(&target);
            let folder = staging.folder.clone();
            let aside = folder.join(aside);
            make(&aside).unwrap();
            fs::rename(target.join("inventory.img"), aside.join("inventory.img")).unwrap();
            if killed_at == 1 {
                fs::rename(target.join("core-7.img"), aside.join("core-7.img")).unwrap();
                fs::rename(staging.folder().join("core-1.img"), target.join("core-1.img")).unwrap();
            }
            // While its maker lives, nobody touches it.
            drop(Staging::create(&target).unwrap());
            assert!(folder.exists());
            staging.lock.take();
            std::mem::forget(staging);
            drop(Staging::create(&target).unwrap());
            assert_eq!(content(&target), owned(&OLD), "killed at {killed_at}");
        }
    }

    #[test]
    fn what_is_no_folder_is_refused_and_a_link_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(matches!(Staging::create(&dir.path().join("file")), Err(Error::Io { .. })));
        old(&dir.path().join("real"));
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        staged(&dir.path().join("link")).publish().unwrap();
        assert!(fs::symlink_metadata(dir.path().join("link")).unwrap().is_symlink());
        assert!(dir.path().join("real/core-1.img").exists());
    }
}
