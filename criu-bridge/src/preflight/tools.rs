//! Programs that CRIU calls.

use super::{Finding, Scene};
use crate::tasks;

/// For a network namespace of its own: addresses and routes by `ip`; for a tmpfs with files: `tar`.
pub(super) fn missing(scene: &Scene<'_>) -> Vec<Finding> {
    let Some(root) = scene.root() else { return Vec::new() };
    let host = std::process::id().cast_signed();
    // A network that is made outside is not in the images.
    let outside = scene.config.is_some_and(|config| {
        let given = config.namespace(floe_runtime::config::NamespaceKind::Network);
        given.is_some_and(|network| network.path.is_some()) || floe_runtime::network_is_made(config)
    });
    let own_network =
        !outside && tasks::namespace(root.pid, "net").ok() != tasks::namespace(host, "net").ok();
    let tmpfs = scene.mounts.iter().any(|mount| mount.fs_type == "tmpfs" && mount.root == "/");
    needed(own_network, tmpfs)
}

/// What is needed and not in `PATH`.
pub(super) fn needed(own_network: bool, tmpfs: bool) -> Vec<Finding> {
    let mut wanted = Vec::new();
    if own_network {
        wanted.push(("ip", "the container's network namespace", "install iproute2"));
    }
    if tmpfs {
        wanted.push(("tar", "the files of its tmpfs", "install tar"));
    }
    let missing = wanted.into_iter().filter(|(name, ..)| !is_there(name));
    missing
        .map(|(name, why, hint)| {
            Finding::general(
                "tool-missing",
                format!("criu needs `{name}` for {why}, and does not find it in"),
                path(),
                hint,
            )
        })
        .collect()
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

fn is_there(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::env::split_paths(&path()).any(|dir| {
        dir.join(name).metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_path_is_not_missing() {
        assert!(is_there("tar"));
        assert!(!is_there("no-such-program"));
        assert!(needed(false, false).is_empty());
    }
}
