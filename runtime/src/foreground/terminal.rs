//! Between the caller's terminal and the container's.

use std::io::{self, IsTerminal, Read, Write, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::{poll_all, readable};
use crate::error::{Error, Result};

/// How much is carried at once. A terminal's own buffer is 4 KiB.
const CHUNK: usize = 8192;

/// Carries bytes both ways. Dropped, the caller's terminal is as it was before.
#[derive(Debug)]
pub(super) struct Relay {
    master: std::fs::File,
    /// What was typed and not yet taken by the container.
    typed: Vec<u8>,
    input_open: bool,
    output_open: bool,
    _raw: Option<Raw>,
}

impl Relay {
    /// Makes the caller's terminal raw, so that every key reaches the container, and gives the container its size.
    /// Where standard input is no terminal, bytes are carried all the same.
    pub(super) fn start(master: OwnedFd) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master).map_err(Error::at("fcntl", "the terminal"))?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)
            .map_err(Error::at("fcntl", "the terminal"))?;
        let raw = if stdin().is_terminal() { Some(Raw::start()?) } else { None };
        let relay =
            Self { master: master.into(), typed: Vec::new(), input_open: true, output_open: true, _raw: raw };
        relay.copy_size();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's; without one it keeps its own.
    pub(super) fn copy_size(&self) {
        if let Ok(size) = tcgetwinsize(stdin())
            && let Err(errno) = tcsetwinsize(&self.master, size)
        {
            tracing::debug!("the terminal's size: {errno}");
        }
    }

    /// Carries what there is, and returns as soon as `signals` has something.
    pub(super) fn serve(&mut self, signals: BorrowedFd<'_>) -> Result<()> {
        loop {
            let input = stdin();
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::POLLIN, self.output_open);
            wanted.set(PollFlags::POLLOUT, !self.typed.is_empty());
            let mut fds = vec![readable(signals, true)];
            // A descriptor that is closed reports so at once and without end; it is left out.
            let master = self.output_open.then(|| {
                fds.push(PollFd::new(self.master.as_fd(), wanted));
                fds.len() - 1
            });
            let keys = (self.input_open && self.typed.is_empty()).then(|| {
                fds.push(readable(input.as_fd(), true));
                fds.len() - 1
            });
            poll_all(&mut fds)?;
            let events = |place: Option<usize>| {
                place.and_then(|place| fds.get(place)?.revents()).unwrap_or(PollFlags::empty())
            };
            let (signalled, output, typed) = (events(Some(0)), events(master), events(keys));
            drop(fds);
            if output.contains(PollFlags::POLLOUT) {
                self.give_typed()?;
            }
            if output.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                self.show()?;
            }
            if !typed.is_empty() {
                self.take_typed()?;
            }
            if !signalled.is_empty() {
                return Ok(());
            }
        }
    }

    /// The process has ended: what it still wrote is shown.
    pub(super) fn finish(mut self) -> Result<()> {
        while self.output_open && self.show()? {}
        Ok(())
    }

    /// Shows one chunk; `false` if there is none now. `EIO` is how Linux says that nobody has the other side open.
    fn show(&mut self) -> Result<bool> {
        let mut chunk = [0; CHUNK];
        match self.master.read(&mut chunk) {
            Ok(0) => self.output_open = false,
            Ok(count) => {
                let mut out = stdout().lock();
                out.write_all(&chunk[..count])
                    .and_then(|()| out.flush())
                    .map_err(Error::at("write", "stdout"))?;
                return Ok(true);
            }
            Err(error) if is_later(&error) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => self.output_open = false,
            Err(error) => return Err(Error::call("read", "the container's terminal", error)),
        }
        Ok(false)
    }

    fn take_typed(&mut self) -> Result<()> {
        let mut chunk = [0; CHUNK];
        // Not through std's buffer: what is buffered there would not be seen by poll(2).
        match rustix::io::read(stdin(), &mut chunk) {
            Ok(0) | Err(rustix::io::Errno::IO) => self.input_open = false,
            Ok(count) => self.typed.extend_from_slice(&chunk[..count]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(Error::call("read", "stdin", errno)),
        }
        Ok(())
    }

    fn give_typed(&mut self) -> Result<()> {
        match self.master.write(&self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(error) if is_later(&error) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => self.typed.clear(),
            Err(error) => return Err(Error::call("write", "the container's terminal", error)),
        }
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The caller's terminal in raw mode, and how it was before.
struct Raw(Termios);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl Raw {
    fn start() -> Result<Self> {
        let before = tcgetattr(stdin()).map_err(Error::at("tcgetattr", "stdin"))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw).map_err(Error::at("tcsetattr", "stdin"))?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(errno) = tcsetattr(stdin(), OptionalActions::Flush, &self.0) {
            tracing::warn!("the terminal could not be set back: {errno}; `stty sane` does it");
        }
    }
}
