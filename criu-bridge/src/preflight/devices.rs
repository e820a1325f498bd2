//! Device nodes: what a device was told stays in its driver.

use nix::sys::stat::{major, minor};

use super::{Finding, Scene};
use crate::tasks::Kind;

/// Memory devices of devices.txt: null, zero, full, random, urandom, kmsg.
const MEMORY: u64 = 1;
/// Terminals: 4 consoles and serial lines, 5 `/dev/tty`, `/dev/console` and `/dev/ptmx`.
const TERMINALS: [u64; 3] = [3, 4, 5];
const MISC: u64 = 10;
const TUN: u64 = 200;
const AUTOFS: u64 = 235;

/// Devices that CRIU does not know (dump_chrdev() of its files.c).
pub(super) fn unsupported(scene: &Scene<'_>) -> Vec<Finding> {
    let open = scene.descriptors().filter(|(_, descriptor)| descriptor.kind == Kind::Device);
    open.filter_map(|(process, descriptor)| {
        let number = (major(descriptor.rdev), minor(descriptor.rdev));
        let block = std::fs::metadata(format!("/proc/{}/fd/{}", process.pid, descriptor.fd))
            .is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type()));
        if !block && known(number) {
            return None;
        }
        let what = format!(
            "has a device open on descriptor {} whose state criu cannot dump ({}:{}):",
            descriptor.fd, number.0, number.1
        );
        let hint = "close the device before the checkpoint";
        Some(Finding::of(process, "device", &what, descriptor.target.display(), hint))
    })
    .collect()
}

fn known((major, minor): (u64, u64)) -> bool {
    major == MEMORY || TERMINALS.contains(&major) || (major == MISC && [TUN, AUTOFS].contains(&minor))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::makedev;

    use super::*;
    use crate::preflight::Process;

    fn found(major: u64, minor: u64) -> usize {
        let process = Process::with("/dev/x", Kind::Device, |open| open.rdev = makedev(major, minor));
        unsupported(&Scene::of(process)).len()
    }

    #[test]
    fn the_devices_of_every_container_are_known() {
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)] {
            assert_eq!(found(major, minor), 0, "{major}:{minor}");
        }
        for (major, minor) in [(10, 229), (10, 232), (226, 128), (195, 0), (7, 0)] {
            assert_eq!(found(major, minor), 1, "{major}:{minor}");
        }
    }
}
