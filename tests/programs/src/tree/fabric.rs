//! What the first process makes for all, before it forks: each takes its ends, and drops the others.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe2;

use super::Settings;
use super::sysv::Objects;
use crate::sys::{Mapping, SharedMutex};

/// Anonymous shared areas, each written by the node of its number and read by every eighth.
pub const AREAS: usize = 8;
/// Bytes of one of them.
pub const AREA: usize = 192 * 1024;
/// Files in memory, each written by the node of its number and read by every sixteenth.
pub const MEMORY_FILES: usize = 4;
/// Bytes of one of them.
pub const MEMORY_FILE: usize = 96 * 1024;
/// Files that were opened once, and whose offset is everybody's.
pub const COMMON_FILES: usize = 4;

/// The shared things.
#[derive(Debug)]
pub struct Fabric {
    /// The pipe from each node to the next: its end for reading, taken by the next, and for writing.
    pub pipes: Vec<(Option<OwnedFd>, Option<OwnedFd>)>,
    /// The socket pair of each node of the lower half with its partner of the upper half.
    pub pairs: Vec<[Option<OwnedFd>; 2]>,
    /// Anonymous shared memory.
    pub areas: Vec<Mapping>,
    /// Files that exist in memory only, and their mappings.
    pub memory_files: Vec<(File, Mapping)>,
    /// Descriptions that several processes hold.
    pub common: Vec<File>,
    /// System V objects.
    pub objects: Objects,
    /// A mutex that one node holds and another waits for.
    pub mutex: SharedMutex,
    /// Words beside the mutex: how often it was passed on, and whose turn it is.
    pub turns: Mapping,
}

/// The kind of socket pair that a node of the lower half has.
#[must_use]
pub fn pair_kind(pair: usize) -> SockType {
    [SockType::Stream, SockType::Datagram, SockType::SeqPacket][pair % 3]
}

impl Fabric {
    /// Makes everything.
    ///
    /// # Errors
    /// The kernel's, most likely a limit on open files.
    pub fn new(settings: &Settings) -> Result<Self> {
        let nodes = settings.nodes;
        let pipes = (0..nodes).map(|node| pipe(node).context("pipe")).collect::<Result<_>>()?;
        let pairs = (0..nodes / 2).map(|node| pair(node).context("socketpair")).collect::<Result<_>>()?;
        let areas = (0..AREAS).map(|_| Ok(Mapping::shared(AREA)?)).collect::<Result<_>>()?;
        let memory_files = (0..MEMORY_FILES).map(memory_file).collect::<Result<_>>()?;
        let common = (0..COMMON_FILES)
            .map(|number| {
                super::files::create(&settings.folder.join(format!("common-{number}")), OFlag::O_RDWR)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            pipes,
            pairs,
            areas,
            memory_files,
            common,
            objects: Objects::new().context("System V objects")?,
            mutex: SharedMutex::new()?,
            turns: Mapping::shared(4096)?,
        })
    }
}

fn pipe(node: usize) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let cloexec = if node.is_multiple_of(2) { OFlag::O_CLOEXEC } else { OFlag::empty() };
    let (read, write) = pipe2(OFlag::O_NONBLOCK | cloexec)?;
    if let Some(size) = super::channels::pipe_size(node) {
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(size))?;
    }
    Ok((Some(read), Some(write)))
}

fn pair(node: usize) -> Result<[Option<OwnedFd>; 2]> {
    let (low, high) = socketpair(AddressFamily::Unix, pair_kind(node), None, SockFlag::SOCK_NONBLOCK)?;
    Ok([Some(low), Some(high)])
}

fn memory_file(number: usize) -> Result<(File, Mapping)> {
    let file: File = memfd_create(format!("shared {number}").as_str(), MFdFlags::MFD_ALLOW_SEALING)?.into();
    file.set_len(MEMORY_FILE as u64)?;
    if number % 2 == 1 {
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW))?;
    }
    let mapping = Mapping::shared_file(std::os::fd::AsFd::as_fd(&file), MEMORY_FILE)?;
    Ok((file, mapping))
}
