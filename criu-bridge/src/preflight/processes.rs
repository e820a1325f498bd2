//! Processes that cannot be stopped or read.

use std::fs::File;

use super::{Finding, Process, Scene};
use crate::sys;
use crate::tasks::{self, Task};

/// CRIU works through ptrace(2), and a task has one tracer.
pub(super) fn traced(scene: &Scene<'_>) -> Vec<Finding> {
    let tracer = |process: &Process| process.field("TracerPid")?.parse().ok().filter(|pid| *pid != 0);
    let traced = scene.processes.iter().filter_map(|process| Some((process, tracer(process)?)));
    traced
        .map(|(process, tracer): (_, i32)| {
            let on = format!("process {tracer} ({})", Task::look(tracer).name);
            Finding::of(
                process,
                "traced",
                "is being traced by",
                on,
                "detach the debugger or strace and try again",
            )
        })
        .collect()
}

/// A task in uninterruptible sleep cannot be stopped until it wakes: while its child by vfork(2) runs, or a file system
/// does not answer. Most are there for a moment.
pub(super) fn stuck(scene: &Scene<'_>) -> Vec<Finding> {
    let stuck = scene.processes.iter().filter(|process| state(process) == Some('D'));
    let frozen = scene.processes.iter().all(|process| state(process) == Some('D'));
    let one = |process: &Process| {
        let on = format!("/proc/{}/stack", process.pid);
        Finding::of(
            process,
            "stuck",
            "waits in the kernel and cannot be stopped meanwhile, see",
            on,
            "try again when it goes on",
        )
        .warning()
    };
    // On cgroup v1 all tasks of a paused container look so.
    if frozen { Vec::new() } else { stuck.map(one).collect() }
}

/// The first process as a zombie leaves nothing to dump; one whose first thread has ended while others run is beyond CRIU.
pub(super) fn ended(scene: &Scene<'_>) -> Vec<Finding> {
    let zombies = scene.processes.iter().enumerate().filter(|(_, process)| state(process) == Some('Z'));
    zombies
        .filter_map(|(at, process)| {
            let threads: u32 = process.field("Threads")?.parse().ok()?;
            if threads > 1 {
                let what = "its first thread has ended and others run on, which criu cannot dump:";
                let on = format!("{threads} threads");
                return Some(Finding::of(
                    process,
                    "zombie-threads",
                    what,
                    on,
                    "end the process before the checkpoint",
                ));
            }
            let hint = "there is nothing left to dump: delete the container";
            (at == 0).then(|| Finding::of(process, "zombie", "has ended", "", hint))
        })
        .collect()
}

/// CRIU reads resource limits by prlimit(2): of a process whose ids are not all its own it needs CAP_SYS_RESOURCE in the
/// process's user namespace, which who made that namespace has (user_namespaces(7)).
pub(super) fn of_other_users(scene: &Scene<'_>) -> Vec<Finding> {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let me = Process { status: own, ..Process::default() };
    let rights = me.field("CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(u64::MAX);
    if rights & CAP_SYS_RESOURCE != 0 {
        return Vec::new();
    }
    let ids = |process: &Process| {
        let three = |name| {
            process
                .field(name)
                .map(|ids| ids.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>())
        };
        three("Uid").zip(three("Gid"))
    };
    let real = |process: &Process| Some((ids(process)?.0.first()?.clone(), ids(process)?.1.first()?.clone()));
    let Some((uid, gid)) = real(&me) else { return Vec::new() };
    let others = scene.processes.iter().filter(|process| !is_made_by_us(process.pid)).filter(|process| {
        ids(process)
            .is_some_and(|(uids, gids)| uids.iter().any(|id| *id != uid) || gids.iter().any(|id| *id != gid))
    });
    let hint = "run floe with CAP_SYS_RESOURCE";
    let what = "runs as another user, and criu may not read its resource limits: uid and gid";
    let user = |process: &Process| real(process).map(|(uid, gid)| format!("{uid}:{gid}")).unwrap_or_default();
    others.map(|process| Finding::of(process, "other-user", what, user(process), hint)).collect()
}

/// Whether the process lives in a user namespace other than ours, and ours made it. One that has ended meanwhile, or is a
/// zombie, has none, and nobody asks for its limits.
fn is_made_by_us(pid: i32) -> bool {
    let Ok(namespace) = File::open(format!("/proc/{pid}/ns/user")) else { return true };
    let of = |pid| tasks::namespace(pid, "user").ok();
    of(pid) != of(std::process::id().cast_signed())
        && sys::owner_of(&namespace) == Ok(nix::unistd::geteuid().as_raw())
}

fn state(process: &Process) -> Option<char> {
    process.field("State")?.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(status: &str) -> Process {
        Process { pid: 7, name: "web".to_owned(), status: status.to_owned(), ..Process::default() }
    }

    #[test]
    fn a_tracer_is_named() {
        let found = traced(&Scene::of(process("Name:\tweb\nTracerPid:\t1\n")));
        assert!(found[0].blocker.on.starts_with("process 1 ("), "{found:?}");
        assert!(traced(&Scene::of(process("TracerPid:\t0\n"))).is_empty());
    }

    #[test]
    fn threads_that_outlive_the_first_one_are_told() {
        let found = ended(&Scene::of(process("State:\tZ (zombie)\nThreads:\t3\n")));
        assert_eq!(found[0].kind, "zombie-threads");
        assert_eq!(ended(&Scene::of(process("State:\tZ (zombie)\nThreads:\t1\n")))[0].kind, "zombie");
        assert!(ended(&Scene::of(process("State:\tS (sleeping)\nThreads:\t3\n"))).is_empty());
    }

    #[test]
    fn a_user_namespace_of_our_making_is_told_from_our_own() {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "cat"]);
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
        let pid = child.id().cast_signed();
        let comm = format!("/proc/{pid}/comm");
        while std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() != "cat") {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(is_made_by_us(pid));
        assert!(!is_made_by_us(std::process::id().cast_signed()));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn one_that_waits_is_a_warning_and_a_frozen_container_is_none() {
        let mut scene = Scene::of(process("State:\tD (disk sleep)\n"));
        assert!(stuck(&scene).is_empty());
        scene.processes.push(process("State:\tS (sleeping)\n"));
        assert_eq!(stuck(&scene)[0].weight, super::super::Weight::Warning);
    }
}
