//! A hundred processes with everything between them, frozen and restored: they check themselves and find nothing
//! changed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use support::Place;
use support::leaks::Picture;
use support::program::Bundle;

/// CRIU asks for the limits of processes of other users by prlimit(2), which takes this capability.
fn has_sys_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << 24) != 0
}

/// The tree with all that this host can freeze.
fn tree(place: &Place, arguments: &[&str]) -> Bundle {
    let mut arguments = arguments.to_vec();
    if has_sys_resource() {
        arguments.push("--users");
    } else {
        eprintln!(
            "without CAP_SYS_RESOURCE the tree is built without processes of other users: CRIU cannot dump them"
        );
    }
    Bundle::of_program(&place.join("bundle"), "process-tree", &arguments)
}

/// Which round the tree is in: each check begins the next.
fn round(answer: &str) -> u32 {
    answer.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("no round in {answer:?}"))
}

#[test]
fn a_hundred_processes_come_back_under_another_name() {
    let place = Place::new("tree");
    let before = Picture::without_criu(&place, &[]);
    let bundle = tree(&place, &[]);
    let (first, second, third) = (place.name("first"), place.name("second"), place.name("third"));
    let archive = place.join("tree.tar.zst");
    let archive = archive.to_str().unwrap();

    place.start(&first, bundle.path());
    assert!(bundle.ready().starts_with("ok"), "the tree was not built: {}", bundle.ready());
    let checks = bundle.ask_ok("");
    assert_eq!(round(&checks), 1);
    place.ok(["checkpoint", &first, "--to", archive]);
    assert!(place.state(&first).is_none_or(|state| state["status"] == "stopped"));
    place.ok(["delete", &first]);
    place.ok(["verify", archive]);

    // Twice from the same snapshot: a restore does not use it up.
    for name in [&second, &third] {
        place.ok(["restore", name, "--detach", "--from", archive]);
        assert_eq!(place.state(name).unwrap()["status"], "running");
        assert_eq!(round(&bundle.ask_ok("")), 2, "{name} did not go on where it was frozen");
        // What was refilled over restored pipes, sockets and timers arrives.
        assert_eq!(round(&bundle.ask_ok("")), 3);
        place.ok(["delete", "--force", name]);
    }
    before.assert_unchanged();
}

#[test]
fn what_is_frozen_while_it_runs_on_is_what_the_archive_holds() {
    let place = Place::new("tree-on");
    let before = Picture::without_criu(&place, &[]);
    let bundle = tree(&place, &["--file-locks"]);
    let (name, again) = (place.name("original"), place.name("again"));
    let archive = place.join("tree.tar.zst");
    let archive = archive.to_str().unwrap();

    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"), "the tree was not built: {}", bundle.ready());
    let pid = place.pid(&name);
    place.ok(["checkpoint", &name, "--to", archive, "--leave-running", "--file-locks"]);
    assert_eq!(place.state(&name).unwrap()["status"], "running");
    assert_eq!(place.pid(&name), pid);
    // It goes on unchanged, and away from what was frozen.
    for expected in 1..=3 {
        assert_eq!(round(&bundle.ask_ok("")), expected);
    }
    place.ok(["delete", "--force", &name]);
    // Once more from the moment of the freeze.
    place.ok(["restore", &again, "--detach", "--from", archive]);
    for expected in 1..=2 {
        assert_eq!(round(&bundle.ask_ok("")), expected);
    }
    // And from there again, which takes what a restored tree is made of through CRIU a second time.
    place.ok(["checkpoint", &again, "--to", place.join("second.tar.zst").to_str().unwrap(), "--file-locks"]);
    place.ok(["delete", &again]);
    place.ok(["restore", &name, "--detach", "--from", place.join("second.tar.zst").to_str().unwrap()]);
    assert_eq!(round(&bundle.ask_ok("")), 3);
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}
