//! The fifo at which a container's first process waits for `start`.
//!
//! Opening a fifo for writing waits until somebody opens it for reading (`fifo(7)`): that is all there is to it. It
//! needs no process of floe to stay between `create` and `start`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::error::{Error, Result};

/// Name of the fifo in a container's folder at which the first process waits for `start`.
pub const EXEC_FIFO: &str = "exec.fifo";

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
/// ends, instead of opening it.
pub fn open_exec_fifo(state_dir: &Path, init: Pid) -> Result<()> {
    let path = state_dir.join(EXEC_FIFO);
    let ended = || Error::start(format!("process {init} has ended before it was started"));
    let pidfd = match pidfd(init) {
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
        // Looked at in this order: what it wrote before it ended is there then.
        let has_ended = has_ended(&pidfd);
        if byte_came(&fifo, &path)? {
            break;
        }
        if has_ended {
            return Err(ended());
        }
        let mut either = [PollFd::new(&fifo, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut either, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::call("poll", path.display(), error)),
        }
    }
    std::fs::remove_file(&path).map_err(Error::at("remove", &path))
}

/// The fifo as the child gets it: its root will be another one when it opens it.
pub(super) fn for_child(state_dir: &Path) -> Result<OwnedFd> {
    let path = state_dir.join(EXEC_FIFO);
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, &path, flags, Mode::empty()).map_err(Error::at("open", &path))
}

/// A descriptor of a process that becomes readable when it has ended.
pub(super) fn pidfd(pid: Pid) -> Result<OwnedFd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}

/// Whether that process has ended.
pub(super) fn has_ended(pidfd: impl AsFd) -> bool {
    let mut one = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut one, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

fn byte_came(fifo: &OwnedFd, path: &Path) -> Result<bool> {
    match rustix::io::read(fifo, &mut [0u8; 1]) {
        Ok(length) => Ok(length > 0),
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(Error::call("read", path.display(), error)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
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
        let writer = std::thread::spawn(move || std::fs::write(path, [0]).unwrap());
        open_exec_fifo(dir.path(), id(&child)).unwrap();
        writer.join().unwrap();
        assert!(matches!(open_exec_fifo(dir.path(), id(&child)), Err(Error::Missing { .. })));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_quickly_over_was_started() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            make_exec_fifo(dir.path()).unwrap();
            let script = format!("echo -n 0 > {}", dir.path().join(EXEC_FIFO).display());
            let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
            open_exec_fifo(dir.path(), id(&child)).unwrap();
            child.wait().unwrap();
        }
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
