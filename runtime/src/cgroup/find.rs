//! Which cgroup hierarchies this host has, and where they are mounted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A mounted version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// As in `/proc/PID/cgroup`: `memory`, `cpu,cpuacct`, `name=systemd`.
    pub(super) name: String,
    pub(super) mount_point: PathBuf,
}

/// What the host uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hierarchies {
    /// At least one hierarchy with a controller, or else only ones with a name: they tell whose a process is, and a limit
    /// says that there is no controller.
    V1 {
        /// The version 1 hierarchies.
        separate: Vec<Hierarchy>,
        /// Where a version 2 hierarchy is mounted beside them ("hybrid", as systemd makes it). It has no controllers, or
        /// those that no version 1 hierarchy has.
        unified: Option<PathBuf>,
    },
    /// Only the unified one.
    V2(PathBuf),
}

/// Looks at this process's mounts.
pub(super) fn hierarchies() -> Result<Hierarchies> {
    let read = |path: &str| fs::read_to_string(path).map_err(Error::at("read", path));
    parse(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

/// `membership` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`, see `cgroups(7)` and `proc(5)`.
fn parse(membership: &str, mounts: &str) -> Result<Hierarchies> {
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(mount_of).collect();
    let mut v1: Vec<Hierarchy> = Vec::new();
    for line in membership.lines() {
        let Some(name) = line.split(':').nth(1).filter(|name| !name.is_empty()) else { continue };
        // A hierarchy that isn't mounted here can't be used; a limit that needs it says so.
        if let Some(mount) = mounts.iter().find(|mount| mount.is_v1(name)) {
            v1.push(Hierarchy { name: name.to_owned(), mount_point: unescape(mount.point) });
        }
    }
    let unified = mounts.iter().find(|mount| mount.kind == "cgroup2").map(|mount| unescape(mount.point));
    if v1.iter().any(|hierarchy| !hierarchy.name.starts_with("name=")) {
        return Ok(Hierarchies::V1 { separate: v1, unified });
    }
    if let Some(mount_point) = unified {
        return Ok(Hierarchies::V2(mount_point));
    }
    if !v1.is_empty() {
        return Ok(Hierarchies::V1 { separate: v1, unified: None });
    }
    Err(Error::Refused {
        problem: "no cgroup hierarchy is mounted".to_owned(),
        hint: "mount -t cgroup2 none /sys/fs/cgroup",
    })
}

struct Mount<'a> {
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    /// Whether this is the version 1 hierarchy `name`. Each controller is in one hierarchy only, so the first decides.
    fn is_v1(&self, name: &str) -> bool {
        let first = name.split(',').next().unwrap_or(name);
        self.kind == "cgroup" && self.options.split(',').any(|option| option == first)
    }
}

/// One line of mountinfo: `ID PARENT MAJ:MIN ROOT POINT OPTIONS [FIELDS…] - TYPE SOURCE SUPER_OPTIONS`.
fn mount_of(line: &str) -> Option<Mount<'_>> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?;
    let mut filesystem = filesystem.split(' ');
    let kind = filesystem.next()?;
    let options = filesystem.nth(1)?;
    Some(Mount { point, kind, options })
}

/// mountinfo writes space, tab, line feed and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let plain =
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    Path::new(&plain).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:34 / /sys/fs/cgroup/free\\040zer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_is_version_1_with_the_named_and_the_unified_hierarchy() {
        let membership = "9:name=systemd:/\n6:freezer:/x\n5:devices:/\n2:cpu,cpuacct:/\n0::/\n";
        let Hierarchies::V1 { separate: found, unified } = parse(membership, HYBRID).unwrap() else {
            panic!("not version 1")
        };
        assert_eq!(unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let names: Vec<&str> = found.iter().map(|hierarchy| hierarchy.name.as_str()).collect();
        assert_eq!(names, ["name=systemd", "freezer", "cpu,cpuacct"], "devices isn't mounted");
        assert_eq!(found[1].mount_point, Path::new("/sys/fs/cgroup/free zer"));
    }

    #[test]
    fn unified_alone_is_version_2() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            parse("0::/user.slice\n", mounts).unwrap(),
            Hierarchies::V2(PathBuf::from("/sys/fs/cgroup"))
        );
    }

    #[test]
    fn a_named_hierarchy_counts_where_there_is_no_other() {
        let mounts = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let named = Hierarchy {
            name: "name=systemd".to_owned(),
            mount_point: PathBuf::from("/sys/fs/cgroup/systemd"),
        };
        let expected = Hierarchies::V1 { separate: vec![named], unified: None };
        assert_eq!(parse("1:name=systemd:/init.scope\n0::/\n", mounts).unwrap(), expected);
        let both = format!("{mounts}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        assert!(matches!(parse("1:name=systemd:/\n0::/\n", &both).unwrap(), Hierarchies::V2(_)));
    }

    #[test]
    fn no_hierarchy_is_an_error_that_says_what_to_do() {
        let error = parse("", "22 27 0:21 / /proc rw - proc proc rw\n").unwrap_err();
        assert!(error.hint().unwrap().contains("mount"), "{error}");
    }

    #[test]
    fn this_host_has_one() {
        assert!(matches!(hierarchies().unwrap(), Hierarchies::V1 { .. } | Hierarchies::V2(_)));
    }
}
