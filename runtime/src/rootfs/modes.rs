//! The modes of what is made in the container.

use nix::sys::stat::{Mode, umask};

/// While this lives, new files have exactly the mode that they are given: the caller's mask would keep a container's user
/// from folders that a mount is in. Programs that run meanwhile would inherit it, so it lives for one thing at a time.
///
/// The mask is the process's: only for one that has a single thread. `umask(2)`.
#[derive(Debug)]
pub(super) struct ExactModes(Mode);

impl ExactModes {
    pub(super) fn begin() -> Self {
        Self(umask(Mode::empty()))
    }
}

impl Drop for ExactModes {
    fn drop(&mut self) {
        umask(self.0);
    }
}
