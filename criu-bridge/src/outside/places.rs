//! Where restored processes are.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use floe_runtime::cgroup::Cgroup;

use crate::error::{Error, Result};
use crate::tasks::{self, Task};

/// The processes of a tree that stands still, by their numbers in the container.
pub(crate) fn tree(init: i32) -> HashMap<u32, i32> {
    let numbered = |pid: i32| Some((tasks::inner_number(pid)?, pid));
    tasks::tree(init).into_iter().filter_map(numbered).collect()
}

/// The cgroups of a process by hierarchy, as the second field of `/proc/PID/cgroup` names them.
pub(crate) fn cgroups(pid: i32) -> Result<BTreeMap<String, PathBuf>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).map_err(|source| Error::call("read", &path, source))?;
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?.to_owned(), PathBuf::from(fields.next()?)))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Demands that every process of `expected` (by its number in the container) is in the cgroup of the container, in each
/// hierarchy in which that has one, or below it. `here` is the place of a process that is there for certain.
///
/// # Errors
/// [`Error::Misplaced`] with the first that is not.
pub(crate) fn demand(
    cgroup: &dyn Cgroup,
    here: &BTreeMap<String, PathBuf>,
    found: &HashMap<u32, i32>,
    expected: impl Iterator<Item = u32>,
) -> Result<()> {
    let own = cgroup.directories();
    for number in expected {
        if found.get(&number).is_some_and(|pid| tasks::is_ending(*pid)) {
            // Version 1 shows one that has ended at the root.
            continue;
        }
        let Some(pid) = found.get(&number) else {
            return Err(Error::Misplaced {
                process: format!("process {number} of the snapshot"),
                place: "nowhere below the first one".to_owned(),
            });
        };
        let there = cgroups(*pid)?;
        for (hierarchy, wanted) in here.iter().filter(|(hierarchy, _)| own.contains_key(*hierarchy)) {
            let place = there.get(hierarchy);
            if !place.is_some_and(|place| place.starts_with(wanted)) {
                let place = place.map_or_else(String::new, |place| place.display().to_string());
                return Err(Error::Misplaced {
                    process: format!("process {pid} ({})", Task::look(*pid).name),
                    place: format!("in {place} of the hierarchy {hierarchy:?}, not in {}", wanted.display()),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_children_of_a_process_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = tree(std::process::id().cast_signed());
        let pid = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.values().any(|known| known.cast_unsigned() == pid), "{found:?}");
    }

    #[test]
    fn one_that_is_elsewhere_or_nowhere_is_told() {
        let me = std::process::id();
        let own = cgroups(me.cast_signed()).unwrap();
        let found = HashMap::from([(1, me.cast_signed())]);
        let cgroup =
            floe_runtime::cgroup::V1::new(own.keys().map(|name| (name.clone(), "/".into())).collect());
        demand(&cgroup, &own, &found, [1].into_iter()).unwrap();
        let elsewhere: BTreeMap<_, _> =
            own.keys().map(|name| (name.clone(), PathBuf::from("/no/such"))).collect();
        let told = demand(&cgroup, &elsewhere, &found, [1].into_iter()).unwrap_err().to_string();
        assert!(told.contains(&format!("process {me} ")) && told.contains("not in /no/such"), "{told}");
        let told = demand(&cgroup, &own, &found, [1, 2].into_iter()).unwrap_err().to_string();
        assert!(told.contains("process 2 of the snapshot came back nowhere"), "{told}");
    }

    #[test]
    fn every_hierarchy_is_read() {
        let own = cgroups(std::process::id().cast_signed()).unwrap();
        assert!(!own.is_empty() && own.values().all(|path| path.is_absolute()), "{own:?}");
    }
}
