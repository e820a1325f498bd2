//! `/sys/fs/cgroup` in the container.
//!
//! With version 2, and with a cgroup namespace in version 1, the hierarchies are mounted anew and show the
//! container's cgroup as their root. Without a namespace in version 1, the container's own folder of each hierarchy is
//! bound where that hierarchy belongs.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::beneath::Root;
use super::{bind, mount};
use crate::config::{Config, Mount, MountFlags, NamespaceKind};
use crate::error::{Error, Result};

/// A version 1 hierarchy as it is mounted on the host.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// The folder below `/sys/fs/cgroup`: `cpu,cpuacct`.
    folder: String,
    /// Options that mount it again: `cpu,cpuacct`, `name=systemd`.
    options: String,
    /// Where the host has it.
    host: PathBuf,
    /// This process's cgroup in it.
    own: PathBuf,
}

/// Makes the mount.
pub(crate) fn make(root: &Root, wanted: &Mount, config: &Config) -> Result<()> {
    let info =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(Error::at("read", "/proc/self/mountinfo"))?;
    let own = std::fs::read_to_string("/proc/self/cgroup").map_err(Error::at("read", "/proc/self/cgroup"))?;
    let namespace = config.creates(NamespaceKind::Cgroup);
    let hierarchies = hierarchies(&info, &own);
    if hierarchies.is_empty() {
        return unified(root, wanted, namespace, &own);
    }
    let place = root.folder(&wanted.destination)?;
    let flags = wanted.flags.set & !MsFlags::MS_RDONLY;
    nix::mount::mount(Some("tmpfs"), &place.path(), Some("tmpfs"), flags, Some("mode=755"))
        .map_err(Error::at("mount a tmpfs at", &wanted.destination))?;
    for hierarchy in &hierarchies {
        one(root, wanted, hierarchy, namespace)?;
    }
    if wanted.flags.set.contains(MsFlags::MS_RDONLY) {
        let target = mount::target(root, &wanted.destination)?;
        mount::remount(&target.path(), wanted.flags)
            .map_err(|error| Error::call("make read-only", wanted.destination.display(), error))?;
    }
    Ok(())
}

fn one(root: &Root, wanted: &Mount, hierarchy: &Hierarchy, namespace: bool) -> Result<()> {
    let path = wanted.destination.join(&hierarchy.folder);
    let place = root.folder(&path)?;
    if namespace {
        nix::mount::mount(
            Some("cgroup"),
            &place.path(),
            Some("cgroup"),
            wanted.flags.set,
            Some(hierarchy.options.as_str()),
        )
        .map_err(Error::at("mount a cgroup hierarchy at", &path))?;
    } else {
        let own = hierarchy.host.join(hierarchy.own.strip_prefix("/").unwrap_or(&hierarchy.own));
        bind(&own, &place.path(), true)?;
        let target = mount::target(root, &path)?;
        mount::remount(&target.path(), wanted.flags)
            .map_err(|error| Error::call("set the flags of", path.display(), error))?;
    }
    // `cpu,cpuacct` is known by each of its controllers too.
    let controllers: Vec<&str> = hierarchy.folder.split(',').collect();
    if controllers.len() > 1 {
        for controller in controllers {
            let (parent, name) =
                root.parent(&wanted.destination.join(controller)).map(|(parent, _)| (parent, controller))?;
            match rustix::fs::symlinkat(&hierarchy.folder, &parent, name) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(Error::call("symlink", path.display(), error)),
            }
        }
    }
    Ok(())
}

fn unified(root: &Root, wanted: &Mount, namespace: bool, own: &str) -> Result<()> {
    let place = root.folder(&wanted.destination)?;
    let fresh =
        nix::mount::mount(Some("cgroup"), &place.path(), Some("cgroup2"), wanted.flags.set, None::<&str>);
    match fresh {
        Ok(()) if namespace => return Ok(()),
        // Mounted anew without a namespace, it would show the whole host.
        Ok(()) => {
            let target = mount::target(root, &wanted.destination)?;
            nix::mount::umount2(&target.path(), nix::mount::MntFlags::MNT_DETACH)
                .map_err(Error::at("umount", &wanted.destination))?;
        }
        Err(_) => {}
    }
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let source = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    bind(&source, &place.path(), true)?;
    let flags = MountFlags { set: wanted.flags.set, clear: wanted.flags.clear };
    let target = mount::target(root, &wanted.destination)?;
    mount::remount(&target.path(), flags)
        .map_err(|error| Error::call("set the flags of", wanted.destination.display(), error))
}

/// The version 1 hierarchies of `mountinfo`, with this process's place in each from `/proc/self/cgroup`.
fn hierarchies(mountinfo: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        let (Some(&host), Some(&"cgroup"), Some(super_options)) = (left.get(4), right.first(), right.get(2))
        else {
            continue;
        };
        let options: Vec<&str> = super_options.split(',').filter(|option| !is_plain(option)).collect();
        let place = own.lines().find_map(|entry| {
            let mut fields = entry.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let same = controllers.split(',').all(|one| options.contains(&one)) && !controllers.is_empty();
            same.then(|| PathBuf::from(path))
        });
        let host = PathBuf::from(host);
        let folder = host.file_name().map(|name| name.to_string_lossy().into_owned());
        if let (Some(own), Some(folder), true) = (place, folder, host.starts_with("/sys/fs/cgroup")) {
            if !found.iter().any(|other| other.folder == folder) {
                found.push(Hierarchy { folder, options: options.join(","), host, own });
            }
        }
    }
    found
}

/// Options that every mount has.
fn is_plain(option: &&str) -> bool {
    matches!(*option, "rw" | "ro" | "xattr" | "clone_children" | "noprefix" | "seclabel")
        || option.starts_with("release_agent=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_with_the_own_place_in_each() {
        let info = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                    33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "5:cpu,cpuacct:/web\n1:name=systemd:/\n0::/\n";
        let found = hierarchies(info, own);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].folder.as_str(), found[0].options.as_str()), ("cpu,cpuacct", "cpu,cpuacct"));
        assert_eq!(found[0].own, Path::new("/web"));
        assert_eq!(found[1].options, "name=systemd");
    }
}
