//! Counters, signal descriptors and epoll: descriptors that are ready, or not, for a reason.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{getpid, pipe2};

use super::{Node, Part};
use crate::report::Report;
use crate::seed;
use crate::sys;

/// Makes what belongs to a node.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    match node.index % 7 {
        0 => parts.push(Box::new(Watcher::new(node.index)?)),
        3 => parts.push(Box::new(Counter::new(node.index)?)),
        5 => parts.push(Box::new(SignalDescriptor::new()?)),
        _ => {}
    }
    Ok(())
}

/// A counter of 32 bits, not a semaphore: CRIU 4.1 restores neither the upper half nor the kind.
struct Counter {
    event: EventFd,
    label: String,
}

impl Counter {
    fn new(index: usize) -> Result<Self> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { event, label: format!("counter {index}") })
    }

    fn value(&self, round: u32) -> u64 {
        1 + seed::number(&self.label, round) % (1 << 31)
    }
}

impl Part for Counter {
    fn look(&mut self, round: u32, report: &mut Report) {
        if let Some(found) = report.works(&self.label, self.event.read()) {
            report.same(&self.label, &self.value(round), &found);
        }
        report.same(format!("end of {}", self.label), &Err(Errno::EAGAIN), &self.event.read());
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        self.event.write(self.value(round))?;
        Ok(())
    }
}

/// A descriptor that a pending signal makes ready.
struct SignalDescriptor {
    descriptor: SignalFd,
}

impl SignalDescriptor {
    /// A signal that nothing else here uses.
    const SIGNAL: Signal = Signal::SIGWINCH;

    fn new() -> Result<Self> {
        let mut set = SigSet::empty();
        set.add(Self::SIGNAL);
        Ok(Self { descriptor: SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)? })
    }
}

impl Part for SignalDescriptor {
    fn look(&mut self, round: u32, report: &mut Report) {
        if let Some(found) = report.works("signal descriptor", self.descriptor.read_signal()) {
            let found = found.map(|signal| (signal.ssi_signo, signal.ssi_pid, signal.ssi_int));
            let expected = (Self::SIGNAL as u32, getpid().as_raw().cast_unsigned(), round.cast_signed());
            report.same("signal descriptor", &Some(expected), &found);
        }
        if let Some(found) = report.works("signal descriptor", self.descriptor.read_signal()) {
            report.holds("a signal descriptor has one signal only", found.is_none());
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        Ok(sys::queue(getpid(), Self::SIGNAL as i32, round as usize)?)
    }
}

/// An epoll of a pipe that is ready, another that is not, and an epoll within.
struct Watcher {
    epoll: Epoll,
    _inner: Epoll,
    read: File,
    write: File,
    _quiet: (OwnedFd, OwnedFd),
    data: u64,
}

impl Watcher {
    fn new(index: usize) -> Result<Self> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let (read, write) = pipe2(flags)?;
        let quiet = pipe2(flags)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let inner = Epoll::new(EpollCreateFlags::empty())?;
        let data = seed::number("epoll", index as u32);
        epoll.add(&read, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, data))?;
        epoll.add(&quiet.0, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, data + 1))?;
        inner.add(&read, EpollEvent::new(EpollFlags::EPOLLIN, data + 2))?;
        epoll.add(&inner.0, EpollEvent::new(EpollFlags::EPOLLIN, data + 3))?;
        Ok(Self { epoll, _inner: inner, read: read.into(), write: write.into(), _quiet: quiet, data })
    }

    fn ready(&self) -> Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 8];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        let mut ready: Vec<u64> = events[..count].iter().map(EpollEvent::data).collect();
        ready.sort_unstable();
        Ok(ready)
    }
}

impl Part for Watcher {
    fn look(&mut self, _round: u32, report: &mut Report) {
        if let Some(found) = report.works("epoll", self.ready()) {
            report.same("what epoll finds ready", &vec![self.data, self.data + 3], &found);
        }
        let mut found = [0; 3];
        if report.works("watched pipe", self.read.read_exact(&mut found)).is_some() {
            report.content("watched pipe", b"abc", &found);
        }
        let rest = self.read.read(&mut [0]).map_err(|error| error.kind());
        report.same("end of a watched pipe", &Err(ErrorKind::WouldBlock), &rest);
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        self.write.write_all(b"abc").context("write to a watched pipe")
    }
}
