//! Where a snapshot flows to.
//!
//! ```text
//!   Destination ─ begin ─► Sink ─ members … ─ complete ─► Complete ─ publish ─► Sealed
//! ```

use std::fmt::Debug;

use crate::archive_file::{Sealed, WriterOptions};
use crate::error::Result;
use crate::manifest::{Head, Manifest};
use crate::name::MemberName;

/// A place that snapshots can be written to.
pub trait Destination: Debug + Sync {
    /// Begins a snapshot there, with `head` as its first member. It is seen by nobody until it is published.
    ///
    /// # Errors
    /// As the place has them: no space, no permission.
    fn begin(&self, head: &Head, options: WriterOptions) -> Result<Box<dyn Sink>>;

    /// Removes a snapshot that was published and has become untrue: the container that it was to stand for lives on.
    ///
    /// # Errors
    /// As [`Destination::begin`].
    fn take_back(&self, sealed: &Sealed) -> Result<()>;
}

/// Takes the members of a snapshot in the order in which they come. Dropped, nothing of it is left.
pub trait Sink: Send + Debug {
    /// Takes memory for about `bytes` that are to come, as far as the budget allows, so that a sender who must not wait
    /// does not wait for it. `cancelled` is asked often.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if there is none.
    fn reserve(&self, _bytes: u64, _cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        Ok(())
    }

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

    /// Ends the snapshot with its manifest, and makes sure that it lasts.
    ///
    /// # Errors
    /// As [`Sink::room`]; nothing is left then.
    fn complete(self: Box<Self>, manifest: Manifest) -> Result<Box<dyn Complete>>;
}

/// A snapshot that is written and safe, and that nobody sees yet. Dropped, it is gone.
pub trait Complete: Send + Debug {
    /// What it will be.
    fn sealed(&self) -> &Sealed;

    /// Gives it its name, replacing what had it.
    ///
    /// # Errors
    /// As the place has them; nothing is left under the name that was not there before.
    fn publish(self: Box<Self>) -> Result<Sealed>;
}
