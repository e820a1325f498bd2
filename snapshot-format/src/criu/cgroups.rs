//! `cgroup.img`: in which cgroups the processes were.
//!
//! Told to ignore cgroups, CRIU says where they were and nothing of those cgroups themselves. A restore that does not
//! ignore them (runc's) then finds places that it can neither make nor give another name. The walk through all hierarchies
//! by which CRIU would learn more takes the time of a frozen container; names are all that is needed.

use std::collections::BTreeSet;

use protobuf::MessageField;

use super::framing::{CGROUP, COMMON, Image, messages, parse};
use super::images::{Cg_controller_entry, Cgroup_dir_entry, Cgroup_entry, Cgroup_perms};
use crate::error::Result;

const NAME: &str = "cgroup.img";

/// A folder, as floe and runc make those of cgroups.
const MODE: u32 = 0o40_755;

/// The image `bytes`, with the cgroups that its processes are in.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn with_folders(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut image = Image::new(COMMON, CGROUP);
    for message in messages(NAME, bytes, COMMON, CGROUP)? {
        let mut entry: Cgroup_entry = parse(NAME, message)?;
        let members: Vec<_> = entry.sets.iter().flat_map(|set| set.ctls.clone()).collect();
        for controller in entry.controllers.iter_mut().filter(|controller| controller.dirs.is_empty()) {
            let own =
                members.iter().filter(|member| controller.cnames.iter().any(|name| name == member.name()));
            add(controller, &own.map(|member| member.path()).collect());
        }
        image.message(NAME, &entry)?;
    }
    Ok(image.finish())
}

/// One folder above all paths, since that is what a restore gives another name, and the others below it.
fn add(controller: &mut Cg_controller_entry, paths: &BTreeSet<&str>) {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let all: Vec<Vec<String>> = paths.iter().map(|path| parts(path)).collect();
    let Some(first) = all.first() else { return };
    let common =
        (0..first.len()).take_while(|at| all.iter().all(|one| one.get(*at) == first.get(*at))).count();
    if common == 0 {
        // The root of the hierarchy is always there.
        return;
    }
    let mut top = folder(&first[..common]);
    top.children = all.iter().filter(|one| one.len() > common).map(|one| folder(&one[common..])).collect();
    controller.dirs.push(top);
}

fn folder(parts: &[String]) -> Cgroup_dir_entry {
    let mut perms = Cgroup_perms::new();
    perms.set_mode(MODE);
    perms.set_uid(0);
    perms.set_gid(0);
    let mut folder = Cgroup_dir_entry::new();
    folder.set_dir_name(parts.join("/"));
    folder.dir_perms = MessageField::some(perms);
    folder
}

#[cfg(test)]
mod tests {
    use super::super::images::{Cg_member_entry, Cg_set_entry};
    use super::*;

    /// For each path that processes are in: the folder above all, and those below.
    fn folders(paths: &[&str]) -> Option<(String, Vec<String>)> {
        let mut entry = Cgroup_entry::new();
        let mut controller = Cg_controller_entry::new();
        controller.cnames = vec!["cpu".to_owned(), "cpuacct".to_owned()];
        entry.controllers.push(controller);
        for path in paths {
            let mut member = Cg_member_entry::new();
            member.set_name("cpuacct".to_owned());
            member.set_path((*path).to_owned());
            let mut set = Cg_set_entry::new();
            set.ctls.push(member);
            entry.sets.push(set);
        }
        let mut image = Image::new(COMMON, CGROUP);
        image.message(NAME, &entry).unwrap();
        let changed = with_folders(&image.finish()).unwrap();
        let message = messages(NAME, &changed, COMMON, CGROUP).unwrap()[0];
        let entry: Cgroup_entry = parse(NAME, message).unwrap();
        let top = entry.controllers[0].dirs.first()?;
        let below = top.children.iter().map(|child| child.dir_name().to_owned()).collect();
        Some((top.dir_name().to_owned(), below))
    }

    #[test]
    fn there_is_one_folder_above_all() {
        let told = |top: &str, below: &[&str]| {
            Some((top.to_owned(), below.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()))
        };
        assert_eq!(folders(&["/web"]), told("web", &[]));
        assert_eq!(folders(&["//a/web", "/a/web/b/c"]), told("a/web", &["b/c"]));
        assert_eq!(folders(&["/a/web/x", "/a/web/y"]), told("a/web", &["x", "y"]));
        assert_eq!(folders(&["/"]), None);
        assert_eq!(folders(&["/a", "/b"]), None);
        assert!(with_folders(b"short").is_err());
    }
}
