//! Descriptors that CRIU is given for what was outside: streams, files and terminals.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use floe_snapshot_format::criu::files::{self, Change};
use nix::libc;

use super::plan::Plan;
use crate::error::{Error, Result};
use crate::outside::OutsideFile;
use crate::progress::Progress;
use crate::scratch::Scratch;

/// What is handed over, by CRIU's keys, and how host files go on.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    fds: Vec<(String, OwnedFd)>,
    /// For each host file, where to go on: `None` at the saved offset, else at this one.
    positions: Vec<(String, Option<u64>)>,
}

impl Inherited {
    /// Opens everything. Nothing was started yet.
    /// `network` is the namespace that was made for it.
    pub(crate) fn collect(plan: &Plan, network: Option<OwnedFd>, progress: &dyn Progress) -> Result<Self> {
        let mut all = Self { fds: plan.namespaces(network)?, positions: Vec::new() };
        for (number, target) in plan.outside.stdio.iter().enumerate().take(3) {
            let taken = all.fds.iter().any(|(key, _)| key == target);
            if target.starts_with("pipe:[") && !taken {
                all.fds.push((target.clone(), stream(number)?));
            }
        }
        for file in &plan.outside.files {
            let (fd, position) = open(file, plan, progress)?;
            all.positions.push((file.key.clone(), position));
            all.fds.push((file.key.clone(), fd));
        }
        for terminal in &plan.outside.terminals {
            all.fds.push((terminal.key.clone(), own_terminal(terminal.stdio)?));
        }
        Ok(all)
    }

    /// CRIU insists on the size that a file had. For host files it is dropped from floe's copy of the image: they go
    /// on where they were if their length is unchanged, else at their end.
    pub(crate) fn adapt(&self, scratch: &Scratch) -> Result<()> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let image = scratch.read("files.img")?;
        let changed = files::rewrite(&image, &mut |file| {
            let own =
                self.positions.iter().find(|(key, _)| file.path.trim_start_matches('/') == key.as_str());
            match own {
                Some((_, position)) => Change::HandedOver { position: position.unwrap_or(file.position) },
                None => Change::Keep,
            }
        })?;
        scratch.replace("files.img", &changed)
    }

    /// Whether one of them is the caller's standard output, under whatever number.
    pub(crate) fn holds_stdout(&self) -> bool {
        let Ok(own) = rustix::fs::fstat(rustix::stdio::stdout()) else { return false };
        let same = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino);
        self.fds.iter().any(|(_, fd)| rustix::fs::fstat(fd).is_ok_and(same))
    }

    /// Keys and descriptors, in the same order.
    pub(crate) fn into_parts(self) -> (Vec<String>, Vec<OwnedFd>) {
        self.fds.into_iter().unzip()
    }
}

/// A copy of one of our own streams.
fn stream(number: usize) -> Result<OwnedFd> {
    let copy = match number {
        0 => rustix::io::dup(rustix::stdio::stdin()),
        1 => rustix::io::dup(rustix::stdio::stdout()),
        _ => rustix::io::dup(rustix::stdio::stderr()),
    };
    copy.map_err(|source| Error::call("duplicate", format!("stream {number}"), source))
}

/// A terminal stands for a terminal: ours, if we have one.
fn own_terminal(stdio: Option<i32>) -> Result<OwnedFd> {
    let number = usize::try_from(stdio.unwrap_or(0)).unwrap_or(0);
    let own = stream(number)?;
    if rustix::termios::isatty(&own) {
        return Ok(own);
    }
    Err(Error::Unfit {
        what: format!("stream {number} of its first process was a terminal of the host, and floe's is none"),
        hint: "restore it from a terminal".to_owned(),
    })
}

/// Opens the file that stands for `file`: the one that this host's record names, else our own stream if that is a
/// file. Also says where to go on.
fn open(file: &OutsideFile, plan: &Plan, progress: &dyn Progress) -> Result<(OwnedFd, Option<u64>)> {
    if file.deleted {
        return unnamed(file, progress);
    }
    let known = plan.record.as_ref().and_then(|record| record.files.get(&file.key));
    let Some(path) = known else { return own_stream(file, progress) };
    let opened = open_as(path, file.flags, false).or_else(|error| {
        if error.kind() != std::io::ErrorKind::NotFound {
            return Err(error);
        }
        progress.warn(&format!("{} is gone; a new file takes its place", path.display()));
        open_as(path, file.flags, true)
    });
    let opened = opened.map_err(|source| Error::call("open", path, source))?;
    let meta = opened.metadata().map_err(|source| Error::call("stat", path, source))?;
    if !meta.is_file() {
        return Err(Error::Unfit {
            what: format!("{} was a regular file and is none now", path.display()),
            hint: "put a file there".to_owned(),
        });
    }
    let inode = plan.record.as_ref().and_then(|record| record.inodes.get(&file.key));
    let same = meta.len() == file.size && inode.is_none_or(|inode| *inode == meta.ino());
    if same {
        return Ok((OwnedFd::from(opened), None));
    }
    if file.flags & libc::O_APPEND == 0 {
        progress.warn(&format!(
            "{} is not as it was at the checkpoint; the container goes on at its end",
            path.display()
        ));
    }
    Ok((OwnedFd::from(opened), Some(meta.len())))
}

/// The flags of open(2) that the file had, without those that would empty or make it.
fn open_as(path: &Path, flags: i32, create: bool) -> std::io::Result<File> {
    let access = flags & libc::O_ACCMODE;
    let keep = flags
        & (libc::O_APPEND
            | libc::O_NONBLOCK
            | libc::O_SYNC
            | libc::O_DSYNC
            | libc::O_DIRECT
            | libc::O_NOATIME);
    OpenOptions::new()
        .read(access != libc::O_WRONLY)
        .write(access != libc::O_RDONLY || create)
        .create(create)
        .mode(0o640)
        .custom_flags(keep | libc::O_NOCTTY)
        .open(path)
}

/// A file that had no name any more at the checkpoint cannot be found again, and what it held is not in the snapshot.
fn unnamed(file: &OutsideFile, progress: &dyn Progress) -> Result<(OwnedFd, Option<u64>)> {
    if let Ok(own) = own_stream(file, progress) {
        return Ok(own);
    }
    let new = tempfile::tempfile().map_err(|source| Error::call("make", "an unnamed file", source))?;
    progress.warn("it had a deleted file of its host open; an empty one stands in its place");
    Ok((OwnedFd::from(new), Some(0)))
}

fn own_stream(file: &OutsideFile, progress: &dyn Progress) -> Result<(OwnedFd, Option<u64>)> {
    let unfit = || Error::Unfit {
        what: "it had a file of its host open, and this host has no record of which".to_owned(),
        hint: "redirect floe's own output to the file, or restore it on the host that it comes from"
            .to_owned(),
    };
    let number = usize::try_from(file.stdio.ok_or_else(unfit)?).unwrap_or(0);
    let own = File::from(stream(number)?);
    let meta = own.metadata().map_err(|source| Error::call("stat", format!("stream {number}"), source))?;
    if !meta.is_file() {
        return Err(unfit());
    }
    progress.warn(&format!("stream {number} of the container goes on in floe's own"));
    Ok((OwnedFd::from(own), Some(meta.len())))
}
