//! The session keyring of a container (keyrings(7), session-keyring(7)), so that the caller's keys are not its.
//!
//! It is named after the container, as runc names it: a process that joins the container later finds it by that name
//! and shares it with the others.

use std::ffi::CString;

use nix::errno::Errno;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::sys;

/// What the kernel gives a keyring that is joined by name: everything to its possessor; to its owner to view, read and
/// link it (`keyctl_setperm(3)`).
const PERMISSIONS: u32 = 0x3f13_0000;
/// The owner may find it by its name.
const OWNER_SEARCHES: u32 = 0x0008_0000;
/// Others may, too: within a user namespace, whoever joins as another user than the first process's.
const OTHERS_SEARCH: u32 = 0x0000_0008;

/// The name of the session keyring that `id`'s processes have; `None` where the configuration leaves them the caller's.
#[must_use]
pub fn name_for(id: &ContainerId, config: &Config) -> Option<String> {
    (!config.no_new_keyring).then(|| format!("_ses.{id}"))
}

/// Joins the session keyring `name` (the calling thread does; it hands it on to what it makes). A kernel without keyrings
/// has none to keep apart.
///
/// # Errors
/// [`Error::Call`]: the kernel's quota of keys is used up (`EDQUOT`), or the keyring is another user's.
pub fn join(name: &str, in_user_namespace: bool) -> Result<()> {
    let failed = |errno: Errno| {
        Error::call(
            "join",
            format!("the session keyring {name} (--no-new-keyring keeps the caller's)"),
            errno,
        )
    };
    // A container's name has no zero byte.
    let text = CString::new(name).map_err(|_| failed(Errno::EINVAL))?;
    let serial = match sys::join_session_keyring(&text) {
        Err(Errno::ENOSYS) => return Ok(()),
        other => other.map_err(failed)?,
    };
    let others = if in_user_namespace { OTHERS_SEARCH } else { 0 };
    match sys::set_key_permissions(serial, PERMISSIONS | OWNER_SEARCHES | others) {
        // One that another process of the container has set up, and that is not ours to change.
        Err(Errno::EACCES) => Ok(()),
        other => other.map_err(failed),
    }
}
