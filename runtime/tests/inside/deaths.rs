//! Processes that die in the middle.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::helper;
use crate::support::{Bundle, eventually, full};

pub const TESTS: &[(&str, fn())] = &[
    ("a_floe_that_dies_leaves_no_process", a_floe_that_dies_leaves_no_process),
    ("an_init_that_dies_before_start_is_told", an_init_that_dies_before_start_is_told),
    ("a_failure_leaves_nothing", a_failure_leaves_nothing),
];

/// The children of a process.
fn children(of: u32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Killed at moments all over the start-up, from the child's first on: whatever it had made of the container ends by
/// itself, or is on record and can be deleted.
fn a_floe_that_dies_leaves_no_process() {
    let bundle = Bundle::with_script("sleep 20");
    for milliseconds in (0..48).step_by(4) {
        let mut floe = helper::command("create-and-stay", &bundle).stdout(Stdio::null()).spawn().unwrap();
        eventually("a child is there", || !children(floe.id()).is_empty());
        std::thread::sleep(Duration::from_millis(milliseconds));
        let started = children(floe.id());
        floe.kill().unwrap();
        floe.wait().unwrap();
        for container in bundle.store().list().unwrap() {
            container.delete(true).unwrap();
        }
        for pid in started {
            eventually("the child ends", || !is_ours(pid));
        }
    }
}

fn is_ours(pid: i32) -> bool {
    let alive = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    alive && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("floe"))
}

fn an_init_that_dies_before_start_is_told() {
    let bundle = Bundle::with_script("true");
    let running = bundle.create().unwrap();
    kill(running.pid(), Signal::SIGKILL).unwrap();
    running.wait();
    let error = running.container.start().unwrap_err();
    assert!(full(&error).contains("stopped"), "{}", full(&error));
}

fn a_failure_leaves_nothing() {
    let mut bundle = Bundle::new();
    bundle.mount(json!({"destination": "/x", "type": "nosuchfs", "source": "x"}));
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = std::process::id();
    let reaped = children(own);
    bundle.refused();
    assert_eq!(children(own), reaped, "the child is reaped");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    assert_eq!(fs::read_dir(bundle.path().join("state")).unwrap().count(), 0);
}
