//! With whose rights floe itself runs: the host's root, root of a user namespace, or an ordinary user.
//!
//! The three differ in what the kernel lets them do, and none of it is a matter of configuration. An ordinary user can
//! make a container only in a user namespace of its own. Root of a user namespace (`unshare --user`, a container that
//! runs containers, the user namespace of a rootless engine) has every capability there and none on the host: it makes
//! no device nodes, decides no device rules, and has only those cgroups that somebody gave it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use crate::config::{Config, NamespaceKind};
use crate::error::{Error, Result};

/// The state directory of an ordinary call.
pub const DEFAULT_ROOT: &str = "/run/floe";

/// Number of the user namespace that the kernel starts with: `PROC_USER_INIT_INO` of `include/linux/proc_ns.h`,
/// Linux 3.8.
const HOST_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process is root, and not only in a user namespace.
pub(crate) fn is_host_root() -> bool {
    nix::unistd::geteuid().is_root() && !in_user_namespace()
}

/// Whether this process is in another user namespace than the host's. Without /proc, or on a kernel without user
/// namespaces, it is in the host's.
fn in_user_namespace() -> bool {
    std::fs::metadata("/proc/self/ns/user").is_ok_and(|namespace| namespace.ino() != HOST_NAMESPACE)
}

/// Whether this process has a capability in its own user namespace.
pub(crate) fn has(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// The state directory where the caller names none: [`DEFAULT_ROOT`], and for an ordinary user `floe` in
/// `$XDG_RUNTIME_DIR`. Root of a user namespace is meant to be that user too, unless it calls itself root (`$USER`), as
/// in a container.
#[must_use]
pub fn default_root() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    root_for(
        nix::unistd::geteuid().is_root(),
        in_user_namespace(),
        variable("USER").is_some_and(|user| user == "root"),
        variable("XDG_RUNTIME_DIR").map(PathBuf::from).as_deref(),
    )
}

fn root_for(is_root: bool, in_user_namespace: bool, is_called_root: bool, runtime: Option<&Path>) -> PathBuf {
    let is_the_users = !is_root || in_user_namespace && !is_called_root;
    // The specification of these folders: a relative one is to be ignored.
    match runtime.filter(|folder| is_the_users && folder.is_absolute()) {
        Some(folder) => folder.join("floe"),
        None => PathBuf::from(DEFAULT_ROOT),
    }
}

/// The mode of a new state directory. In `$XDG_RUNTIME_DIR` what has not been used for a while may be removed by anybody
/// who tidies up; the sticky bit says that this is not to be.
pub(crate) fn root_mode() -> u32 {
    if is_host_root() { 0o700 } else { 0o1700 }
}

/// What the caller's rights do not suffice for, before anything is made.
pub(crate) fn check(config: &Config) -> Result<()> {
    if config.namespace(NamespaceKind::User).is_some() || has(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    Err(Error::Refused {
        problem: format!(
            "user {} can make a container only in a user namespace, and linux.namespaces has none",
            nix::unistd::geteuid()
        ),
        hint: "add one with linux.uidMappings and linux.gidMappings, as `floe spec --rootless` writes them, or run floe \
               as root",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_state_is_among_what_is_the_users() {
        let runtime = Some(Path::new("/run/user/1000"));
        let (host, users) = (Path::new(DEFAULT_ROOT), Path::new("/run/user/1000/floe"));
        assert_eq!(root_for(true, false, true, runtime), host, "root, whose variable it may be by sudo");
        assert_eq!(root_for(true, false, false, runtime), host);
        assert_eq!(root_for(false, false, false, runtime), users);
        assert_eq!(root_for(true, true, false, runtime), users, "unshare --map-root-user");
        assert_eq!(root_for(true, true, true, runtime), host, "root of a container");
        assert_eq!(root_for(false, false, false, None), host);
        assert_eq!(root_for(false, false, false, Some(Path::new("run"))), host);
    }

    #[test]
    fn these_tests_run_as_the_hosts_root() {
        assert!(is_host_root(), "run the tests as root, outside of a user namespace");
        assert!(!in_user_namespace());
        assert_eq!(root_mode(), 0o700);
    }
}
