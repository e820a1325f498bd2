//! Process ids, where the snapshot has no pid namespace of its own.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use floe_runtime::config::NamespaceKind;

use super::super::{Blocker, Finding, Weight};
use super::Arrival;
use crate::tasks::{self, Task};

/// How long a process that has ended is waited for: whoever adopted it takes notice of it in a moment, or never does.
const NOTICE: Duration = Duration::from_secs(2);

/// Ids that the snapshot's processes need and others have.
pub(super) fn taken(arrival: &Arrival<'_>) -> Vec<Finding> {
    let begun = Instant::now();
    loop {
        let found = now(arrival);
        let all_ended = found.iter().all(|finding| finding.blocker.pid.is_some_and(tasks::is_ending));
        if found.is_empty() || !all_ended || begun.elapsed() > NOTICE {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn now(arrival: &Arrival<'_>) -> Vec<Finding> {
    let Some(config) = arrival.config else { return Vec::new() };
    let there = match config.namespace(NamespaceKind::Pid) {
        Some(namespace) => match &namespace.path {
            None => return Vec::new(),
            Some(path) => match std::fs::metadata(path) {
                Ok(meta) => inhabitants(meta.ino()),
                Err(_) => return Vec::new(),
            },
        },
        None => {
            inhabitants(std::fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino()).unwrap_or_default())
        }
    };
    let wanted = arrival.manifest.tasks.iter();
    wanted
        .filter_map(|task| there.iter().find(|(inside, _)| *inside == task.pid))
        .map(|(inside, host)| told(*inside, *host))
        .collect()
}

fn told(inside: u32, host: i32) -> Finding {
    let (what, hint) = match tasks::is_ending(host) {
        true => (
            "has ended, and keeps a process id that the snapshot needs until its parent takes notice of it:",
            "end its parent, or the whole pid namespace",
        ),
        false => (
            "has a process id that the snapshot needs:",
            "end it, or give the container a pid namespace of its own",
        ),
    };
    let blocker = Blocker {
        pid: Some(host),
        process: Task::look(host).name,
        what: what.to_owned(),
        on: inside.to_string(),
        hint: hint.to_owned(),
    };
    Finding { kind: "pid-taken", weight: Weight::Blocker, blocker }
}

/// Who lives in the pid namespace with this number: pid in it, pid here.
fn inhabitants(namespace: u64) -> Vec<(u32, i32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| crate::tasks::namespace(*pid, "pid").is_ok_and(|own| own == namespace))
        .filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            Some((numbers.split_whitespace().last()?.parse().ok()?, pid))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_an_inhabitant_of_its_namespace() {
        let own = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
        let me = std::process::id();
        assert!(inhabitants(own).iter().any(|(_, host)| host.unsigned_abs() == me));
        assert!(inhabitants(1).is_empty());
    }
}
