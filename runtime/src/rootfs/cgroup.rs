//! `/sys/fs/cgroup` in the container.
//!
//! With version 2, and with a cgroup namespace in version 1, the hierarchies are mounted anew and show the
//! container's cgroup as their root. Without a namespace in version 1, the container's own folder of each hierarchy is
//! bound where that hierarchy belongs.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::io::Errno;

use super::beneath::Root;
use super::detached::Detached;
use super::label;
use super::mount::finish;
use crate::config::{Config, Mount, NamespaceKind};
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
pub(super) fn make(root: &mut Root, wanted: &Mount, config: &Config) -> Result<()> {
    let info =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(Error::at("read", "/proc/self/mountinfo"))?;
    let own = std::fs::read_to_string("/proc/self/cgroup").map_err(Error::at("read", "/proc/self/cgroup"))?;
    let namespace = config.namespace(NamespaceKind::Cgroup).is_some();
    let hierarchies = hierarchies(&info, &own);
    let place = root.folder(&wanted.destination)?;
    if hierarchies.is_empty() {
        let tree = unified(wanted, namespace, &own)?;
        return finish(root, wanted, &tree, &place);
    }
    let mut data = "mode=755".to_owned();
    if let Some(label) = &config.mount_label {
        data = label::option("tmpfs", &data, label);
    }
    let flags = wanted.flags.set.difference(MsFlags::MS_RDONLY);
    let tmpfs = Detached::filesystem("tmpfs", Path::new("tmpfs"), flags, &data)?;
    finish(root, wanted, &tmpfs, &place)?;
    separate(wanted, namespace, &hierarchies, &tmpfs)
}

/// Version 1: a tmpfs with one directory a hierarchy.
fn separate(wanted: &Mount, namespace: bool, hierarchies: &[Hierarchy], tmpfs: &Detached) -> Result<()> {
    let inside = Root::of(tmpfs.as_fd())?;
    for hierarchy in hierarchies {
        let place = inside.folder(Path::new(&hierarchy.folder))?;
        let tree = one(wanted, namespace, hierarchy)?;
        tree.attach(place.as_fd(), &wanted.destination.join(&hierarchy.folder))?;
        links(&inside, &hierarchy.folder)?;
    }
    if wanted.flags.set.contains(MsFlags::MS_RDONLY) {
        tmpfs.make_readonly(false, &wanted.destination)?;
    }
    Ok(())
}

/// One hierarchy of version 1.
fn one(wanted: &Mount, namespace: bool, hierarchy: &Hierarchy) -> Result<Detached> {
    if namespace {
        return Detached::filesystem("cgroup", Path::new("cgroup"), wanted.flags.set, &hierarchy.options);
    }
    let own = hierarchy.host.join(hierarchy.own.strip_prefix("/").unwrap_or(&hierarchy.own));
    let tree = Detached::copy_of_path(&own, true)?;
    tree.change(wanted.flags, false, &wanted.destination)?;
    Ok(tree)
}

/// `cpu,cpuacct` is known by each of its controllers too.
fn links(inside: &Root, folder: &str) -> Result<()> {
    let controllers = folder.split(',').filter(|controller| *controller != folder);
    for controller in controllers {
        match rustix::fs::symlinkat(folder, inside.as_fd(), controller) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::call("symlink", controller, error)),
        }
    }
    Ok(())
}

/// Version 2: with a namespace mounted anew; without one that would show the whole host, so the container's own cgroup
/// is bound. That is also the way where a user namespace isn't allowed to mount it.
fn unified(wanted: &Mount, namespace: bool, own: &str) -> Result<Detached> {
    if namespace
        && let Ok(tree) = Detached::filesystem("cgroup2", Path::new("cgroup"), wanted.flags.set, &wanted.data)
    {
        return Ok(tree);
    }
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let tree = Detached::copy_of_path(&Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')), true)?;
    tree.change(wanted.flags, false, &wanted.destination)?;
    Ok(tree)
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
        if let (Some(own), Some(folder)) = (place, folder)
            && host.starts_with("/sys/fs/cgroup")
            && !found.iter().any(|other| other.folder == folder)
        {
            found.push(Hierarchy { folder, options: options.join(","), host, own });
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
    fn controllers_that_are_mounted_together_are_known_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let inside = Root::open(dir.path()).unwrap();
        for folder in ["cpu,cpuacct", "systemd"] {
            links(&inside, folder).unwrap();
            links(&inside, folder).unwrap();
        }
        let link = |name: &str| std::fs::read_link(dir.path().join(name)).unwrap();
        assert_eq!([link("cpu"), link("cpuacct")], [Path::new("cpu,cpuacct"); 2]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "and a folder of one only is not");
    }

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
