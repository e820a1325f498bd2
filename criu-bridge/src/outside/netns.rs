//! Work in another network namespace, on a thread of a moment.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};

/// Does `work` in the network namespace that `path` leads to.
pub(crate) fn within<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(path).map_err(|source| Error::call("open", path, source))?;
    inside(&namespace, work)
}

/// Does `work` in the network namespace `namespace`.
pub(crate) fn inside<T: Send>(
    namespace: &(impl AsFd + Sync),
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    on_a_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::call("setns", "a network namespace", errno))?;
        work()
    })
}

/// Does `work` in a network namespace that ends with it.
pub(crate) fn in_a_new_one<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::call("unshare", "a network namespace", errno))?;
        work()
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Error::call("start", "a thread", std::io::Error::other("it panicked"))))
}
