//! What was mounted within the container.

use procfs::process::MountInfo;

use super::{Finding, Scene};
use crate::outside::{self, MountKind};

/// File systems that CRIU can mount again by itself (filesystems.c).
const KNOWN: &[&str] = &[
    "proc",
    "sysfs",
    "devtmpfs",
    "binfmt_misc",
    "tmpfs",
    "devpts",
    "simfs",
    "btrfs",
    "pstore",
    "mqueue",
    "securityfs",
    "fusectl",
    "debugfs",
    "tracefs",
    "cgroup",
    "cgroup2",
    "aufs",
    "fuse",
    "overlay",
    "autofs",
];

/// File systems of the container's own that CRIU does not know, or whose server is in the container.
pub(super) fn unsupported(scene: &Scene<'_>) -> Vec<Finding> {
    let own = scene.mounts.iter().filter(|mount| !is_external(scene, mount) && mount.root == "/");
    own.filter_map(|mount| {
        let kind = mount.fs_type.as_str();
        if KNOWN.contains(&kind) {
            return None;
        }
        let what = format!("has a file system of a kind that criu does not know ({kind}) mounted at");
        let hint = "unmount it before the checkpoint, or mount it from outside (a mount of the bundle)";
        Some(Finding::general("mount-unsupported", what, mount.mount_point.display(), hint))
    })
    .collect()
}

/// Mounts from outside that the configuration does not name: a restore cannot know what to mount there.
pub(super) fn not_configured(scene: &Scene<'_>) -> Vec<Finding> {
    let Some(config) = scene.config else { return Vec::new() };
    let mut found = Vec::new();
    for mount in outside::mounts_of(&scene.mounts, &scene.host_mounts, true) {
        let destination = std::path::Path::new(&mount.destination);
        let configured = config.mounts.iter().any(|given| destination.starts_with(&given.destination))
            || config.masked_paths.iter().any(|path| path == destination)
            || config.readonly_paths.iter().any(|path| path == destination)
            || config.devices.iter().any(|device| device.path == destination)
            || matches!(mount.kind, MountKind::Cgroup(_));
        let mounted = scene.mounts.iter().find(|mount| mount.mount_point == destination);
        let own = mounted.filter(|mount| scene.host_mounts.iter().all(|host| host.majmin != mount.majmin));
        if configured {
            continue;
        }
        if let Some(own) = own {
            // The host has nothing of it: what is in it would be gone, and a restore could not begin.
            let what = format!("has mounted a file system that criu cannot keep ({}) at", own.fs_type);
            let hint = "unmount it before the checkpoint, or mount it from outside (a mount of the bundle)";
            found.push(Finding::general("mount-unsupported", what, &mount.destination, hint));
        } else {
            let what = "something of the host is mounted at a place that the configuration does not name:";
            let hint = "unmount it, or add it to the mounts of config.json, or a restore has to be told what to mount there";
            found.push(Finding::general("mount-not-configured", what, &mount.destination, hint).warning());
        }
    }
    found
}

fn is_external(scene: &Scene<'_>, mount: &MountInfo) -> bool {
    let destination = mount.mount_point.to_string_lossy();
    destination == "/"
        || outside::mounts_of(&scene.mounts, &scene.host_mounts, true)
            .iter()
            .any(|own| own.destination == destination)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Process;

    #[test]
    fn a_file_system_that_criu_does_not_know_is_told_unless_it_comes_from_outside() {
        let mut scene = Scene::of(Process::default());
        scene.mounts = [
            "1 0 8:1 /b / rw - ext4 /dev/sda1 rw",
            "2 1 0:50 / /proc rw - proc proc rw",
            "3 1 8:1 /data /data rw - ext4 /dev/sda1 rw",
        ]
        .map(|line| MountInfo::from_line(line).unwrap())
        .to_vec();
        scene.host_mounts = vec![MountInfo::from_line("9 8 8:1 / / rw - ext4 /dev/sda1 rw").unwrap()];
        assert!(unsupported(&scene).is_empty());
        assert!(not_configured(&scene).is_empty(), "without a configuration nothing is known");
    }
}
