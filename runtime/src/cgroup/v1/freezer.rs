//! The freezer of version 1, `Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst`.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cgroup::files;
use crate::error::{Error, Result};

const STATE: &str = "freezer.state";

/// How long a freeze may take. It is done in milliseconds; a process in uninterruptible sleep (a dead NFS server)
/// may hold it up without end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Freezes, or leaves it thawed and says what held it up.
pub(super) fn freeze(dir: &Path) -> Result<()> {
    try_freeze(dir).inspect_err(|_| {
        // The first error is the one to be told. A container that can't even be thawed is in the kernel's hands.
        if let Err(error) = thaw(dir) {
            tracing::warn!("after a failed freeze: {error}");
        }
    })
}

/// Freezes, without thawing on failure.
///
/// The state stays at `FREEZING` while a process that was just forked, or is just being moved in, isn't frozen yet;
/// reading the state makes the kernel look again. Where that doesn't help, a short thaw lets whatever is stuck in
/// between pass.
pub(super) fn try_freeze(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for round in 1_u64.. {
        // Written again in each round: someone who thaws a parent or this cgroup meanwhile doesn't leave us waiting.
        files::write(dir, STATE, "FROZEN")?;
        let state = files::read(dir, STATE)?;
        if state == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::FreezeTimeout { path: dir.to_owned(), seconds: PATIENCE.as_secs(), state });
        }
        if round.is_multiple_of(50) {
            files::write(dir, STATE, "THAWED")?;
            sleep(Duration::from_millis(10));
        } else {
            sleep(Duration::from_micros(20 * round.min(50)));
        }
    }
    unreachable!("the loop ends by its deadline")
}

/// Thaws; fine when it doesn't exist.
pub(super) fn thaw(dir: &Path) -> Result<()> {
    match files::write(dir, STATE, "THAWED") {
        Err(error) if files::is_gone(&error) => Ok(()),
        other => other,
    }
}

/// Whether it is frozen or freezing by itself, whatever the cgroups above it are.
pub(super) fn is_frozen(dir: &Path) -> Result<bool> {
    Ok(match files::read_if_there(dir, "freezer.self_freezing")? {
        Some(value) => value == "1",
        None => files::read_if_there(dir, STATE)?.is_some_and(|state| state != "THAWED"),
    })
}
