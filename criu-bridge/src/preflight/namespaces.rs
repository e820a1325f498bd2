//! Namespaces within the container's.

use super::{Finding, Process, Scene};
use crate::tasks;

/// Kinds that CRIU takes from the first process alone. (Mount and network namespaces may be many.)
const OF_THE_ROOT: &[&str] =
    &["pid", "pid_for_children", "user", "ipc", "uts", "cgroup", "time", "time_for_children"];

/// Processes in a namespace of their own of such a kind: sandboxes, containers in the container.
pub(super) fn nested(scene: &Scene<'_>) -> Vec<Finding> {
    let Some(root) = scene.root() else { return Vec::new() };
    let mut found = Vec::new();
    for process in scene.processes.iter().skip(1).chain(std::iter::once(root)) {
        for kind in OF_THE_ROOT {
            let kin = kind.trim_end_matches("_for_children");
            if let (Some(own), Some(whole)) = (number(process, kind), number(root, kin))
                && own != whole
            {
                let what = format!("has a {kin} namespace within the container's, which criu cannot dump:");
                let on = format!("{kind}:[{own}]");
                let hint =
                    "end it before the checkpoint, or turn the sandbox off in the program's configuration";
                found.push(Finding::of(process, "nested-namespace", &what, on, hint));
                break;
            }
        }
    }
    found
}

fn number(process: &Process, kind: &str) -> Option<u64> {
    tasks::namespace(process.pid, kind).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Asked;

    #[test]
    fn a_child_in_a_namespace_of_its_own_is_told() {
        let me = std::process::id().cast_signed();
        let mut child = std::process::Command::new("unshare").args(["--uts", "sleep", "60"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let begun = std::time::Instant::now();
        while tasks::namespace(pid, "uts").ok() == tasks::namespace(me, "uts").ok()
            && begun.elapsed().as_secs() < 20
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let scene = Scene::look(&[me, pid], None, Asked::default()).unwrap();
        let found = nested(&scene);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].blocker.on.starts_with("uts:[") && found[0].blocker.pid == Some(pid));
        assert!(nested(&Scene::look(&[me], None, Asked::default()).unwrap()).is_empty());
    }
}
