//! How a caller asks running work to stop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Error, Result};

/// A request to stop, shared between a signal handler's thread and the work. It wakes whoever polls it, and it
/// stays raised.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    raised: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// A token that nobody has raised yet.
    ///
    /// # Errors
    /// [`Error::Call`] if the process has no descriptor left (eventfd(2)).
    pub fn new() -> Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|source| Error::call("eventfd", "", source))?;
        Ok(Self(Arc::new(Inner { raised: AtomicBool::new(false), event })))
    }

    /// Asks the work to stop at the next place where the container can be left as it was.
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::SeqCst);
        // The counter only overflows after 2^64 raises; a full one is readable anyway.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Whether somebody asked to stop.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// Readable once the token is raised; for poll(2).
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn a_raised_token_wakes_a_poller_and_stays_raised() {
        let token = Cancel::new().unwrap();
        assert!(!token.is_raised());
        token.clone().raise();
        let mut fds = [PollFd::from_borrowed_fd(token.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap(), 1);
        assert!(token.is_raised());
    }
}
