//! Work by a thread of a moment: what it joins or enters (a keyring, a namespace) ends with it, and floe's other threads stay
//! where they are.

use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

/// Does `work`.
pub(crate) fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Error::call("start", "a thread", std::io::Error::other("it panicked"))))
}

/// Does `work` in a namespace of this kind; `on` is what messages call it.
pub(crate) fn inside<T: Send>(
    namespace: &(impl AsFd + Sync),
    kind: CloneFlags,
    on: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    on_a_thread(|| {
        setns(namespace, kind).map_err(|errno| Error::call("setns", on, errno))?;
        work()
    })
}
