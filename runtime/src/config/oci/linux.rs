//! The `linux` part: namespaces, ids, devices, and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxPersonalityDomain};

use super::Source;
use crate::config::network::{self, InterfaceName, NetDevice};
use crate::config::{
    Config, Device, DeviceKind, IdMapping, Namespace, NamespaceKind, Personality, Propagation, TimeOffset,
    TimeOffsets, default_devices,
};
use crate::error::Result;

pub(super) fn namespaces(linux: &Linux, source: Source<'_>) -> Result<Vec<Namespace>> {
    let mut found: Vec<Namespace> = Vec::new();
    for (number, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let key = format!("linux.namespaces[{number}]");
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => NamespaceKind::Mount,
            LinuxNamespaceType::Cgroup => NamespaceKind::Cgroup,
            LinuxNamespaceType::Uts => NamespaceKind::Uts,
            LinuxNamespaceType::Ipc => NamespaceKind::Ipc,
            LinuxNamespaceType::User => NamespaceKind::User,
            LinuxNamespaceType::Pid => NamespaceKind::Pid,
            LinuxNamespaceType::Network => NamespaceKind::Network,
            LinuxNamespaceType::Time => NamespaceKind::Time,
        };
        if found.iter().any(|other| other.kind == kind) {
            return Err(source.bad(key, format!("is a second {kind} namespace")));
        }
        let path = namespace.path().clone().filter(|path| !path.as_os_str().is_empty());
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(source.bad(format!("{key}.path"), "must be absolute"));
        }
        let namespace = Namespace { kind, path };
        if kind == NamespaceKind::Mount && namespace.is_own() {
            return Err(source.bad(
                format!("{key}.path"),
                "is the mount namespace that floe itself is in: its root would become the container's",
            ));
        }
        found.push(namespace);
    }
    Ok(found)
}

/// The offsets of the clocks of a time namespace.
pub(super) fn time_offsets(linux: &Linux, source: Source<'_>) -> Result<TimeOffsets> {
    let mut offsets = TimeOffsets::default();
    for (clock, given) in linux.time_offsets().iter().flatten() {
        let key = format!("linux.timeOffsets.{clock}");
        let offset = TimeOffset { secs: given.secs().unwrap_or(0), nanosecs: given.nanosecs().unwrap_or(0) };
        if offset.nanosecs >= 1_000_000_000 {
            return Err(source.bad(format!("{key}.nanosecs"), "must be below a second"));
        }
        match clock.as_str() {
            "monotonic" => offsets.monotonic = Some(offset),
            "boottime" => offsets.boottime = Some(offset),
            _ => {
                return Err(
                    source.bad(key, "is no clock of a time namespace; those are monotonic and boottime")
                );
            }
        }
    }
    Ok(offsets)
}

pub(super) fn mappings(list: Option<&[LinuxIdMapping]>) -> Vec<IdMapping> {
    let all = list.unwrap_or_default().iter();
    all.map(|one| IdMapping { container: one.container_id(), host: one.host_id(), count: one.size() })
        .collect()
}

/// The default devices, and those that the bundle adds; one with the same path takes the default's place.
pub(super) fn devices(linux: &Linux, source: Source<'_>) -> Result<Vec<Device>> {
    let mut all = default_devices();
    for (number, device) in linux.devices().iter().flatten().enumerate() {
        let key = |part: &str| format!("linux.devices[{number}].{part}");
        let path = device.path();
        if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(source.bad(key("path"), "must be absolute and without `..`"));
        }
        let kind = match device.typ() {
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => return Err(source.bad(key("type"), "must be b, c, u or p")),
        };
        // The kernel's own halves: 12 and 20 bits (`include/linux/kdev_t.h`); beyond them it would be another device.
        let half = |value: i64, bits: u32, part: &str| match u32::try_from(value) {
            Ok(number) if number < 1 << bits => Ok(number),
            _ => Err(source.bad(key(part), "is no device number")),
        };
        all.retain(|other| other.path != *path);
        all.push(Device {
            path: path.clone(),
            kind,
            major: half(device.major(), 12, "major")?,
            minor: half(device.minor(), 20, "minor")?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    Ok(all)
}

pub(super) fn net_devices(linux: &Linux, source: Source<'_>) -> Result<BTreeMap<InterfaceName, NetDevice>> {
    let mut all = BTreeMap::new();
    for (host, device) in linux.net_devices().iter().flatten() {
        let bad = |key: String, error: network::InvalidInterfaceName| source.bad(key, error.to_string());
        let key = format!("linux.netDevices.{host}");
        let renamed = device.name().as_deref().filter(|name| !name.is_empty());
        let name = renamed.map(str::parse).transpose().map_err(|error| bad(format!("{key}.name"), error))?;
        all.insert(host.parse().map_err(|error| bad(key, error))?, NetDevice { name });
    }
    Ok(all)
}

pub(super) fn propagation(linux: &Linux, source: Source<'_>) -> Result<Option<Propagation>> {
    Ok(Some(match linux.rootfs_propagation().as_deref() {
        None | Some("") => return Ok(None),
        Some("shared") => Propagation::Shared { recursive: false },
        Some("rshared") => Propagation::Shared { recursive: true },
        Some("slave") => Propagation::Slave { recursive: false },
        Some("rslave") => Propagation::Slave { recursive: true },
        Some("private") => Propagation::Private { recursive: false },
        Some("rprivate") => Propagation::Private { recursive: true },
        Some("unbindable") => Propagation::Unbindable { recursive: false },
        Some("runbindable") => Propagation::Unbindable { recursive: true },
        Some(other) => {
            return Err(source.bad("linux.rootfsPropagation", format!("{other:?} is no propagation")));
        }
    }))
}

pub(super) fn cgroup_path(linux: &Linux, source: Source<'_>) -> Result<Option<PathBuf>> {
    let Some(path) = linux.cgroups_path().clone().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(source.bad("linux.cgroupsPath", "must not hold `..`"));
    }
    // `slice:prefix:name` is for systemd, and no path.
    if path.to_string_lossy().split(':').count() == 3 {
        return Ok(Some(path));
    }
    Ok(Some(Path::new("/").join(path)))
}

pub(super) fn personality(linux: &Linux, source: Source<'_>) -> Result<Option<Personality>> {
    let Some(given) = linux.personality() else { return Ok(None) };
    if given.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(source.unsupported("linux.personality.flags", "the specification defines none yet"));
    }
    Ok(Some(match given.domain() {
        LinuxPersonalityDomain::PerLinux => Personality::Linux,
        LinuxPersonalityDomain::PerLinux32 => Personality::Linux32,
    }))
}

/// What does not fit together.
pub(super) fn check(config: &Config, source: Source<'_>) -> Result<()> {
    let has = |kind| config.namespace(kind).is_some();
    // One that is joined and is floe's own is the host's still.
    let has_own = |kind| config.namespace(kind).is_some_and(|namespace| !namespace.is_own());
    for (name, key) in [(&config.hostname, "hostname"), (&config.domainname, "domainname")] {
        if name.is_some() && !has_own(NamespaceKind::Uts) {
            return Err(source.bad(key, "needs a uts namespace, or it would rename the host"));
        }
    }
    for (something, key) in [
        (!config.mounts.is_empty(), "mounts"),
        (!config.masked_paths.is_empty(), "linux.maskedPaths"),
        (!config.readonly_paths.is_empty(), "linux.readonlyPaths"),
    ] {
        if something && !has(NamespaceKind::Mount) {
            return Err(source.bad(key, "need a mount namespace, or they would be the host's"));
        }
    }
    for (list, key) in
        [(&config.uid_mappings, "linux.uidMappings"), (&config.gid_mappings, "linux.gidMappings")]
    {
        if list.is_empty() && config.creates(NamespaceKind::User) {
            return Err(source.bad(key, "is missing, and linux.namespaces has a new user namespace"));
        }
        if !list.is_empty() && !has(NamespaceKind::User) {
            return Err(source.bad(key, "need a user namespace in linux.namespaces"));
        }
    }
    if !config.time_offsets.is_empty() && !config.creates(NamespaceKind::Time) {
        return Err(source
            .bad("linux.timeOffsets", "need a new time namespace: those of one that is joined are fixed"));
    }
    network::check(config).map_err(|error| source.bad(format!("linux.{}", error.key), error.problem))?;
    for name in config.sysctl.keys() {
        let namespace = match name.as_str() {
            name if name.starts_with("net.") => NamespaceKind::Network,
            name if name.starts_with("fs.mqueue.") || is_ipc(name) => NamespaceKind::Ipc,
            name if name.starts_with("user.") => NamespaceKind::User,
            "kernel.domainname" => NamespaceKind::Uts,
            "kernel.hostname" => {
                return Err(source.bad("linux.sysctl", "kernel.hostname has a key of its own, `hostname`"));
            }
            _ => {
                return Err(source
                    .bad("linux.sysctl", format!("{name} belongs to the whole host, not to a namespace")));
            }
        };
        if !has_own(namespace) {
            return Err(source.bad(
                "linux.sysctl",
                format!("{name} needs a {namespace} namespace, or it would be the host's"),
            ));
        }
    }
    Ok(())
}

fn is_ipc(name: &str) -> bool {
    let names = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    name.strip_prefix("kernel.").is_some_and(|name| names.contains(&name))
}

/// Kernel parameters, their names with dots. As for sysctl(8), one whose first separator is a slash is written the
/// other way round: `net/ipv4/conf/eth0.7/forwarding` is `net.ipv4.conf.eth0/7.forwarding`.
pub(super) fn sysctl(linux: &Linux, source: Source<'_>) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (given, value) in linux.sysctl().iter().flatten() {
        let key = || format!("linux.sysctl.{given}");
        let slashed = given.find(['.', '/']).is_some_and(|first| given[first..].starts_with('/'));
        let name = if slashed { swapped(given) } else { given.clone() };
        // The name becomes a path: each part is one name in it, and none leads elsewhere.
        let is_name = |part: &str| !matches!(swapped(part).as_str(), "" | "." | "..") && !part.contains('\0');
        if !name.split('.').all(is_name) {
            return Err(source.bad(key(), "is no name of a kernel parameter"));
        }
        if all.insert(name, value.clone()).is_some() {
            return Err(source.bad(key(), "is there a second time, in the other spelling"));
        }
    }
    Ok(all)
}

/// The name with dots and slashes in each other's place.
fn swapped(name: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}
