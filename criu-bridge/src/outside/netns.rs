//! Work in another network namespace.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use crate::apart;
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
    apart::inside(namespace, CloneFlags::CLONE_NEWNET, "a network namespace", work)
}

/// Does `work` in a network namespace that ends with it.
pub(crate) fn in_a_new_one<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    apart::on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::call("unshare", "a network namespace", errno))?;
        work()
    })
}
