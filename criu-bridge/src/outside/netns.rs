//! Work in another network namespace, on a thread of a moment.

use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

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

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Error::call("start", "a thread", std::io::Error::other("it panicked"))))
}
