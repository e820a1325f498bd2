//! A look at what has come back, before any of it runs.
//!
//! At `post-restore` CRIU has made everything but the processes' last rights, and nothing of the snapshot has run. What a
//! forged snapshot could have had mounted or opened beyond the bundle's configuration is there to be seen: a second
//! `/proc` without the paths that are masked, a disk. (What its images say of namespaces and rights was compared before
//! anything was started: [`super::privileges`].)

use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use floe_runtime::cgroup::Cgroup;
use floe_runtime::config::{Config, Device, DeviceKind, DeviceRuleKind, Mount, MountKind, NamespaceKind};
use nix::mount::MsFlags;
use nix::unistd::Pid;
use procfs::process::MountInfo;

use crate::error::{Error, Result};
use crate::tasks;

/// Compares the container whose first process is `init` with `config`.
///
/// # Errors
/// [`Error::Untrusted`] with the first thing that is more than `config` gives.
pub(crate) fn check(config: &Config, init: Pid, cgroup: &dyn Cgroup) -> Result<()> {
    namespaces(config, init.as_raw())?;
    if config.namespace(NamespaceKind::Mount).is_some() {
        let exists = |path: &Path| {
            let inside = path.strip_prefix("/").unwrap_or(path);
            Path::new(&format!("/proc/{init}/root")).join(inside).symlink_metadata().is_ok()
        };
        mounts(config, &tasks::mounts(init.as_raw())?, &exists)?;
    }
    for pid in cgroup.processes()? {
        devices(config, pid.as_raw())?;
    }
    Ok(())
}

fn refuse(what: String) -> Error {
    Error::Untrusted { what, hint: "it was not made of a container of this bundle".to_owned() }
}

/// Namespaces that the configuration gives are not floe's own.
fn namespaces(config: &Config, init: i32) -> Result<()> {
    let own = std::process::id().cast_signed();
    for kind in NamespaceKind::ALL.into_iter().filter(|kind| config.creates(*kind)) {
        // CRIU brings every container back in a time namespace.
        if kind == NamespaceKind::Time {
            continue;
        }
        if tasks::namespace(init, kind.proc_name())? == tasks::namespace(own, kind.proc_name())? {
            return Err(refuse(format!("it came back in the host's {kind} namespace")));
        }
    }
    Ok(())
}

/// Nothing is mounted that the configuration does not mount, and what it protects is protected.
fn mounts(config: &Config, table: &[MountInfo], exists: &dyn Fn(&Path) -> bool) -> Result<()> {
    if may_mount(config) {
        // It could have mounted anything, and unmounted what protected it, by itself.
        return Ok(());
    }
    let mut seen: HashMap<&Path, &MountInfo> = HashMap::new();
    for mount in table {
        let place = mount.mount_point.as_path();
        if !expected(config, mount) {
            return Err(refuse(format!(
                "a file system of type {} is mounted at {}, which the bundle does not mount",
                mount.fs_type,
                place.display()
            )));
        }
        // One over another would hide what was mounted beneath the first.
        if seen.insert(place, mount).is_some() {
            return Err(refuse(format!("two file systems are mounted at {}", place.display())));
        }
    }
    for path in config.masked_paths.iter().filter(|path| exists(path)) {
        if !seen.contains_key(path.as_path()) {
            return Err(refuse(format!("{} is to be seen, which the bundle masks", path.display())));
        }
    }
    for path in config.readonly_paths.iter().filter(|path| exists(path)) {
        if !seen.get(path.as_path()).is_some_and(|mount| is_readonly(mount)) {
            return Err(refuse(format!("{} can be written, which the bundle forbids", path.display())));
        }
    }
    for given in config.mounts.iter().filter(|given| given.flags.set.contains(MsFlags::MS_RDONLY)) {
        if let Some(mount) = table.iter().find(|mount| is_meant(given, mount) && !is_readonly(mount)) {
            return Err(refuse(format!(
                "{} can be written, which the bundle mounts read-only",
                mount.mount_point.display()
            )));
        }
    }
    Ok(())
}

/// Whether `mount` is what `given` asks for. Of cgroups of version 1 that are the hierarchies: the tmpfs in which they are
/// mounted can be written with runc.
fn is_meant(given: &Mount, mount: &MountInfo) -> bool {
    match given.kind {
        MountKind::Cgroup => {
            mount.mount_point.starts_with(&given.destination)
                && matches!(mount.fs_type.as_str(), "cgroup" | "cgroup2")
        }
        _ => mount.mount_point == given.destination,
    }
}

fn is_readonly(mount: &MountInfo) -> bool {
    mount.mount_options.contains_key("ro")
}

/// Whether its processes have the right to mount. In a user namespace of its own that is no right over the host.
fn may_mount(config: &Config) -> bool {
    let sets = config.process.capabilities.as_ref();
    sets.is_some_and(|sets| sets.bounding.iter().any(|one| one.name() == "CAP_SYS_ADMIN"))
}

fn expected(config: &Config, mount: &MountInfo) -> bool {
    let place = mount.mount_point.as_path();
    let kind = mount.fs_type.as_str();
    if place == Path::new("/") {
        return true;
    }
    let given = config.mounts.iter().filter(|given| place.starts_with(&given.destination));
    // The innermost one is whose place it is.
    if let Some(given) = given.max_by_key(|given| given.destination.components().count()) {
        let itself = place == given.destination;
        match &given.kind {
            // What is bound comes from the host with all that is mounted in it.
            MountKind::Bind { recursive } if itself || *recursive => return true,
            MountKind::Cgroup if matches!(kind, "tmpfs" | "cgroup" | "cgroup2") => return true,
            MountKind::Filesystem(wanted) if itself && wanted == kind => return true,
            _ => {}
        }
    }
    config.masked_paths.iter().chain(&config.readonly_paths).any(|path| path == place)
        || config.devices.iter().any(|device| device.path == place)
        || place == Path::new("/dev/console")
}

/// What is open of devices is allowed by the configuration.
fn devices(config: &Config, pid: i32) -> Result<()> {
    let folder = format!("/proc/{pid}/fd");
    // A process that is gone holds nothing.
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let Ok(about) = std::fs::metadata(entry.path()) else { continue };
        let kind = match about.file_type() {
            kind if kind.is_block_device() => DeviceKind::Block,
            kind if kind.is_char_device() => DeviceKind::Char,
            _ => continue,
        };
        let (major, minor) = (nix::sys::stat::major(about.rdev()), nix::sys::stat::minor(about.rdev()));
        if !allowed(config, kind, major, minor) {
            let name = std::fs::read_link(entry.path()).unwrap_or_default();
            return Err(refuse(format!(
                "process {pid} has the device {} ({major}:{minor}) open, which the bundle does not give",
                name.display()
            )));
        }
    }
    Ok(())
}

fn allowed(config: &Config, kind: DeviceKind, major: u64, minor: u64) -> bool {
    // Terminals are its devpts's, or were handed over: 5:0 to 5:2 are /dev/tty, /dev/console and /dev/ptmx.
    let terminal = kind == DeviceKind::Char && (matches!(major, 136..=143) || (major == 5 && minor <= 2));
    let node = |device: &Device| {
        device.kind == kind && u64::from(device.major) == major && u64::from(device.minor) == minor
    };
    let fits = |wanted: Option<u32>, number: u64| wanted.is_none_or(|wanted| u64::from(wanted) == number);
    let rule = config.resources.devices.iter().rev().find(|rule| {
        let same = match rule.kind {
            DeviceRuleKind::All => true,
            DeviceRuleKind::Char => kind == DeviceKind::Char,
            DeviceRuleKind::Block => kind == DeviceKind::Block,
        };
        // The right to make a node is none to open it.
        let opens = rule.access.read || rule.access.write;
        same && opens && fits(rule.major, major) && fits(rule.minor, minor)
    });
    terminal || config.devices.iter().any(node) || rule.is_some_and(|rule| rule.allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::create_dir(bundle.path().join("rootfs")).unwrap();
        let spec = serde_json::json!({
            "ociVersion": "1.2.0",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
                {"destination": "/data", "source": "/srv", "options": ["rbind"]},
            ],
            "linux": {
                "namespaces": [{"type": "mount"}],
                "maskedPaths": ["/proc/kcore", "/proc/missing"], "readonlyPaths": ["/proc/sys"],
                "resources": {"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "access": "rw"}]},
            },
        });
        let path = bundle.path().join("config.json");
        floe_runtime::config::oci::from_json(spec.to_string().as_bytes(), &path, bundle.path()).unwrap()
    }

    const GOOD: [&str; 8] = [
        "100 90 8:1 /b / rw - ext4 /dev/sda1 rw",
        "101 100 0:50 / /proc rw - proc proc rw",
        "102 101 0:50 /sys /proc/sys ro - proc proc rw",
        "103 101 0:51 /null /proc/kcore rw - tmpfs tmpfs rw",
        "104 100 0:52 / /sys ro - sysfs sysfs ro",
        "105 104 0:53 / /sys/fs/cgroup rw - tmpfs tmpfs rw",
        "106 105 0:54 /c /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
        "107 100 8:1 /srv/deep /data/deep rw - ext4 /dev/sda1 rw",
    ];

    fn look(table: &[&str]) -> Result<()> {
        let table: Vec<MountInfo> = table.iter().map(|line| MountInfo::from_line(line).unwrap()).collect();
        mounts(&config(), &table, &|path| path != Path::new("/proc/missing"))
    }

    #[track_caller]
    fn refused(table: &[&str], words: &str) {
        let error = look(table).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn what_the_bundle_mounts_is_let_through() {
        look(&GOOD).unwrap();
    }

    #[test]
    fn what_it_does_not_mount_is_refused() {
        refused(&[&GOOD[..], &["120 100 8:1 / /host rw - ext4 /dev/sda1 rw"]].concat(), "at /host");
        refused(
            &[&GOOD[..], &["120 100 0:50 / /mnt rw - proc proc rw"]].concat(),
            "type proc is mounted at /mnt",
        );
        refused(&[&GOOD[..], &["120 101 0:60 / /proc rw - proc proc rw"]].concat(), "two file systems");
        refused(
            &[&GOOD[..], &["120 104 8:1 / /sys/fs/cgroup/disk rw - ext4 /dev/sda1 rw"]].concat(),
            "/sys/fs/cgroup/disk",
        );
    }

    #[test]
    fn protection_that_is_missing_is_refused() {
        let without = |place: &str| -> Vec<&str> {
            GOOD.into_iter().filter(|line| line.split(' ').nth(4) != Some(place)).collect()
        };
        refused(&without("/proc/kcore"), "/proc/kcore is to be seen");
        refused(&without("/proc/sys"), "/proc/sys can be written");
        let mut writable = GOOD;
        writable[4] = "104 100 0:52 / /sys rw - sysfs sysfs rw";
        refused(&writable, "/sys can be written");
        let mut writable = GOOD;
        writable[6] = "106 105 0:54 /c /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        refused(&writable, "/sys/fs/cgroup/memory can be written");
    }

    #[test]
    fn devices_are_those_that_the_bundle_gives() {
        let config = config();
        assert!(allowed(&config, DeviceKind::Char, 1, 3), "/dev/null");
        assert!(allowed(&config, DeviceKind::Char, 136, 4), "a terminal");
        assert!(allowed(&config, DeviceKind::Char, 10, 200), "a rule allows it");
        assert!(!allowed(&config, DeviceKind::Char, 1, 1), "/dev/mem");
        assert!(!allowed(&config, DeviceKind::Block, 10, 200));
        assert!(!allowed(&config, DeviceKind::Block, 254, 0));
    }
}
