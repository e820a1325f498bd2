//! The `linux` part: namespaces, ids, devices, and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxPersonalityDomain};

use super::Source;
use crate::config::network::{self, InterfaceName, NetDevice};
use crate::config::{
    Config, Device, DeviceKind, IdMapping, Namespace, NamespaceKind, Personality, Propagation,
    default_devices,
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
        found.push(Namespace { kind, path });
    }
    Ok(found)
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
        if !device.path().is_absolute() {
            return Err(source.bad(key("path"), "must be absolute"));
        }
        let kind = match device.typ() {
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => return Err(source.bad(key("type"), "must be b, c, u or p")),
        };
        let half = |value: i64, part: &str| {
            u32::try_from(value).map_err(|_| source.bad(key(part), "is no device number"))
        };
        all.retain(|other| other.path != *device.path());
        all.push(Device {
            path: device.path().clone(),
            kind,
            major: half(device.major(), "major")?,
            minor: half(device.minor(), "minor")?,
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

pub(super) fn refuse_unsupported(linux: &Linux, source: Source<'_>) -> Result<()> {
    let later = "it is not done yet; remove it to run without";
    source.refuse(
        &linux.time_offsets().as_ref().filter(|list| !list.is_empty()),
        "linux.timeOffsets",
        later,
    )?;
    source.refuse(&linux.mount_label().as_ref().filter(|label| !label.is_empty()), "linux.mountLabel", later)
}

/// What does not fit together.
pub(super) fn check(config: &Config, source: Source<'_>) -> Result<()> {
    let has = |kind| config.namespace(kind).is_some();
    if config.hostname.is_some() && !has(NamespaceKind::Uts) {
        return Err(source.bad("hostname", "needs a uts namespace, or it would rename the host"));
    }
    if config.domainname.is_some() && !has(NamespaceKind::Uts) {
        return Err(source.bad("domainname", "needs a uts namespace, or it would rename the host"));
    }
    let mounts_something = !config.mounts.is_empty() || !config.masked_paths.is_empty();
    if mounts_something && !has(NamespaceKind::Mount) {
        return Err(source.bad("mounts", "need a mount namespace, or they would be the host's"));
    }
    if config.creates(NamespaceKind::User) {
        for (list, key) in
            [(&config.uid_mappings, "linux.uidMappings"), (&config.gid_mappings, "linux.gidMappings")]
        {
            if list.is_empty() {
                return Err(source.bad(key, "is missing, and linux.namespaces has a new user namespace"));
            }
        }
    } else if !config.uid_mappings.is_empty() && !has(NamespaceKind::User) {
        return Err(source.bad("linux.uidMappings", "need a user namespace in linux.namespaces"));
    }
    network::check(config).map_err(|error| source.bad(format!("linux.{}", error.key), error.problem))?;
    for name in config.sysctl.keys() {
        let namespace = match name.as_str() {
            name if name.starts_with("net.") => NamespaceKind::Network,
            name if name.starts_with("fs.mqueue.") || is_ipc(name) => NamespaceKind::Ipc,
            "kernel.domainname" | "kernel.hostname" => NamespaceKind::Uts,
            _ => {
                return Err(source
                    .bad("linux.sysctl", format!("{name} belongs to the whole host, not to a namespace")));
            }
        };
        if !has(namespace) {
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
