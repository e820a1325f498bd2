//! What the kernel tells of a cgroup's memory without being asked.
//!
//! Version 1 counts up an eventfd for what is registered in `cgroup.event_control`
//! (`Documentation/admin-guide/cgroup-v1/memory.rst`, sections 9 to 11). Version 2 marks its `*.events` files as modified,
//! for inotify(7), and lets a poll(2) of `memory.pressure` end when a trigger that was written there is met
//! (`Documentation/accounting/psi.rst`).

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::files;
use super::stats::Table;
use crate::error::{Error, Result};

/// What a [`Watch`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The kernel ended a process because the memory limit was met. Version 1 says so too when it let the process wait
    /// because of `disableOOMKiller`.
    OutOfMemory,
    /// There is as much memory pressure as was asked for.
    Pressure,
    /// The cgroup is gone, or on version 2 nothing runs in it any more; nothing else follows.
    Gone,
}

/// From which memory pressure on there is a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// A level of version 1.
    Level(PressureLevel),
    /// Version 2: processes waited for memory for `time` within any `window`, at most one notice each `window`.
    ///
    /// The window is from 500 milliseconds to 10 seconds; without CAP_SYS_RESOURCE it has to be a multiple of 2 seconds.
    Stall {
        /// Whose waiting counts.
        stall: Stall,
        /// How long they waited.
        time: Duration,
        /// Within which time.
        window: Duration,
    },
}

/// Levels of version 1's `memory.pressure_level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureLevel {
    /// Memory is being reclaimed for new allocations.
    Low,
    /// Some swapping or paging out of files goes on.
    Medium,
    /// The system is thrashing, or about to call the out-of-memory killer.
    Critical,
}

/// Whose waiting counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// That of any process.
    Some,
    /// Only the time in which all of them waited.
    Full,
}

impl PressureLevel {
    fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::Critical => "critical",
        }
    }
}

/// A registration for one kind of notice. It ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Version 1.
    Event { event: EventFd, notice: Notice },
    /// Version 2's `memory.events` and `cgroup.events`.
    Modified { inotify: Inotify, kills: u64 },
    /// Version 2's `memory.pressure`.
    Trigger(File),
}

impl Watch {
    /// Out of memory, in a directory of version 1's memory hierarchy.
    pub(super) fn v1_oom(dir: &Path) -> Result<Self> {
        Self::v1(dir, "memory.oom_control", "", Notice::OutOfMemory)
    }

    /// Memory pressure, in a directory of version 1's memory hierarchy.
    pub(super) fn v1_pressure(dir: &Path, pressure: Pressure) -> Result<Self> {
        match pressure {
            Pressure::Level(level) => Self::v1(dir, "memory.pressure_level", level.word(), Notice::Pressure),
            Pressure::Stall { .. } => Err(Error::Refused {
                problem: "version 1 of cgroups does not measure how long processes wait for memory"
                    .to_owned(),
                hint: "ask for a pressure level",
            }),
        }
    }

    fn v1(dir: &Path, file: &str, argument: &str, notice: Notice) -> Result<Self> {
        let path = dir.join(file);
        let watched = File::open(&path).map_err(Error::at("open", &path))?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(Error::at("eventfd", ""))?;
        let line = format!("{} {} {argument}", event.as_fd().as_raw_fd(), watched.as_raw_fd());
        files::write(dir, "cgroup.event_control", line.trim_end())?;
        Ok(Self { dir: dir.to_owned(), source: Source::Event { event, notice } })
    }

    /// Out of memory, in a directory of version 2.
    pub(super) fn v2_oom(dir: &Path) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(Error::at("inotify_init", ""))?;
        for file in ["memory.events", "cgroup.events"] {
            let path = dir.join(file);
            inotify
                .add_watch(&path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF)
                .map_err(Error::at("inotify_add_watch", &path))?;
        }
        let kills = kills(dir)?;
        Ok(Self { dir: dir.to_owned(), source: Source::Modified { inotify, kills } })
    }

    /// Memory pressure, in a directory of version 2.
    pub(super) fn v2_pressure(dir: &Path, pressure: Pressure) -> Result<Self> {
        let Pressure::Stall { stall, time, window } = pressure else {
            return Err(Error::Refused {
                problem: "version 2 of cgroups has no levels of memory pressure".to_owned(),
                hint: "ask for the time for which processes wait",
            });
        };
        let path = dir.join("memory.pressure");
        let mut file =
            File::options().read(true).write(true).open(&path).map_err(Error::at("open", &path))?;
        let stall = match stall {
            Stall::Some => "some",
            Stall::Full => "full",
        };
        let trigger = format!("{stall} {} {}", time.as_micros(), window.as_micros());
        // The kernel takes the end of the text from a zero byte.
        file.write_all(format!("{trigger}\0").as_bytes())
            .map_err(|source| Error::call("write", format!("`{trigger}` to {}", path.display()), source))?;
        Ok(Self { dir: dir.to_owned(), source: Source::Trigger(file) })
    }

    /// Waits for the next notice, without `timeout` for ever; `None` when that is over.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Notice>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let woken = self.poll(left)?;
            if !self.dir.exists() {
                return Ok(Some(Notice::Gone));
            }
            match woken.then(|| self.take()).transpose()?.flatten() {
                Some(notice) => return Ok(Some(notice)),
                None if left.is_some_and(|left| left.is_zero()) => return Ok(None),
                None => {}
            }
        }
    }

    fn poll(&self, timeout: Option<Duration>) -> Result<bool> {
        let (fd, flags): (BorrowedFd<'_>, PollFlags) = match &self.source {
            Source::Event { event, .. } => (event.as_fd(), PollFlags::POLLIN),
            Source::Modified { inotify, .. } => (inotify.as_fd(), PollFlags::POLLIN),
            Source::Trigger(file) => (file.as_fd(), PollFlags::POLLPRI),
        };
        // To the next millisecond, so that what is left doesn't become a loop without waiting; and not for ever, since a
        // cgroup of version 2 goes without a word.
        let most = Duration::from_secs(1);
        let timeout = timeout.unwrap_or(most).min(most) + Duration::from_micros(999);
        let milliseconds = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, flags)], milliseconds) {
            Ok(count) => Ok(count > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(Error::call("poll", "", errno)),
        }
    }

    /// What there is to be told after the descriptor became ready.
    fn take(&mut self) -> Result<Option<Notice>> {
        match &mut self.source {
            Source::Event { event, notice } => match event.read() {
                Ok(_) => Ok(Some(*notice)),
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
                Err(errno) => Err(Error::call("read", "eventfd", errno)),
            },
            Source::Modified { inotify, kills: seen } => {
                match inotify.read_events() {
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(Error::call("read", "inotify", errno)),
                }
                // First, so that the kill that ended the last process is told before its end.
                let now = kills(&self.dir)?;
                if now > *seen {
                    *seen = now;
                    return Ok(Some(Notice::OutOfMemory));
                }
                let events = Table::read(&self.dir, "cgroup.events")?;
                Ok(events.0.get("populated").filter(|populated| **populated == 0).map(|_| Notice::Gone))
            }
            Source::Trigger(_) => Ok(Some(Notice::Pressure)),
        }
    }
}

/// How many processes the out-of-memory killer has ended.
fn kills(dir: &Path) -> Result<u64> {
    Ok(Table::read(dir, "memory.events")?.get("oom_kill"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_modified_events_file_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        write("memory.events", "oom 0\noom_kill 1\n");
        write("cgroup.events", "populated 1\nfrozen 0\n");
        let mut watch = Watch::v2_oom(dir.path()).unwrap();
        let soon = Some(Duration::from_millis(20));
        assert_eq!(watch.wait(soon).unwrap(), None, "what was before is old");
        write("memory.events", "oom 5\noom_kill 1\n");
        assert_eq!(watch.wait(soon).unwrap(), None, "no process was ended");
        write("memory.events", "oom 5\noom_kill 2\n");
        assert_eq!(watch.wait(soon).unwrap(), Some(Notice::OutOfMemory));
        assert_eq!(watch.wait(soon).unwrap(), None);
        write("cgroup.events", "populated 0\nfrozen 0\n");
        assert_eq!(watch.wait(None).unwrap(), Some(Notice::Gone));
    }

    #[test]
    fn each_version_takes_its_own_pressure_only() {
        let dir = tempfile::tempdir().unwrap();
        let second = Duration::from_secs(1);
        let stall = Pressure::Stall { stall: Stall::Some, time: second, window: second };
        let level = Pressure::Level(PressureLevel::Low);
        assert!(matches!(Watch::v1_pressure(dir.path(), stall), Err(Error::Refused { .. })));
        assert!(matches!(Watch::v2_pressure(dir.path(), level), Err(Error::Refused { .. })));
    }
}
