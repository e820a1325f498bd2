//! Descriptors of the kernel's own kinds, which have no file behind them.

use super::{Finding, Scene};

/// Kinds that CRIU dumps (dump_one_file() of its files.c).
const DUMPED: &[&str] =
    &["[eventfd]", "[eventpoll]", "inotify", "[fanotify]", "[signalfd]", "[timerfd]", "[pidfd]"];

/// Kinds that are told by a name of their own: the link, the kind of finding, what it is, what helps.
const TOLD: &[(&str, &str, &str, &str)] = &[
    (
        "[io_uring]",
        "io-uring",
        "uses io_uring, which criu cannot dump, on descriptor",
        "turn io_uring off in the program's configuration",
    ),
    (
        "[userfaultfd]",
        "userfaultfd",
        "handles page faults itself (userfaultfd), which criu cannot dump, on descriptor",
        "turn userfaultfd off in the program's configuration",
    ),
    (
        "[perf_event]",
        "perf-event",
        "counts events of the processor (perf_event_open), which criu cannot dump, on descriptor",
        "end the profiler and try again",
    ),
    (
        "seccomp notify",
        "seccomp-listener",
        "answers other processes' system calls (seccomp user notification), which criu cannot dump, on descriptor",
        "run the program without its sandbox of this kind",
    ),
];

/// What CRIU knows nothing of.
pub(super) fn unsupported(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (process, descriptor) in scene.descriptors() {
        let target = descriptor.target.to_string_lossy();
        let Some(name) = target.strip_prefix("anon_inode:") else { continue };
        if DUMPED.contains(&name) {
            continue;
        }
        let fd = descriptor.fd;
        found.push(match TOLD.iter().find(|(link, ..)| *link == name) {
            Some((_, kind, what, hint)) => Finding::of(process, kind, what, fd, hint),
            None if name.starts_with("bpf") || name.starts_with("[bpf") => {
                let what = format!("holds a BPF object ({name}), which criu cannot dump, on descriptor");
                Finding::of(process, "bpf", &what, fd, "close it before the checkpoint")
            }
            None => {
                let what = format!("holds a descriptor of a kind that criu cannot dump ({name}):");
                Finding::of(process, "anonymous-file", &what, fd, "close it before the checkpoint")
            }
        });
    }
    found
}

/// A pidfd can be made again only for a process that is dumped too.
pub(super) fn pidfds(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (process, descriptor) in scene.descriptors() {
        let target = descriptor.target.to_string_lossy();
        if target != "anon_inode:[pidfd]" && !target.starts_with("pidfd:") {
            continue;
        }
        let info = process.info(descriptor.fd);
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok());
        // -1: the process has ended, which CRIU can make again.
        let Some(pid) = pid.filter(|pid| *pid > 0 && scene.process(*pid).is_none()) else { continue };
        let what = format!("holds a pidfd of process {pid}, which is not dumped with it, on descriptor");
        found.push(Finding::of(
            process,
            "pidfd-outside",
            &what,
            descriptor.fd,
            "close it before the checkpoint",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Process;
    use crate::tasks::Kind;

    fn kind(target: &str) -> Option<&'static str> {
        let scene = Scene::of(Process::with(target, Kind::Anonymous, |_| {}));
        unsupported(&scene).first().map(|finding| finding.kind)
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(kind("anon_inode:[io_uring]"), Some("io-uring"));
        assert_eq!(kind("anon_inode:[userfaultfd]"), Some("userfaultfd"));
        assert_eq!(kind("anon_inode:bpf-map"), Some("bpf"));
        assert_eq!(kind("anon_inode:[fscontext]"), Some("anonymous-file"));
        for known in DUMPED {
            assert_eq!(kind(&format!("anon_inode:{known}")), None, "{known}");
        }
    }

    #[test]
    fn a_pidfd_of_a_stranger_is_told_and_an_own_one_is_not() {
        let me = std::process::id().cast_signed();
        let own = nix::unistd::Pid::from_raw(me);
        let flags = rustix::process::PidfdFlags::empty();
        let _fd = rustix::process::pidfd_open(rustix::process::Pid::from_raw(own.as_raw()).unwrap(), flags)
            .unwrap();
        let scene = Scene::look(&[me], None, super::super::Asked::default()).unwrap();
        assert!(pidfds(&scene).is_empty(), "{:?}", pidfds(&scene));
    }
}
