//! Watches on files (inotify(7), fanotify(7)): the kernel knows them by the file's number alone.

use std::path::Path;

use procfs::process::MountInfo;

use super::{Finding, Process, Scene};

/// Watches whose file cannot be found again.
///
/// CRIU opens a watched file by its handle at the restore. Overlayfs refuses that unless it was mounted with `nfs_export`,
/// and CRIU does not notice before: the container would be gone and could not be restored. On a tmpfs, whose handles do
/// not outlive it, CRIU needs a path, which a deleted file has not.
pub(super) fn lost(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (process, descriptor) in scene.descriptors() {
        let target = descriptor.target.to_string_lossy();
        if target != "anon_inode:inotify" && target != "anon_inode:[fanotify]" {
            continue;
        }
        for watch in process.info(descriptor.fd).lines().filter_map(Watch::parse) {
            found.extend(about(scene, process, descriptor.fd, &watch));
        }
    }
    found.dedup();
    found
}

fn about(scene: &Scene<'_>, process: &Process, fd: i32, watch: &Watch) -> Option<Finding> {
    let mount = watch.mount(&scene.mounts);
    let Some(mount) = mount else {
        let what = format!(
            "watches a file (descriptor {fd}) on a file system that is not mounted in the container: inode"
        );
        let hint = "remove the watch before the checkpoint";
        return Some(Finding::of(process, "watch-mount", &what, watch.inode, hint));
    };
    match mount.fs_type.as_str() {
        "overlay" if !scene.asked.force_irmap && !exported(mount) => {
            let what = format!(
                "watches a file (descriptor {fd}) on overlayfs, where criu cannot find it again at the restore: inode {} on",
                watch.inode
            );
            let hint = "have the program poll, or name where its files are: --criu-option force-irmap --criu-option \
                        irmap-scan-path=DIR";
            Some(Finding::of(process, "watch-overlay", &what, mount.mount_point.display(), hint))
        }
        "tmpfs" | "devtmpfs" if !exists(process.pid, mount, watch.inode) => {
            let what = format!("watches a file (descriptor {fd}) that was deleted: inode {} on", watch.inode);
            Some(Finding::of(
                process,
                "watch-deleted",
                &what,
                mount.mount_point.display(),
                "remove the watch before the checkpoint",
            ))
        }
        _ => None,
    }
}

fn exported(mount: &MountInfo) -> bool {
    mount.super_options.get("nfs_export").is_some_and(|value| value.as_deref() == Some("on"))
}

/// How many files of a tmpfs are looked at for one of them.
const LOOKED_AT: usize = 100_000;

/// Whether the file with this number has a name somewhere on the mount. `true` if there are too many to look at.
fn exists(pid: i32, mount: &MountInfo, inode: u64) -> bool {
    use std::os::unix::fs::{DirEntryExt, MetadataExt};
    let root = Path::new(&format!("/proc/{pid}/root"))
        .join(mount.mount_point.strip_prefix("/").unwrap_or(&mount.mount_point));
    let Ok(meta) = root.metadata() else { return true };
    if meta.ino() == inode {
        return true;
    }
    let mut folders = vec![root];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            looked_at += 1;
            if entry.ino() == inode || looked_at > LOOKED_AT {
                return true;
            }
            // Links are not followed: they are a container's.
            if entry.metadata().is_ok_and(|own| own.is_dir() && own.dev() == meta.dev()) {
                folders.push(entry.path());
            }
        }
    }
    false
}

/// A line of `/proc/PID/fdinfo/FD` about a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    inode: u64,
    /// The kernel's own form of a device number: minor in the lower 20 bits.
    device: u64,
}

impl Watch {
    fn parse(line: &str) -> Option<Self> {
        if !line.starts_with("inotify ") && !line.starts_with("fanotify ino:") {
            return None;
        }
        let field = |name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
            u64::from_str_radix(value, 16).ok()
        };
        Some(Self { inode: field("ino:")?, device: field("sdev:")? })
    }

    fn mount<'a>(&self, mounts: &'a [MountInfo]) -> Option<&'a MountInfo> {
        let own = format!("{}:{}", self.device >> 20, self.device & 0xf_ffff);
        mounts.iter().find(|mount| mount.majmin == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "inotify wd:1 ino:2f sdev:4d mask:2 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:00";

    #[test]
    fn a_line_about_a_watch_is_read() {
        let watch = Watch::parse(LINE).unwrap();
        assert_eq!(watch, Watch { inode: 0x2f, device: 0x4d });
        let mounts = [MountInfo::from_line("9 1 0:77 / /x rw - tmpfs tmpfs rw").unwrap()];
        assert_eq!(watch.mount(&mounts).unwrap().mnt_id, 9);
        assert!(Watch::parse("pos:\t0").is_none());
        assert!(Watch::parse("fanotify flags:0 event-flags:2").is_none());
    }

    #[test]
    fn overlayfs_is_told_unless_paths_are_looked_up() {
        let mut scene = Scene::of(Process::default());
        let line = "9 1 0:77 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w";
        scene.mounts = vec![MountInfo::from_line(line).unwrap()];
        let watch = Watch::parse(LINE).unwrap();
        let found = about(&scene, &Process::default(), 5, &watch).unwrap();
        assert_eq!(found.kind, "watch-overlay");
        scene.asked.force_irmap = true;
        assert!(about(&scene, &Process::default(), 5, &watch).is_none());
        scene.mounts.clear();
        assert_eq!(about(&scene, &Process::default(), 5, &watch).unwrap().kind, "watch-mount");
    }
}
