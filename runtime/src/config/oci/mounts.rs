//! Mounts of a bundle.

use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime::Mount as Oci;

use super::mount_options::{Effect, effect};
use super::{Source, linux};
use crate::config::{Config, IdMaps, Mount, MountFlags, MountIds, MountKind, NamespaceKind, SourceLink};
use crate::error::{Error, Result};

/// Most mounts of one container: the kernel itself has no more in a namespace (`fs.mount-max`, 100,000 unless raised).
const MOST_MOUNTS: usize = 100_000;

/// The three values that the time of access has: each takes the others' place.
const ACCESS_TIME: MsFlags = MsFlags::MS_NOATIME.union(MsFlags::MS_RELATIME).union(MsFlags::MS_STRICTATIME);

/// All mounts, in their order.
pub(super) fn convert_all(list: &[Oci], source: Source<'_>, bundle: &Path) -> Result<Vec<Mount>> {
    if list.len() > MOST_MOUNTS {
        let problem = format!("has {} entries, and the kernel makes no more than {MOST_MOUNTS}", list.len());
        return Err(source.bad("mounts", problem));
    }
    list.iter().enumerate().map(|(number, mount)| One { mount, number, source }.convert(bundle)).collect()
}

/// What does not fit to the rest of the configuration.
pub(super) fn check(config: &Config, source: Source<'_>) -> Result<()> {
    if config.mount_label.is_some() && !crate::rootfs::has_selinux() {
        let reason =
            "this host has no SELinux, and the kernel would refuse the option; remove it to run without";
        return Err(source.unsupported("linux.mountLabel", reason));
    }
    let user = config.namespace(NamespaceKind::User).is_some();
    for (number, mount) in config.mounts.iter().enumerate() {
        if mount.ids.as_ref().is_some_and(|ids| ids.maps.is_none()) && !user {
            return Err(source.bad(
                format!("mounts[{number}].options"),
                "idmap needs uidMappings and gidMappings here, or a user namespace whose map it takes",
            ));
        }
    }
    Ok(())
}

/// One of them.
#[derive(Clone, Copy)]
struct One<'a> {
    mount: &'a Oci,
    number: usize,
    source: Source<'a>,
}

impl One<'_> {
    fn key(&self, part: &str) -> String {
        format!("mounts[{}].{part}", self.number)
    }

    fn bad(&self, part: &str, problem: impl Into<String>) -> Error {
        self.source.bad(self.key(part), problem)
    }

    fn convert(self, bundle: &Path) -> Result<Mount> {
        let kind = self.mount.typ().clone().unwrap_or_default();
        let mut made =
            Mount::new(self.destination()?, self.mount.source().clone(), MountKind::Filesystem(kind.clone()));
        let mut chosen = Chosen { bind: (kind == "bind").then_some(false), ..Chosen::default() };
        for option in self.mount.options().iter().flatten() {
            chosen.apply(option, &mut made);
        }
        made.data = chosen.data.join(",");
        made.ids = self.ids(chosen.ids)?;
        if chosen.remount {
            made.kind = MountKind::Remount { bind: chosen.bind.is_some() };
        } else if let Some(recursive) = chosen.bind {
            made.kind = MountKind::Bind { recursive };
            let given =
                made.source.as_ref().ok_or_else(|| self.bad("source", "is missing for a bind mount"))?;
            made.source = Some(bundle.join(given));
        } else if kind == "cgroup" {
            made.kind = MountKind::Cgroup;
        } else if kind.is_empty() {
            return Err(self.bad("type", "is missing"));
        }
        self.check(&made)?;
        Ok(made)
    }

    /// Absolute and plain. One that is relative is relative to `/`, as the specification has it.
    fn destination(&self) -> Result<PathBuf> {
        let given = self.mount.destination();
        let mut path = PathBuf::from("/");
        for part in given.components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => {
                    return Err(self.bad("destination", "holds `..`; say where it is in the container"));
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if path == Path::new("/") {
            return Err(self.bad("destination", "is the root itself, which `root.path` names"));
        }
        Ok(path)
    }

    fn ids(&self, recursive: Option<bool>) -> Result<Option<MountIds>> {
        let (uids, gids) = (self.mount.uid_mappings().as_deref(), self.mount.gid_mappings().as_deref());
        let (uids, gids) = (linux::mappings(uids), linux::mappings(gids));
        match (uids.is_empty(), gids.is_empty()) {
            (true, true) => Ok(recursive.map(|recursive| MountIds { maps: None, recursive })),
            (false, false) => {
                let maps = Some(IdMaps { uids, gids });
                Ok(Some(MountIds { maps, recursive: recursive.unwrap_or(false) }))
            }
            (true, false) => Err(self.bad("uidMappings", "is missing, and gidMappings is there")),
            (false, true) => Err(self.bad("gidMappings", "is missing, and uidMappings is there")),
        }
    }

    /// What does not go together.
    fn check(&self, made: &Mount) -> Result<()> {
        let binds = matches!(made.kind, MountKind::Bind { .. });
        if binds && !made.data.is_empty() {
            return Err(self.bad(
                "options",
                format!(
                    "{:?} is no option of a bind mount, and the source's file system is mounted already",
                    made.data
                ),
            ));
        }
        if !binds && (made.source_link != SourceLink::Follow || made.destination_link) {
            return Err(
                self.bad("options", "copy-symlink, src-nofollow and dest-nofollow are for bind mounts")
            );
        }
        if made.source_link == SourceLink::Copy && made.destination_link {
            return Err(self.bad("options", "copy-symlink makes a link, and dest-nofollow covers one"));
        }
        if made.ids.is_some() && !binds {
            return Err(self.bad("uidMappings", "ids are mapped for bind mounts only"));
        }
        if made.copy_up && made.kind != MountKind::Filesystem("tmpfs".to_owned()) {
            return Err(self.bad("options", "tmpcopyup is for a tmpfs"));
        }
        Ok(())
    }
}

/// What the options of one mount ask for, beyond what is in [`Mount`] itself.
#[derive(Default)]
struct Chosen<'a> {
    /// Whether it is a bind mount, and then whether a recursive one.
    bind: Option<bool>,
    remount: bool,
    ids: Option<bool>,
    data: Vec<&'a str>,
}

impl<'a> Chosen<'a> {
    fn apply(&mut self, option: &'a str, made: &mut Mount) {
        match effect(option) {
            Some(Effect::Nothing) => {}
            Some(Effect::Set(flag)) => set(&mut made.flags, flag),
            Some(Effect::Clear(flag)) => clear(&mut made.flags, flag),
            Some(Effect::SetBelow(flag)) => set(&mut made.recursive_flags, flag),
            Some(Effect::ClearBelow(flag)) => clear(&mut made.recursive_flags, flag),
            Some(Effect::Bind { recursive }) => self.bind = Some(recursive || self.bind.unwrap_or(false)),
            Some(Effect::Remount) => self.remount = true,
            Some(Effect::Propagate(propagation)) => made.propagation.push(propagation),
            Some(Effect::CopyUp) => made.copy_up = true,
            Some(Effect::MapIds { recursive }) => self.ids = Some(recursive),
            Some(Effect::Source(link)) => made.source_link = link,
            Some(Effect::DestinationLink) => made.destination_link = true,
            None => self.data.push(option),
        }
    }
}

// `remove` and not `&= !`, which would lose flags that nix has no name for.
fn set(flags: &mut MountFlags, flag: MsFlags) {
    if ACCESS_TIME.contains(flag) {
        flags.set.remove(ACCESS_TIME);
    }
    flags.set.insert(flag);
    flags.clear.remove(flag);
}

fn clear(flags: &mut MountFlags, flag: MsFlags) {
    flags.clear.insert(flag);
    flags.set.remove(flag);
}

#[cfg(test)]
mod tests;
