//! An image for engines, with busybox in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::tool;

/// A root file system below `folder`, packed; what else is to be in it is made by `more`.
pub fn rootfs_tar(folder: &Path, more: impl FnOnce(&Path)) -> PathBuf {
    let bundle = folder.join("image");
    tool(Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/bundle-busybox")).arg(&bundle));
    let (rootfs, tar) = (bundle.join("rootfs"), folder.join("image.tar"));
    more(&rootfs);
    tool(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&tar).arg("."));
    tar
}

/// Removes the cgroups that an engine has made below `name` in each hierarchy, when there is nothing left in them.
///
/// Runtimes remove the cgroups of containers and not what is above and beside them, which is the engine's. Those that
/// begin with `containers` are the runtime's to remove; they stay, and the test fails of them. What watches over a
/// container ends a moment after it, so this is tried for a while.
pub fn remove_parent_cgroups(name: &str, containers: &str) {
    for _ in 0..100 {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|folder| folder.join(name));
        if places.filter(|place| place.is_dir()).all(|place| removed(&place, containers)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn removed(cgroup: &Path, containers: &str) -> bool {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        let is_ours = !entry.file_name().to_string_lossy().starts_with(containers);
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            removed(&entry.path(), containers);
        }
    }
    fs::remove_dir(cgroup).is_ok()
}
