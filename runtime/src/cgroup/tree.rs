//! What both versions do with a cgroup's directory and those below it: list, end, remove.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::files;
use crate::error::{Error, Result};

/// How long killed processes may take to disappear, and a busy directory to become free. A process that was dumping
/// gigabytes of memory needs seconds to give them back.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory and all below it, the deepest first. Empty when it doesn't exist.
pub(super) fn directories(top: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::call("read", top.display(), error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        // Something that goes away between listing and looking is gone, which is all that is wanted.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(directories(&entry.path())?);
        }
    }
    found.push(top.to_owned());
    Ok(found)
}

/// The processes in `top` and below it.
pub(super) fn processes(top: &Path) -> Result<BTreeSet<Pid>> {
    let mut pids = BTreeSet::new();
    for dir in directories(top)? {
        let text = match files::read_if_there(&dir, "cgroup.procs") {
            // A threaded cgroup of version 2 knows threads only.
            Err(error) if files::is(&error, Errno::EOPNOTSUPP) => threads(&dir)?,
            other => other?,
        };
        // A process of a pid namespace that isn't ours or below ours is listed as 0; there is no way to name it.
        let listed = text.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse().ok());
        pids.extend(listed.filter(|pid| *pid > 0).map(Pid::from_raw));
    }
    Ok(pids)
}

/// The processes whose threads are in a threaded cgroup, one a line.
fn threads(dir: &Path) -> Result<Option<String>> {
    let Some(threads) = files::read_if_there(dir, "cgroup.threads")? else { return Ok(None) };
    let process_of = |thread: &str| {
        // Every thread has a folder of its own, even though they are not listed.
        let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        Some(format!("{}\n", line.trim()))
    };
    Ok(Some(threads.lines().filter_map(process_of).collect()))
}

/// Sends SIGKILL to what `list` gives until it gives nothing. `around` is given each round to do its killing within:
/// frozen, so that nothing can fork away.
pub(super) fn kill_until_empty(
    path: &Path,
    list: &dyn Fn() -> Result<BTreeSet<Pid>>,
    round: &dyn Fn(&BTreeSet<Pid>) -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let pids = list()?;
        if pids.is_empty() {
            return Ok(());
        }
        if pids.contains(&Pid::this()) || pids.contains(&Pid::from_raw(1)) {
            return Err(Error::Refused {
                problem: format!("cgroup {} has floe itself or the host's init in it", path.display()),
                hint: "run floe from another cgroup; it would end itself together with the container",
            });
        }
        if Instant::now() > deadline {
            let pids = pids.iter().map(|pid| pid.as_raw()).collect();
            return Err(Error::KillTimeout { path: path.to_owned(), seconds: PATIENCE.as_secs(), pids });
        }
        round(&pids)?;
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// SIGKILL to each; one that has ended is fine.
pub(super) fn kill_each(pids: &BTreeSet<Pid>) -> Result<()> {
    for pid in pids {
        match kill(*pid, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::call("kill", format!("process {pid}"), errno)),
        }
    }
    Ok(())
}

/// Removes `top` and everything below it. A process that is just ending keeps its directory busy for a moment.
pub(super) fn remove(top: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        match remove_once(top) {
            Err(Error::Call { source, .. })
                if is_busy(&source) && Instant::now() < deadline && no_process(top) =>
            {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            other => return other,
        }
    }
}

fn remove_once(top: &Path) -> Result<()> {
    for dir in directories(top)? {
        match fs::remove_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::call("rmdir", dir.display(), error)),
        }
    }
    Ok(())
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EBUSY | nix::libc::ENOTEMPTY))
}

/// Waiting for a directory is worth it only while nobody lives in it. Right after a kill the list is empty and the
/// directory still busy; a list that stays filled does not get better by waiting.
fn no_process(top: &Path) -> bool {
    processes(top).is_ok_and(|pids| pids.is_empty())
}
