//! Where a snapshot flows to, and who hears of it.

use crate::error::Result;
use crate::name::MemberName;

/// A place that takes the members of a snapshot in the order in which they come.
pub trait Sink: Send + std::fmt::Debug {
    /// A member whose content is known.
    ///
    /// # Errors
    /// As the place has them: no space, no permission.
    fn add(&mut self, name: &MemberName, mode: u32, content: &[u8]) -> Result<()>;

    /// A folder.
    ///
    /// # Errors
    /// As [`Sink::add`].
    fn add_directory(&mut self, name: &MemberName, mode: u32) -> Result<()>;

    /// Begins a member that grows with [`Sink::push`] until [`Sink::end`].
    ///
    /// # Errors
    /// As [`Sink::add`]; [`crate::Error::Misuse`] if one is open.
    fn begin(&mut self, name: &MemberName, mode: u32) -> Result<()>;

    /// An empty buffer, whose capacity is the largest piece that [`Sink::push`] takes.
    fn buffer(&mut self) -> Vec<u8>;

    /// Takes a piece over without copying it. Blocks while more waits than the place's budget allows.
    ///
    /// # Errors
    /// As [`Sink::add`], also for pieces that were taken before.
    fn push(&mut self, piece: Vec<u8>) -> Result<()>;

    /// Ends the open member.
    ///
    /// # Errors
    /// As [`Sink::push`].
    fn end(&mut self) -> Result<()>;
}

/// Hears how far long work is, and may stop it.
pub trait Progress: Sync {
    /// `done` of `total` plain bytes are through.
    fn bytes(&self, _done: u64, _total: u64) {}

    /// Whether to stop; asked often.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Hears nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unheard;

impl Progress for Unheard {}
