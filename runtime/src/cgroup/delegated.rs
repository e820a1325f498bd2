//! Where the cgroup of a container goes that the host's root doesn't make.
//!
//! A cgroup can be made only below one that the caller was given (`cgroups(7)`, "delegation"). In version 2 that is
//! looked for around the caller's own: beside it, and if that may not be, below it. Beside it is better: a cgroup with
//! processes in it hands no controllers down ("no internal processes"), and the caller's has the caller in it. In
//! version 1 somebody has to have given away all hierarchies from their roots, as it is in a container that runs
//! containers. Where there is nothing of that, the container has no cgroup ([`super::Without`]).

use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::find::{self, Hierarchies};
use super::without;
use crate::config::{Config, Resources};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::privilege;

/// Where a new container's cgroup is to be, relative to each hierarchy. `None`: it can have none, and does not need it.
///
/// # Errors
/// [`Error::Refused`] when it can have none and has limits, or nothing else by which its processes could be told from
/// others.
pub(super) fn place(config: &Config, id: &ContainerId) -> Result<Option<PathBuf>> {
    match path(config.cgroup_path.as_deref(), id) {
        Some(path) => Ok(Some(path)),
        None => check_without(config).map(|()| None),
    }
}

/// As [`place`], of what a configuration names. Whoever names one is to have that or none at all.
pub(super) fn path(named: Option<&Path>, id: &ContainerId) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.to_owned()),
        None if privilege::is_host_root() => Some(Path::new("/").join(&*id.folder_name())),
        None => delegated().map(|above| above.join(&*id.folder_name())),
    }
}

fn delegated() -> Option<PathBuf> {
    match find::hierarchies().ok()? {
        Hierarchies::V1 { separate, .. } => {
            let given = separate.iter().all(|one| is_given(&one.mount_point, "tasks"));
            given.then(|| PathBuf::from("/"))
        }
        Hierarchies::V2(mount_point) => {
            let membership = std::fs::read_to_string("/proc/self/cgroup").ok()?;
            let given = |path: &PathBuf| {
                is_given(&mount_point.join(path.strip_prefix("/").unwrap_or(path)), "cgroup.procs")
            };
            around(&membership).into_iter().find(given)
        }
    }
}

/// The cgroups of version 2 below which one may be made for a process with this `/proc/self/cgroup`, best first.
fn around(membership: &str) -> Vec<PathBuf> {
    let Some(own) = membership.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new) else {
        return Vec::new();
    };
    // Its cgroup lies outside of its cgroup namespace; there is no path to it from here.
    if own.components().any(|part| part == Component::ParentDir) {
        return Vec::new();
    }
    own.parent().into_iter().chain([own]).map(Path::to_owned).collect()
}

/// Whether the caller may make a cgroup in `directory` and put processes there: both are asked of the files, by the
/// rights that count (the effective ones).
fn is_given(directory: &Path, list: &str) -> bool {
    let may = |path: &Path, access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    may(directory, Access::WRITE_OK | Access::EXEC_OK) && may(&directory.join(list), Access::WRITE_OK)
}

fn check_without(config: &Config) -> Result<()> {
    let user = nix::unistd::geteuid();
    if let Some(key) = first_limit(&config.resources) {
        return Err(Error::Refused {
            problem: format!("{key} needs a cgroup, and user {user} has none in which one could be made"),
            hint: "take the limits out of config.json, or give the user a cgroup (systemd: Delegate=yes; then \
                   `systemd-run --user --scope floe …`)",
        });
    }
    if without::told_by(config).is_none() {
        return Err(Error::Refused {
            problem: format!(
                "linux.namespaces has no new namespace, and user {user} has no cgroup in which one could be made: nothing \
                 would tell the container's processes from others, or end them"
            ),
            hint: "add a pid namespace, or give the user a cgroup (systemd: Delegate=yes; then `systemd-run --user \
                   --scope floe …`)",
        });
    }
    Ok(())
}

/// The first key that asks for a limit. Unlimited processes are what there is anyhow, and engines write that down.
pub(super) fn first_limit(resources: &Resources) -> Option<&'static str> {
    let Resources { memory, cpu, pids, block_io, devices: _, hugepage_limits, rdma, network, unified } =
        resources;
    let limits = [
        ("linux.resources.memory", *memory != Default::default()),
        ("linux.resources.cpu", *cpu != Default::default()),
        ("linux.resources.pids", pids.is_some_and(|most| most > 0)),
        ("linux.resources.blockIO", *block_io != Default::default()),
        ("linux.resources.hugepageLimits", !hugepage_limits.is_empty()),
        ("linux.resources.rdma", !rdma.is_empty()),
        ("linux.resources.network", *network != Default::default()),
        ("linux.resources.unified", !unified.is_empty()),
    ];
    limits.into_iter().find(|(_, asked)| *asked).map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cpu, Memory};

    #[test]
    fn beside_the_own_cgroup_comes_before_below_it() {
        let paths = |text: &str| {
            around(text).iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let session = "0::/user.slice/user-7.slice/user@7.service/app.slice/shell.scope\n";
        let app = "/user.slice/user-7.slice/user@7.service/app.slice";
        assert_eq!(paths(session), [app.to_owned(), format!("{app}/shell.scope")]);
        assert_eq!(paths("1:cpu:/x\n0::/\n"), ["/"]);
        assert!(paths("0::/../other\n").is_empty());
        assert!(paths("1:cpu:/x\n").is_empty());
    }

    #[test]
    fn a_limit_is_told_by_its_key() {
        assert_eq!(first_limit(&Resources::default()), None);
        assert_eq!(first_limit(&Resources { pids: Some(-1), ..Resources::default() }), None);
        let memory = Memory { limit: Some(1 << 20), ..Memory::default() };
        let cpu = Cpu { shares: Some(512), ..Cpu::default() };
        let both = Resources { cpu, memory, ..Resources::default() };
        assert_eq!(first_limit(&both), Some("linux.resources.memory"));
        assert_eq!(
            first_limit(&Resources { pids: Some(7), ..Resources::default() }),
            Some("linux.resources.pids")
        );
    }

    #[test]
    fn what_may_not_be_written_is_not_given() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_given(folder.path(), "cgroup.procs"), "there is no list of processes");
        std::fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        assert!(is_given(folder.path(), "cgroup.procs"));
    }
}
