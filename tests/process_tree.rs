//! A hundred processes with everything between them, frozen and restored: they check themselves and find nothing
//! changed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;

use serde_json::json;
use support::Place;
use support::leaks::Picture;
use support::program::Bundle;

/// CRIU asks for the limits of processes of other users by prlimit(2), which takes this capability.
fn has_sys_resource() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
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

/// Without a cgroup namespace of its own the restored one would see, and have mounted, the host's whole tree.
#[test]
fn a_container_that_sees_its_cgroup_as_the_root_does_so_again() {
    let place = Place::new("cgroupns");
    let before = Picture::without_criu(&place, &[]);
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "1"]);
    bundle.change(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        }));
    });
    // The namespace, and what of each hierarchy is mounted, as the host names it: the part of /proc/PID/cgroup and
    // mountinfo(5), field 4.
    let view = |name: &str| {
        let pid = place.pid(name);
        let namespace = fs::read_link(format!("/proc/{pid}/ns/cgroup")).unwrap();
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let roots: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .map(|line| line.split(' ').nth(3).unwrap().to_owned())
            .collect();
        (namespace, roots)
    };
    let own = fs::read_link("/proc/self/ns/cgroup").unwrap();
    let mut name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    let mounted = view(&name).1.len();
    assert!(mounted > 0);
    for round in 0..2 {
        let again = place.there_and_back(&name, &format!("again-{round}"), &[]);
        bundle.ask_ok("");
        let (namespace, roots) = view(&again);
        assert_ne!(namespace, own, "round {round}");
        assert!(
            roots.len() == mounted && roots.iter().all(|root| root.contains(&*again)),
            "{round}: {roots:?}"
        );
        name = again;
    }
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}
