//! Cgroups that a container has made below its own, as a checkpoint keeps them.
//!
//! Their names are data from outside when they come back: they lead nowhere but below the container's cgroup, there are
//! not many of them, and only files that limit are written.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::v1::inherit_cpuset;
use super::{Cgroup, files, tree};
use crate::error::{Error, Result};

/// Most of them that are kept, in all hierarchies; a host's systemd in a container makes about a hundred.
const MOST: usize = 4096;

/// Deepest one, counted from the container's.
const DEEPEST: usize = 32;

/// What limits, of both versions, in an order in which it may be written. All else is the kernel's, or is counted.
const LIMITS: [&str; 20] = [
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.max",
    "cpu.shares",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.high",
    "memory.limit_in_bytes",
    "memory.low",
    "memory.max",
    "memory.memsw.limit_in_bytes",
    "memory.min",
    "memory.oom.group",
    "memory.soft_limit_in_bytes",
    "memory.swap.max",
    "memory.swappiness",
    "pids.max",
];

/// One of them, in one hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InnerCgroup {
    /// The hierarchy, as [`super::CgroupPaths`] has it.
    pub hierarchy: String,
    /// Its path below the container's; empty for that one itself.
    pub path: String,
    /// Who owns its folder, as ids of the host, if that isn't root.
    pub owner: Option<(u32, u32)>,
    /// The controllers that it hands down (version 2).
    pub controllers: Vec<String>,
    /// Its limits, by file.
    pub limits: BTreeMap<String, String>,
    /// Its processes, in the caller's pid namespace or as the caller has changed them.
    pub processes: Vec<u32>,
}

/// Looks at what is below `cgroup`. Empty where the container has made nothing.
///
/// # Errors
/// [`Error::Call`]; [`Error::Refused`] when there are too many.
pub fn inner(cgroup: &dyn Cgroup) -> Result<Vec<InnerCgroup>> {
    let mut found = Vec::new();
    for (hierarchy, top) in cgroup.directories() {
        let mut all = tree::directories(&top)?;
        // Without one below there is nothing to tell of the container's own.
        if all.len() < 2 {
            continue;
        }
        all.reverse();
        if found.len() + all.len() > MOST {
            return Err(Error::Refused {
                problem: format!("the container has made more than {MOST} cgroups below its own"),
                hint: "let it remove those that it does not need",
            });
        }
        for directory in all {
            found.push(look(&hierarchy, &top, &directory)?);
        }
    }
    Ok(found)
}

fn look(hierarchy: &str, top: &Path, directory: &Path) -> Result<InnerCgroup> {
    let path = directory.strip_prefix(top).unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let about = fs::metadata(directory).map_err(Error::at("stat", directory))?;
    let text = |file: &str| files::read_if_there(directory, file).ok().flatten();
    let owner = (about.uid() != 0).then(|| (about.uid(), about.gid()));
    let handed = text("cgroup.subtree_control").unwrap_or_default();
    let processes = text("cgroup.procs").unwrap_or_default();
    // The container's own limits are its configuration's.
    let limits = if path.is_empty() { &[][..] } else { &LIMITS[..] };
    Ok(InnerCgroup {
        hierarchy: hierarchy.to_owned(),
        owner,
        controllers: handed.split_whitespace().map(str::to_owned).collect(),
        limits: limits.iter().filter_map(|file| Some(((*file).to_owned(), text(file)?))).collect(),
        // Those that are where the container's first one is put need no move.
        processes: if path.is_empty() {
            Vec::new()
        } else {
            processes.lines().filter_map(|line| line.parse().ok()).collect()
        },
        path,
    })
}

/// Makes cgroups below `cgroup`, and moves processes to them: `number` is a process's in the caller's pid namespace.
/// What has a hierarchy that isn't there is left out; the hierarchies are returned.
///
/// # Errors
/// [`Error::Call`]; [`Error::Refused`] for names that lead elsewhere.
pub fn make_inner(
    cgroup: &dyn Cgroup,
    wanted: &[InnerCgroup],
    number: &dyn Fn(u32) -> Option<Pid>,
) -> Result<Vec<String>> {
    if wanted.len() > MOST {
        return Err(refused(format!("{} cgroups below the container's", wanted.len())));
    }
    let own = cgroup.directories();
    let mut absent = Vec::new();
    let mut made: Vec<(PathBuf, &InnerCgroup)> = Vec::new();
    for one in wanted {
        let Some(top) = own.get(&one.hierarchy) else {
            if !absent.contains(&one.hierarchy) {
                absent.push(one.hierarchy.clone());
            }
            continue;
        };
        made.push((top.join(below(&one.path)?), one));
    }
    // What is above comes first.
    made.sort_by_key(|(directory, _)| directory.components().count());
    for (directory, one) in made.iter().filter(|(_, one)| !one.path.is_empty()) {
        files::make_dir(directory)?;
        if one.hierarchy.split(',').any(|controller| controller == "cpuset") {
            inherit_cpuset(directory)?;
        }
    }
    for (directory, one) in &made {
        for pid in one.processes.iter().filter_map(|process| number(*process)) {
            files::write(directory, "cgroup.procs", &pid.to_string())?;
        }
    }
    // Not before: a cgroup of version 2 that hands controllers down has no processes of its own.
    for (directory, one) in &made {
        for controller in &one.controllers {
            if !controller.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                return Err(refused(format!("a controller {controller:?}")));
            }
            if let Err(error) = files::write(directory, "cgroup.subtree_control", &format!("+{controller}")) {
                tracing::warn!("{}", error.in_full());
            }
        }
        for file in LIMITS {
            let Some(value) = one.limits.get(file) else { continue };
            if files::read_if_there(directory, file)?.is_some_and(|now| now != *value)
                && let Err(error) = files::write(directory, file, value)
            {
                tracing::warn!("{}", error.in_full());
            }
        }
        if let Some((uid, gid)) = one.owner {
            give(directory, uid, gid)?;
        }
    }
    Ok(absent)
}

/// As somebody who made it there by himself would own it.
fn give(directory: &Path, uid: u32, gid: u32) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(Error::at("read", directory))?.flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    for path in files.map(|entry| entry.path()).chain([directory.to_owned()]) {
        chown(&path, Some(uid), Some(gid)).map_err(Error::at("chown", &path))?;
    }
    Ok(())
}

fn below(path: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    let mut depth = 0;
    for component in path.components() {
        depth += 1;
        if !matches!(component, Component::Normal(_)) || depth > DEEPEST {
            return Err(refused(format!("a cgroup {}", path.display())));
        }
    }
    Ok(path)
}

fn refused(what: String) -> Error {
    Error::Refused {
        problem: format!("a container is to come back with {what}"),
        hint: "its snapshot was not made by floe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_down() {
        assert_eq!(below("a/b").unwrap(), Path::new("a/b"));
        assert_eq!(below("").unwrap(), Path::new(""));
        for bad in ["/a", "../a", "a/../../b", &"x/".repeat(40)] {
            assert!(below(bad).is_err(), "{bad}");
        }
    }
}
