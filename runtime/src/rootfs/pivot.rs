//! The container's root becomes `/`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};

use super::beneath::Root;
use super::set_propagation;
use crate::config::Config;
use crate::error::{Error, Result};

/// Makes `root` the root directory, and lets the host's go.
pub(crate) fn enter(config: &Config, root: &Root) -> Result<()> {
    let rootfs = &config.rootfs;
    nix::unistd::fchdir(root.as_fd()).map_err(Error::at("chdir", rootfs))?;
    match &config.pivot_dir {
        _ if config.no_pivot => move_root(rootfs)?,
        Some(folder) => pivot_into(root, rootfs, folder)?,
        None => pivot(rootfs)?,
    }
    nix::unistd::chdir("/").map_err(Error::at("chdir", "/"))?;
    // With a root that is shared, as `rootfsPropagation` may ask for, only mounts made from now on are propagated.
    match config.propagation {
        Some(propagation) => set_propagation(Path::new("/"), propagation.flags()),
        None => Ok(()),
    }
}

fn pivot(rootfs: &Path) -> Result<()> {
    let old = Root::open(Path::new("/"))?;
    // Onto itself: the old root ends up above the new one, and needs no folder to be put in (pivot_root(2)).
    nix::unistd::pivot_root(".", ".").map_err(Error::at("pivot_root", rootfs))?;
    let_go(&old)
}

/// As [`pivot`], with a folder of the root for the old one: the way of libcontainer's `pivot_dir`.
fn pivot_into(root: &Root, rootfs: &Path, folder: &Path) -> Result<()> {
    let old = Root::open(Path::new("/"))?;
    let folder = root.folder(folder)?;
    let name = format!(".pivot_root-{}", std::process::id());
    let shown = folder.path.join(&name);
    mkdirat(&folder, &name, Mode::RWXU).map_err(Error::at("mkdir in the container", &shown))?;
    nix::unistd::fchdir(folder.as_fd()).map_err(Error::at("chdir", &shown))?;
    let pivoted = nix::unistd::pivot_root(rootfs, Path::new(&name));
    let let_go = pivoted.map_err(Error::at("pivot_root", &shown)).and_then(|()| let_go(&old));
    unlinkat(&folder, &name, AtFlags::REMOVEDIR)
        .map_err(Error::at("rmdir in the container", &shown))
        .and(let_go)
}

/// Unmounts the host's root.
fn let_go(old: &Root) -> Result<()> {
    // Not by a path: it may lie upon the new one, which is what `.` and `/` are.
    nix::unistd::fchdir(old.as_fd()).map_err(Error::at("chdir", "the host's root"))?;
    // What is unmounted now must not be unmounted on the host.
    set_propagation(Path::new("."), MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).map_err(Error::at("umount", "the host's root"))
}

/// For a host that runs from its initramfs, which can't be pivoted away: the root is moved over it.
///
/// The host's root stays below and can be reached by nobody who lacks a descriptor of it. But its instances of /proc
/// and /sys would let a user namespace inside mount unmasked ones (the kernel allows that where a full one is
/// visible), so they go first.
fn move_root(rootfs: &Path) -> Result<()> {
    let info =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(Error::at("read", "/proc/self/mountinfo"))?;
    for place in revealing(&info, rootfs) {
        set_propagation(&place, MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
        match nix::mount::umount2(&place, MntFlags::MNT_DETACH) {
            // Not unmountable here, for it belongs to a mount that came as a whole: covered, then.
            Err(Errno::EINVAL | Errno::EPERM) => cover(&place)?,
            other => other.map_err(Error::at("umount", &place))?,
        }
    }
    nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(Error::at("move", rootfs))?;
    nix::unistd::chroot(".").map_err(Error::at("chroot", rootfs))
}

fn cover(place: &Path) -> Result<()> {
    nix::mount::mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(Error::at("cover", place))
}

/// Where proc and sysfs are mounted outside of `rootfs`, the deepest first.
fn revealing(mountinfo: &str, rootfs: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let kind = right.split(' ').next()?;
            let place = PathBuf::from(left.split(' ').nth(4)?);
            (matches!(kind, "proc" | "sysfs") && !place.starts_with(rootfs)).then_some(place)
        })
        .collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_proc_and_sysfs_are_found() {
        let info = "1 0 0:1 / / rw - rootfs rootfs rw\n\
                    2 1 0:2 / /proc rw - proc proc rw\n\
                    3 1 0:3 / /sys rw - sysfs sysfs rw\n\
                    4 1 0:4 / /box rw - tmpfs tmpfs rw\n\
                    5 4 0:5 / /box/proc rw - proc proc rw\n";
        assert_eq!(revealing(info, Path::new("/box")), [Path::new("/sys"), Path::new("/proc")]);
    }
}
