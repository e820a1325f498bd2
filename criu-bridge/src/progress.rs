//! What a caller may show while a checkpoint or a restore runs.

use std::fmt;

/// A step of a checkpoint or a restore, named when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Checkpoint: the container's configuration, mounts, descriptors and sockets are read. It runs.
    Collect,
    /// Checkpoint: the process tree is stopped and taken hold of.
    Freeze,
    /// Checkpoint: memory arrives from CRIU. The tree is stopped.
    DumpPages,
    /// Checkpoint: the archive is completed, synced and named.
    Seal,
    /// Restore: the snapshot is verified and unpacked. Nothing was started.
    Unpack,
    /// Restore: the process tree is forked.
    ForkTree,
    /// Restore: namespaces, mounts and open files are made again.
    FilesAndNamespaces,
    /// Restore: memory, timers, credentials and threads are put back.
    MemoryAndThreads,
    /// Restore: the tasks run.
    Resume,
}

impl Phase {
    /// The name that users and tests read.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Collect => "collect",
            Phase::Freeze => "freeze",
            Phase::DumpPages => "dump pages",
            Phase::Seal => "seal",
            Phase::Unpack => "unpack",
            Phase::ForkTree => "fork tree",
            Phase::FilesAndNamespaces => "files and namespaces",
            Phase::MemoryAndThreads => "memory and threads",
            Phase::Resume => "resume",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hears how far the work is. Every method has a default that does nothing.
pub trait Progress: std::fmt::Debug + Send + Sync {
    /// A phase begins; the one before it is over.
    fn phase(&self, _phase: Phase) {}
    /// `done` bytes of the current phase's work are through, out of `total` where that is known.
    fn bytes(&self, _done: u64, _total: Option<u64>) {}
    /// Something that the user should know and that is no failure.
    fn warn(&self, _message: &str) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
