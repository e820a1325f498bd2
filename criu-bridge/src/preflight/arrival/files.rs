//! Files that are open or mapped: CRIU insists on their size, mode and build-id.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use floe_runtime::config::{Config, MountKind};
use floe_snapshot_format::OpenFile;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};

use super::super::{Blocker, Finding, Weight};
use super::{Arrival, build_id};

/// Files of the root file system and of bind mounts that are not as they were.
///
/// What else is mounted (tmpfs, `/proc`, `/dev`) comes back with the snapshot. Where the snapshot holds the changes to the
/// root file system, they are put back before CRIU looks, and files of the root are not compared here.
pub(super) fn changed(arrival: &Arrival<'_>) -> Vec<Finding> {
    let Some(config) = arrival.config else { return Vec::new() };
    let with_root =
        arrival.images.iter().any(|(name, _)| name == "rootfs-diff.tar" || name == "deleted.files");
    let mut found = Vec::new();
    for file in
        arrival.manifest.files.iter().filter(|file| !file.external && !arrival.remapped.contains(&file.id))
    {
        let Some((root, inside, in_root)) = place(config, Path::new(&file.path)) else { continue };
        if in_root && with_root {
            continue;
        }
        if let Some((kind, what)) = difference(&root, &inside, file) {
            found.push(told(arrival, file, kind, what));
        }
    }
    found
}

/// The folder of this host that holds a file of the container, its path in there, and whether that is the root file system.
/// `None` for what comes back with the snapshot.
fn place(config: &Config, path: &Path) -> Option<(PathBuf, PathBuf, bool)> {
    let nearest = config
        .mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.destination))
        .max_by_key(|mount| mount.destination.as_os_str().len());
    match nearest {
        None => Some((config.rootfs.clone(), path.strip_prefix("/").ok()?.to_owned(), true)),
        Some(mount) => match (&mount.kind, &mount.source) {
            (MountKind::Bind { .. }, Some(source)) => {
                Some((source.clone(), path.strip_prefix(&mount.destination).ok()?.to_owned(), false))
            }
            _ => None,
        },
    }
}

fn difference(root: &Path, inside: &Path, file: &OpenFile) -> Option<(&'static str, String)> {
    let open = match open(root, inside) {
        Ok(open) => open,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            return Some(("file-missing", "is not there".to_owned()));
        }
        // What cannot be looked at is left to CRIU.
        Err(_) => return None,
    };
    let meta = File::from(open.try_clone().ok()?).metadata().ok()?;
    if let Some(size) = file.size.filter(|size| *size != meta.len() && meta.is_file()) {
        return Some(("file-size", format!("has {} bytes and had {size}", meta.len())));
    }
    if let Some(mode) = file.mode.filter(|mode| *mode != meta.mode()) {
        return Some(("file-mode", format!("has the mode {:o} and had {mode:o}", meta.mode())));
    }
    if !file.build_id.is_empty() && meta.is_file() {
        let own = readable(&open).and_then(|file| build_id::of(&file));
        if let Some(own) = own.filter(|own| *own != file.build_id) {
            return Some(("file-build-id", format!("has the build-id {own} and had {}", file.build_id)));
        }
    }
    None
}

/// As a process of the container would find it: no link leads out of the root.
fn open(root: &Path, inside: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // A file that is mounted by itself.
    let root = openat(rustix::fs::CWD, root, flags, Mode::empty())?;
    if inside.as_os_str().is_empty() {
        return Ok(root);
    }
    openat2(&root, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

fn readable(open: &OwnedFd) -> Option<File> {
    File::open(format!("/proc/self/fd/{}", open.as_raw_fd())).ok()
}

fn told(arrival: &Arrival<'_>, file: &OpenFile, kind: &'static str, what: String) -> Finding {
    let user = arrival.manifest.tasks.iter().find(|task| {
        let number = |id| id == file.id;
        task.descriptors.iter().any(|open| number(open.file))
            || task.areas.iter().any(|area| area.file.is_some_and(number))
    });
    let who = user.map(|task| format!("{} ({})", task.pid, task.name));
    let used =
        who.map_or_else(|| "the container".to_owned(), |who| format!("process {who} of the container"));
    let hint = match kind {
        "file-build-id" => "restore with the same image that the container was started from",
        "file-mode" => "put the mode back",
        _ => "put the file back as it was, or restore with the root file system of the snapshot",
    };
    let blocker = Blocker {
        pid: None,
        process: user.map(|task| task.name.clone()).unwrap_or_default(),
        what: format!("a file that {used} uses {what}:"),
        on: file.path.clone(),
        hint: hint.to_owned(),
    };
    Finding { kind, weight: Weight::Blocker, blocker }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_mode_and_presence_are_compared() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log");
        std::fs::write(&path, "twelve bytes").unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode();
        let file = OpenFile { size: Some(12), mode: Some(mode), ..OpenFile::default() };
        let kind = |inside: &str, file: &OpenFile| {
            difference(root.path(), Path::new(inside), file).map(|(kind, _)| kind)
        };
        assert_eq!(kind("log", &file), None);
        assert_eq!(kind("gone", &file), Some("file-missing"));
        assert_eq!(kind("log", &OpenFile { size: Some(13), ..file.clone() }), Some("file-size"));
        assert_eq!(kind("log", &OpenFile { mode: Some(0o100_600 ^ 0o7), ..file.clone() }), Some("file-mode"));
        // A link of the image's does not lead out of it.
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("link")).unwrap();
        assert_eq!(kind("link", &file), Some("file-missing"));
    }
}
