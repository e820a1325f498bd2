//! A container that has nearly used up its memory limit is frozen and comes back without being killed: what CRIU and
//! floe need for it is not charged to the container.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use support::program::Bundle;
use support::{Place, rounds};

const LIMIT: u64 = 128 << 20;

/// The folder of the memory controller that a process is in.
fn memory_cgroup(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut lines = text.lines().map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>());
    let of_memory = |line: &Vec<&str>| line[0].split(',').any(|controller| controller == "memory");
    match lines.find(of_memory) {
        Some(line) => PathBuf::from("/sys/fs/cgroup/memory").join(line[1].trim_start_matches('/')),
        None => {
            let line = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
            PathBuf::from("/sys/fs/cgroup").join(line)
        }
    }
}

fn number(folder: &std::path::Path, names: [&str; 2]) -> u64 {
    let text = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
    text.unwrap_or_else(|| panic!("{names:?} is not in {}", folder.display())).trim().parse().unwrap()
}

/// How much of its limit a container uses, in percent, and how many of its processes were killed for it.
fn pressure(pid: i32) -> (u64, u64) {
    let folder = memory_cgroup(pid);
    let used = number(&folder, ["memory.usage_in_bytes", "memory.current"]);
    assert_eq!(number(&folder, ["memory.limit_in_bytes", "memory.max"]), LIMIT);
    let events = ["memory.oom_control", "memory.events"].map(|name| fs::read_to_string(folder.join(name)));
    let events = events.into_iter().flatten().next().unwrap();
    let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill ")).unwrap().parse().unwrap();
    (used * 100 / LIMIT, killed)
}

#[test]
fn a_container_at_its_limit_is_frozen_and_comes_back() {
    let place = Place::new("limit");
    let bundle = Bundle::of_program(
        &place.join("bundle"),
        "memory-map",
        &["--mib", "120", "--random", "50", "--words", "50"],
    );
    bundle.change(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": LIMIT, "swap": LIMIT}));
    let names = [place.name("one"), place.name("two")];
    let archive = place.join("full.tar.zst");
    let archive = archive.to_str().unwrap();
    place.start(&names[0], bundle.path());
    bundle.ready();
    let rounds = rounds(4);
    for round in 0..rounds {
        let (old, new) = (&names[round % 2], &names[(round + 1) % 2]);
        let (percent, killed) = pressure(place.pid(old));
        assert!(percent >= 95 && killed == 0, "{percent} % are used, {killed} processes were killed");
        // Once while it goes on, once for good.
        place.ok(["checkpoint", old, "--to", archive, "--leave-running"]);
        bundle.ask_ok("");
        place.ok(["checkpoint", old, "--to", archive]);
        place.ok(["delete", old]);
        place.ok(["restore", new, "--detach", "--from", archive]);
        bundle.ask_ok("");
    }
    place.ok(["delete", "--force", &names[rounds % 2]]);
}
