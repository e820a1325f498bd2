//! `ctr tasks checkpoint`, and what comes back of it.

use std::fs;

use crate::engine::Containerd;
use crate::support::calls::eventually;

/// Counts in a file.
const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.05; done";

/// How far it has counted.
#[track_caller]
fn count(containerd: &Containerd, name: &str) -> u64 {
    let mut found = None;
    eventually("there is a number", || {
        let said = containerd.ok(containerd.exec_arguments(name, "look", &[], "cat /tmp/count"));
        found = said.trim().parse().ok();
        found.is_some()
    });
    found.unwrap()
}

#[track_caller]
fn counts_on(containerd: &Containerd, name: &str, least: u64) {
    let now = count(containerd, name);
    assert!(now >= least, "{name} has forgotten how far it was: {now}, and before {least}");
    eventually("it counts on", || count(containerd, name) > now);
}

#[test]
fn a_task_is_frozen_into_a_folder_and_runs_on_or_ends() {
    let containerd = Containerd::new();
    containerd.start("web", &[], COUNTS);
    let before = count(&containerd, "web");
    let (images, work) = (containerd.place().join("images"), containerd.place().join("work"));
    let paths = ["--image-path", images.to_str().unwrap(), "--work-path", work.to_str().unwrap()];
    for _ in 0..2 {
        containerd.ok([&["tasks", "checkpoint"], &paths[..], &["web"]].concat());
        counts_on(&containerd, "web", before);
    }
    assert!(images.join("inventory.img").exists());
    assert!(work.join("stats-dump").exists() && work.join("dump.log").exists());
    containerd.ok([&["tasks", "checkpoint", "--exit"], &paths[..], &["web"]].concat());
    eventually("it has ended", || containerd.status("web").as_deref() == Some("STOPPED"));
    containerd.ok(["tasks", "delete", "web"]);
    containerd.ok(["containers", "delete", "web"]);
}

#[test]
fn a_failure_is_told_and_its_log_is_kept() {
    let containerd = Containerd::new();
    // A pipe that leads to the shim is let go; a UNIX socket to somebody outside is not.
    containerd.start("web", &["--net-host"], "while :; do sleep 0.05; done");
    let work = containerd.place().join("work");
    fs::write(&work, "no folder").unwrap();
    let images = containerd.place().join("images");
    let paths = ["--image-path", images.to_str().unwrap(), "--work-path", work.to_str().unwrap()];
    let said = containerd.call([&["tasks", "checkpoint"], &paths[..], &["web"]].concat());
    assert!(!said.status.success() && said.stderr.contains("work"), "{said:?}");
    assert_eq!(containerd.status("web").as_deref(), Some("RUNNING"));
    containerd.remove("web");
}

#[test]
fn a_container_is_kept_as_an_image_and_comes_back() {
    let containerd = Containerd::new();
    containerd.start("web", &[], COUNTS);
    let before = count(&containerd, "web");
    let flags = ["containers", "checkpoint", "--rw", "--image", "--task", "web", "localhost/frozen:1"];
    containerd.ok(flags);
    counts_on(&containerd, "web", before);
    containerd.remove("web");
    containerd.ok(["containers", "restore", "--rw", "--live", "again", "localhost/frozen:1"]);
    counts_on(&containerd, "again", before);
    containerd.remove("again");
}
