//! Sessions and terminals whose other half is not dumped.

use std::collections::HashSet;

use super::{Finding, Process, Scene};
use crate::tasks::Kind;

/// The first process has to lead its session, and no session may come from outside the pid namespace: CRIU wants to be told
/// that it may. (A session whose leader has ended is made again.)
pub(super) fn outside(scene: &Scene<'_>) -> Vec<Finding> {
    if scene.asked.shell_job {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, process) in scene.processes.iter().enumerate() {
        let (Some(session), Some(pid)) = (innermost(process, "NSsid"), innermost(process, "NSpid")) else {
            continue;
        };
        if session == 0 || (at == 0 && session != pid) {
            let what = "belongs to a session whose leader is not dumped with it: process";
            let leader =
                process.field("NSsid").and_then(|ids| ids.split_whitespace().next()).unwrap_or_default();
            found.push(Finding::of(process, "session-outside", what, leader, "pass --shell-job"));
        }
    }
    if scene.config.is_none() {
        found.extend(terminals(scene));
    }
    found
}

/// Of a plain process tree: a terminal whose master nobody in it holds. (A container's is handed over.)
fn terminals(scene: &Scene<'_>) -> Vec<Finding> {
    let open: Vec<(&Process, String)> = scene
        .descriptors()
        .filter(|(_, descriptor)| descriptor.kind == Kind::Terminal)
        .map(|(process, descriptor)| (process, descriptor.target.display().to_string()))
        .collect();
    let masters = scene.descriptors().any(|(_, descriptor)| descriptor.target.ends_with("ptmx"));
    if masters {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let first = open.into_iter().filter(|(_, path)| seen.insert(path.clone()));
    let what = "uses a terminal whose other end is not dumped with it:";
    first
        .map(|(process, path)| Finding::of(process, "terminal-outside", what, path, "pass --shell-job"))
        .collect()
}

/// The id in the process's own pid namespace; 0 for a session from outside of it (`NSsid` of proc_pid_status(5)).
fn innermost(process: &Process, field: &str) -> Option<i32> {
    process.field(field)?.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Asked;

    #[test]
    fn a_child_belongs_to_our_session_and_one_with_its_own_does_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let look = |asked| Scene::look(&[pid], None, asked).unwrap();
        assert_eq!(outside(&look(Asked::default()))[0].kind, "session-outside");
        assert!(outside(&look(Asked { shell_job: true, ..Asked::default() })).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        let mut leader = std::process::Command::new("setsid").args(["sleep", "60"]).spawn().unwrap();
        let pid = i32::try_from(leader.id()).unwrap();
        let begun = std::time::Instant::now();
        while innermost(&Process::look(pid), "NSsid") != Some(pid) && begun.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(
            outside(&Scene::look(&[pid], None, Asked::default()).unwrap())
                .iter()
                .all(|finding| finding.kind != "session-outside")
        );
        leader.kill().unwrap();
        leader.wait().unwrap();
    }
}
