//! Mounts and their options, as mount(8) and runc name them.

use std::path::{Component, Path};

use nix::mount::MsFlags;
use oci_spec::runtime::Mount as Oci;

use super::Source;
use crate::config::{Mount, MountFlags, MountKind, Propagation};
use crate::error::Result;

/// What an option does.
enum Option_ {
    Set(MsFlags),
    Clear(MsFlags),
    Bind { recursive: bool },
    Propagation(Propagation),
    CopyUp,
    Nothing,
}

pub(super) fn convert(mount: &Oci, number: usize, source: Source<'_>, bundle: &Path) -> Result<Mount> {
    let key = |part: &str| format!("mounts[{number}].{part}");
    let destination = mount.destination();
    if !destination.is_absolute() || destination.components().any(|part| part == Component::ParentDir) {
        return Err(source.bad(key("destination"), "must be absolute and without `..`"));
    }
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(source.unsupported(key("uidMappings"), "id-mapped mounts are not made yet"));
    }
    let mut made = Mount {
        destination: destination.clone(),
        source: mount.source().clone(),
        kind: MountKind::Filesystem(mount.typ().clone().unwrap_or_default()),
        flags: MountFlags::default(),
        recursive_flags: MountFlags::default(),
        propagation: Vec::new(),
        data: String::new(),
        copy_up: false,
    };
    let mut data = Vec::new();
    let mut bind = (mount.typ().as_deref() == Some("bind")).then_some(false);
    for option in mount.options().iter().flatten() {
        if apply_recursive(option, &mut made.recursive_flags) {
            continue;
        }
        match known(option) {
            Some(Option_::Set(flag)) => set(&mut made.flags, flag),
            Some(Option_::Clear(flag)) => clear(&mut made.flags, flag),
            Some(Option_::Bind { recursive }) => bind = Some(recursive || bind.unwrap_or(false)),
            Some(Option_::Propagation(propagation)) => made.propagation.push(propagation),
            Some(Option_::CopyUp) => made.copy_up = true,
            Some(Option_::Nothing) => {}
            None => data.push(option.as_str()),
        }
    }
    made.data = data.join(",");
    if let Some(recursive) = bind {
        made.kind = MountKind::Bind { recursive };
        let given = mount
            .source()
            .as_ref()
            .ok_or_else(|| source.bad(key("source"), "is missing for a bind mount"))?;
        made.source = Some(bundle.join(given));
    } else if matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
        made.kind = MountKind::Cgroup;
    } else if mount.typ().as_ref().is_none_or(String::is_empty) {
        return Err(source.bad(key("type"), "is missing"));
    }
    Ok(made)
}

fn set(flags: &mut MountFlags, flag: MsFlags) {
    flags.set |= flag;
    flags.clear &= !flag;
}

fn clear(flags: &mut MountFlags, flag: MsFlags) {
    flags.clear |= flag;
    flags.set &= !flag;
}

/// `rro` and its like: the option for everything mounted below as well.
fn apply_recursive(option: &str, flags: &mut MountFlags) -> bool {
    let plain = match option {
        "rro" | "rrw" | "rnosuid" | "rsuid" | "rnodev" | "rdev" | "rnoexec" | "rexec" | "rnoatime"
        | "ratime" | "rnodiratime" | "rdiratime" | "rrelatime" | "rnorelatime" | "rstrictatime"
        | "rnostrictatime" => &option[1..],
        _ => return false,
    };
    match known(plain) {
        Some(Option_::Set(flag)) => set(flags, flag),
        Some(Option_::Clear(flag)) => clear(flags, flag),
        _ => return false,
    }
    true
}

fn known(option: &str) -> Option<Option_> {
    use Option_::{Bind, Clear, CopyUp, Nothing, Propagation as P, Set};
    Some(match option {
        "defaults" => Nothing,
        "ro" => Set(MsFlags::MS_RDONLY),
        "rw" => Clear(MsFlags::MS_RDONLY),
        "nosuid" => Set(MsFlags::MS_NOSUID),
        "suid" => Clear(MsFlags::MS_NOSUID),
        "nodev" => Set(MsFlags::MS_NODEV),
        "dev" => Clear(MsFlags::MS_NODEV),
        "noexec" => Set(MsFlags::MS_NOEXEC),
        "exec" => Clear(MsFlags::MS_NOEXEC),
        "noatime" => Set(MsFlags::MS_NOATIME),
        "atime" => Clear(MsFlags::MS_NOATIME),
        "nodiratime" => Set(MsFlags::MS_NODIRATIME),
        "diratime" => Clear(MsFlags::MS_NODIRATIME),
        "relatime" => Set(MsFlags::MS_RELATIME),
        "norelatime" => Clear(MsFlags::MS_RELATIME),
        "strictatime" => Set(MsFlags::MS_STRICTATIME),
        "nostrictatime" => Clear(MsFlags::MS_STRICTATIME),
        "sync" => Set(MsFlags::MS_SYNCHRONOUS),
        "async" => Clear(MsFlags::MS_SYNCHRONOUS),
        "dirsync" => Set(MsFlags::MS_DIRSYNC),
        "mand" => Set(MsFlags::MS_MANDLOCK),
        "nomand" => Clear(MsFlags::MS_MANDLOCK),
        "lazytime" => Set(MsFlags::MS_LAZYTIME),
        "nolazytime" => Clear(MsFlags::MS_LAZYTIME),
        "iversion" => Set(MsFlags::MS_I_VERSION),
        "noiversion" => Clear(MsFlags::MS_I_VERSION),
        "silent" => Set(MsFlags::MS_SILENT),
        "loud" => Clear(MsFlags::MS_SILENT),
        "bind" => Bind { recursive: false },
        "rbind" => Bind { recursive: true },
        "shared" => P(Propagation::Shared { recursive: false }),
        "rshared" => P(Propagation::Shared { recursive: true }),
        "slave" => P(Propagation::Slave { recursive: false }),
        "rslave" => P(Propagation::Slave { recursive: true }),
        "private" => P(Propagation::Private { recursive: false }),
        "rprivate" => P(Propagation::Private { recursive: true }),
        "unbindable" => P(Propagation::Unbindable { recursive: false }),
        "runbindable" => P(Propagation::Unbindable { recursive: true }),
        "tmpcopyup" => CopyUp,
        _ => return None,
    })
}
