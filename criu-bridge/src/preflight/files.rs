//! Open files that CRIU finds no path to, or that are too large to be carried along.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use procfs::process::MountInfo;

use super::{Finding, Process, Scene};
use crate::tasks::{self, Descriptor, Kind};

/// Folders of the host. Files of the host go on at a restore ([`crate::outside`]); a folder would be a way out.
pub(super) fn outside(scene: &Scene<'_>) -> Vec<Finding> {
    let inside = tasks::mount_ids(&scene.mounts);
    let mut found = Vec::new();
    for (process, descriptor) in scene.descriptors().filter(|(_, open)| open.kind == Kind::Directory) {
        let own = if scene.shares_mounts(process) { HashSet::new() } else { own_mounts(process) };
        if inside.contains(&descriptor.mount) || own.contains(&descriptor.mount) {
            continue;
        }
        found.push(stray(process, descriptor));
    }
    found
}

/// A folder of the host that a process holds open: it cannot be brought back, and is a way out of the container.
pub(crate) fn stray(process: &Process, folder: &Descriptor) -> Finding {
    let what = format!("holds a folder of the host open on descriptor {}:", folder.fd);
    let hint = "close it in the program that started the container";
    Finding::of(process, "folder-outside", &what, folder.target.display(), hint)
}

fn own_mounts(process: &Process) -> HashSet<i32> {
    tasks::mount_ids(&tasks::mounts(process.pid).unwrap_or_default())
}

/// Files below something that was mounted over them, and files that no path leads to.
pub(super) fn covered(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (process, descriptor) in files(scene).filter(|(process, _)| scene.shares_mounts(process)) {
        let path = descriptor.target.to_string_lossy();
        if path.starts_with("(unreachable)") {
            let what =
                format!("holds a file open on descriptor {} that no path leads to any more:", descriptor.fd);
            found.push(Finding::of(
                process,
                "file-unreachable",
                &what,
                path,
                "close the file before the checkpoint",
            ));
            continue;
        }
        let Some(mount) = scene.mount(descriptor.mount) else { continue };
        if let Some(above) = cover(mount, &scene.mounts) {
            let what = format!(
                "holds a file open on descriptor {} on a file system that {} was mounted over:",
                descriptor.fd,
                above.mount_point.display()
            );
            found.push(Finding::of(
                process,
                "file-covered",
                &what,
                path,
                "close the file, or unmount what covers it",
            ));
        }
    }
    found
}

/// A mount on the root of `mount`, or over an ancestor of it (mnt_is_overmounted() of CRIU).
fn cover<'a>(mount: &MountInfo, all: &'a [MountInfo]) -> Option<&'a MountInfo> {
    let parent = all.iter().find(|other| other.mnt_id == mount.pid && other.mnt_id != mount.mnt_id);
    let on_it = all.iter().find(|other| {
        other.pid == mount.mnt_id && other.mnt_id != mount.mnt_id && other.mount_point == mount.mount_point
    });
    let beside = all.iter().find(|other| {
        other.pid == mount.pid
            && other.mnt_id != mount.mnt_id
            && mount.mount_point != other.mount_point
            && mount.mount_point.starts_with(&other.mount_point)
            && parent.is_some_and(|parent| parent.mount_point != other.mount_point)
    });
    on_it.or(beside)
}

/// Deleted files: they are copied into the snapshot up to a limit, and need another name where they have one.
pub(super) fn deleted(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for (process, descriptor) in files(scene) {
        let link = format!("/proc/{}/fd/{}", process.pid, descriptor.fd);
        look(scene, process, &link, &descriptor.target.to_string_lossy(), &mut seen, &mut found);
    }
    for process in &scene.processes {
        for mapping in process.mappings.iter().filter(|mapping| mapping.path.ends_with(" (deleted)")) {
            let link = format!("/proc/{}/map_files/{}", process.pid, mapping.range());
            look(scene, process, &link, &mapping.path, &mut seen, &mut found);
        }
    }
    found
}

fn look(
    scene: &Scene<'_>,
    process: &Process,
    link: &str,
    target: &str,
    seen: &mut HashSet<(u64, u64)>,
    found: &mut Vec<Finding>,
) {
    let memory = ["/memfd:", "/SYSV", "/dev/zero", "/secretmem", "/anon_hugepage", "/dev/pts/", "/proc/"];
    let Some(path) =
        target.strip_suffix(" (deleted)").filter(|path| !memory.iter().any(|own| path.starts_with(own)))
    else {
        return;
    };
    let Ok(meta) = std::fs::metadata(link) else { return };
    if !meta.is_file() || !seen.insert((meta.dev(), meta.ino())) {
        return;
    }
    // The host's files are not CRIU's matter.
    if !is_inside(scene, &meta) {
        return;
    }
    let size = meta.blocks() * 512;
    if meta.nlink() == 0 && size > scene.asked.ghost_limit {
        let what = format!(
            "holds a deleted file of {size} bytes, more than the {} that are copied into a snapshot:",
            scene.asked.ghost_limit
        );
        let hint = "close it before the checkpoint, or allow more with --criu-option ghost-limit=SIZE";
        found.push(Finding::of(process, "deleted-too-large", &what, path, hint));
    } else if meta.nlink() > 0 && !scene.asked.link_remap {
        let what = "holds a file open whose name was deleted while it has another one:";
        found.push(Finding::of(process, "deleted-other-name", what, path, "pass --link-remap"));
    }
}

/// Whether the file lies on a file system that is mounted in the container.
fn is_inside(scene: &Scene<'_>, meta: &std::fs::Metadata) -> bool {
    let (major, minor) = (nix::sys::stat::major(meta.dev()), nix::sys::stat::minor(meta.dev()));
    let device = format!("{major}:{minor}");
    // Overlayfs and btrfs show files under other numbers than the mount's.
    scene
        .mounts
        .iter()
        .any(|mount| mount.majmin == device || ["overlay", "btrfs"].contains(&mount.fs_type.as_str()))
}

fn files<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = (&'a Process, &'a Descriptor)> {
    scene.descriptors().filter(|(_, open)| {
        matches!(open.kind, Kind::Regular | Kind::Directory) || open.target.starts_with("(unreachable)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Asked;
    use std::io::Write;

    fn mount(line: &str) -> MountInfo {
        MountInfo::from_line(line).unwrap()
    }

    #[test]
    fn a_mount_on_top_of_another_covers_it() {
        let all = vec![
            mount("1 0 8:1 / / rw - ext4 /dev/sda1 rw"),
            mount("2 1 0:50 / /mnt rw - tmpfs tmpfs rw"),
            mount("3 2 0:51 / /mnt rw - tmpfs tmpfs rw"),
            mount("4 1 0:52 / /other rw - tmpfs tmpfs rw"),
        ];
        assert_eq!(cover(&all[1], &all).unwrap().mnt_id, 3);
        assert!(
            cover(&all[0], &all).is_none()
                && cover(&all[2], &all).is_none()
                && cover(&all[3], &all).is_none()
        );
    }

    #[test]
    fn deleted_files_are_told_by_size_and_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&vec![1; 2 << 20]).unwrap();
        file.sync_all().unwrap();
        std::fs::hard_link(&path, folder.path().join("second")).unwrap();
        std::fs::remove_file(&path).unwrap();
        let me = std::process::id().cast_signed();
        let kinds = |asked: Asked| {
            let scene = Scene::look(&[me], None, asked).unwrap();
            let own = deleted(&scene).into_iter().filter(|finding| finding.blocker.on.contains("first"));
            own.map(|finding| finding.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(Asked::default()), ["deleted-other-name"]);
        assert!(kinds(Asked { link_remap: true, ..Asked::default() }).is_empty());
        std::fs::remove_file(folder.path().join("second")).unwrap();
        assert_eq!(kinds(Asked::default()), ["deleted-too-large"]);
        assert!(kinds(Asked { ghost_limit: 4 << 20, ..Asked::default() }).is_empty());
    }
}
