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

    /// Begins a member that grows, by what is put into its [`Sink::room`], until [`Sink::end`].
    ///
    /// # Errors
    /// As [`Sink::add`]; [`crate::Error::Misuse`] if one is open.
    fn begin(&mut self, name: &MemberName, mode: u32) -> Result<()>;

    /// Where the next bytes of the open member go, to stay there until they are compressed; never empty. Blocks while
    /// more waits than the place's budget allows.
    ///
    /// # Errors
    /// As [`Sink::add`], also for bytes that were taken before.
    fn room(&mut self) -> Result<&mut [u8]>;

    /// Takes the first `count` bytes of the last room as the member's.
    ///
    /// # Errors
    /// [`crate::Error::Misuse`] if no member is open.
    fn advance(&mut self, count: usize) -> Result<()>;

    /// Adds bytes that lie elsewhere to the open member.
    ///
    /// # Errors
    /// As [`Sink::room`].
    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            self.advance(now.len())?;
            bytes = later;
        }
        Ok(())
    }

    /// Ends the open member.
    ///
    /// # Errors
    /// As [`Sink::room`].
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
