//! The freezer of version 2: `cgroup.freeze`, Linux 5.2.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cgroup::files;
use crate::error::{Error, Result};

const FREEZE: &str = "cgroup.freeze";

/// As for version 1: milliseconds as a rule, without end when a process is in uninterruptible sleep.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn freeze(dir: &Path) -> Result<()> {
    try_freeze(dir).inspect_err(|_| {
        if let Err(error) = thaw(dir) {
            tracing::warn!("after a failed freeze: {error}");
        }
    })
}

fn try_freeze(dir: &Path) -> Result<()> {
    files::write(dir, FREEZE, "1")?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    while !reports_frozen(dir)? {
        if Instant::now() > deadline {
            let state = "frozen 0".to_owned();
            return Err(Error::FreezeTimeout { path: dir.to_owned(), seconds: PATIENCE.as_secs(), state });
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Ok(())
}

/// The kernel's own word that every process has stopped. A cgroup without processes reports frozen at once.
fn reports_frozen(dir: &Path) -> Result<bool> {
    Ok(files::read(dir, "cgroup.events")?.lines().any(|line| line == "frozen 1"))
}

pub(super) fn thaw(dir: &Path) -> Result<()> {
    match files::write(dir, FREEZE, "0") {
        Err(error) if files::is_gone(&error) => Ok(()),
        other => other,
    }
}

pub(super) fn is_frozen(dir: &Path) -> Result<bool> {
    Ok(files::read_if_there(dir, FREEZE)?.is_some_and(|value| value == "1"))
}
