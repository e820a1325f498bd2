//! The fifo at which a container's first process waits for `start`.
//!
//! Opening a fifo for writing waits until somebody opens it for reading (`fifo(7)`): that is all there is to it. It
//! needs no process of floe to stay between `create` and `start`. The process holds its end open until `execve(2)`
//! closes it, which `start` sees as a hang-up; a `start` that is killed after it has opened the fifo has started the
//! container all the same.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::pidfd;

/// Name of the fifo in a container's folder at which the first process waits for `start`.
pub const EXEC_FIFO: &str = "exec.fifo";

/// Longest words that are said through the fifo (`PIPE_BUF`).
const WORDS: usize = 4096;

/// How often it is looked whether the process still waits: no event tells of somebody else's start.
const LOOK_AGAIN: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Makes the fifo.
///
/// # Errors
/// [`Error::Call`].
pub fn make_exec_fifo(state_dir: &Path) -> Result<()> {
    let path = state_dir.join(EXEC_FIFO);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o622);
    nix::unistd::mkfifo(&path, mode).map_err(Error::at("mkfifo", &path))?;
    // The umask is not to take the writers' bit away: the process opens it as the container's user.
    nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, &path, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
        .map_err(Error::at("chmod", &path))
}

/// Lets the first process, `init`, go on from the fifo in `state_dir` to its program, and removes the fifo.
///
/// # Errors
/// [`Error::Missing`] when there is no fifo: it has been started already. [`Error::Child`] when `init` has ended, or
/// ends, instead of opening it, or says what keeps it from going on.
pub fn open_exec_fifo(state_dir: &Path, init: Pid) -> Result<()> {
    let path = state_dir.join(EXEC_FIFO);
    let ended = || Error::start(format!("process {init} has ended before it was started"));
    let pidfd = match pidfd::open(init) {
        Err(Errno::SRCH) => return Err(ended()),
        other => other.map_err(Error::at("pidfd_open", init.to_string()))?,
    };
    // Without O_NONBLOCK this would wait for ever for a process that has been killed.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fifo = match openat(CWD, &path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(Error::Missing { what: "exec fifo", path }),
        other => other.map_err(Error::at("open", &path))?,
    };
    loop {
        let mut either = [PollFd::new(&fifo, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut either, Some(&LOOK_AGAIN)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::call("poll", path.display(), error)),
        }
        // A process that has started and ended has hung up too, so this is looked at first.
        if either[0].revents().intersects(PollFlags::HUP | PollFlags::IN) {
            break;
        }
        if !either[1].revents().is_empty() {
            return Err(ended());
        }
        if !is_ours_still(init) {
            // Somebody else's `start` opened the fifo before us and was killed before it removed it.
            break;
        }
    }
    std::fs::remove_file(&path).map_err(Error::at("remove", &path))?;
    let mut words = vec![0; WORDS];
    match rustix::io::read(&fifo, &mut words) {
        Ok(length @ 1..) => Err(Error::start(String::from_utf8_lossy(&words[..length]))),
        _ => Ok(()),
    }
}

/// Says to the `start` at the other end of the fifo what keeps the process from going on to its program. It ends then.
pub(crate) fn fail_at(fifo: BorrowedFd<'_>, words: &str) {
    // A write of this size is one piece (pipe(7)). If nobody listens any more, SIGPIPE ends the process, as it would
    // have ended anyway.
    let _ = rustix::io::write(fifo, &words.as_bytes()[..words.len().min(WORDS)]);
}

/// The fifo as the child gets it: its root will be another one when it opens it.
pub(super) fn for_child(state_dir: &Path) -> Result<OwnedFd> {
    let path = state_dir.join(EXEC_FIFO);
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, &path, flags, Mode::empty()).map_err(Error::at("open", &path))
}

/// Whether a container's first process waits at the fifo: it is there, and no program has been executed. A `start` that
/// was killed may have left the fifo behind.
pub(crate) fn waits_for_start(state_dir: &Path, init: Pid) -> bool {
    state_dir.join(EXEC_FIFO).exists() && is_ours_still(init)
}

/// Whether the process runs floe's own code.
fn is_ours_still(init: Pid) -> bool {
    let name = std::fs::read(format!("/proc/{init}/comm")).unwrap_or_default();
    name.strip_suffix(b"\n") == Some(crate::init::NAME.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// A process with the name of one that waits.
    fn sleeper() -> std::process::Child {
        let script = "printf floe:init > /proc/self/comm; read line";
        let child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        while !is_ours_still(id(&child)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    fn id(child: &std::process::Child) -> Pid {
        Pid::from_raw(i32::try_from(child.id()).unwrap())
    }

    #[test]
    fn who_opens_the_other_end_is_met_once() {
        let dir = tempfile::tempdir().unwrap();
        make_exec_fifo(dir.path()).unwrap();
        let path = dir.path().join(EXEC_FIFO);
        let mut child = sleeper();
        let writer =
            std::thread::spawn(move || drop(std::fs::File::options().write(true).open(path).unwrap()));
        open_exec_fifo(dir.path(), id(&child)).unwrap();
        writer.join().unwrap();
        assert!(matches!(open_exec_fifo(dir.path(), id(&child)), Err(Error::Missing { .. })));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_keeps_it_from_going_on_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        make_exec_fifo(dir.path()).unwrap();
        let path = dir.path().join(EXEC_FIFO);
        let mut child = sleeper();
        let writer = std::thread::spawn(move || {
            let end = std::fs::File::options().write(true).open(path).unwrap();
            fail_at(end.as_fd(), &"no luck".repeat(1000));
        });
        let error = open_exec_fifo(dir.path(), id(&child)).unwrap_err().to_string();
        assert!(error.contains("no luck") && error.len() <= 2 * WORDS, "{error}");
        writer.join().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_quickly_over_was_started() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            make_exec_fifo(dir.path()).unwrap();
            let script = format!(": > {}", dir.path().join(EXEC_FIFO).display());
            let script = format!("printf floe:init > /proc/self/comm; {script}");
            let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
            open_exec_fifo(dir.path(), id(&child)).unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn one_that_somebody_else_started_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        make_exec_fifo(dir.path()).unwrap();
        let script = "printf floe:init > /proc/self/comm; read line; exec sleep 60";
        let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = id(&child);
        std::thread::scope(|scope| {
            while !waits_for_start(dir.path(), pid) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let start = scope.spawn(|| open_exec_fifo(dir.path(), pid));
            std::thread::sleep(Duration::from_millis(20));
            // Without ever touching the fifo, as it looks to one who comes second.
            drop(child.stdin.take());
            start.join().unwrap().unwrap();
        });
        assert!(!waits_for_start(dir.path(), pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_dies_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        make_exec_fifo(dir.path()).unwrap();
        let mut child = sleeper();
        let pid = id(&child);
        std::thread::scope(|scope| {
            let start = scope.spawn(|| open_exec_fifo(dir.path(), pid));
            std::thread::sleep(Duration::from_millis(50));
            child.kill().unwrap();
            assert!(start.join().unwrap().unwrap_err().to_string().contains("ended before it was started"));
        });
        child.wait().unwrap();
        assert!(dir.path().join(EXEC_FIFO).exists());
        assert!(open_exec_fifo(dir.path(), pid).is_err(), "gone before");
    }
}
