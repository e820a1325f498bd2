//! `podman container checkpoint` and `restore` of containers that stay on this host.

use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::engine::{IMAGE, Podman};
use crate::support::calls::{eventually, finish};
use crate::support::program::Bundle;
use crate::support::runc::criu;

/// Counts in a file and on its output.
pub const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; echo $i; sleep 0.05; done";

/// How far it has counted.
#[track_caller]
pub fn count(podman: &Podman, name: &str) -> u64 {
    // While it is written, the file is empty for a moment.
    let mut found = None;
    eventually("there is a number", || {
        found = podman.ok(["exec", name, "cat", "/tmp/count"]).trim().parse().ok();
        found.is_some()
    });
    found.unwrap()
}

/// It counts on from where it was at `least`, in the file and on the output that podman keeps.
#[track_caller]
pub fn counts_on(podman: &Podman, name: &str, least: u64) {
    let now = count(podman, name);
    assert!(now >= least, "{name} has forgotten how far it was: {now}, and before {least}");
    eventually("it counts on", || count(podman, name) > now);
    eventually("what it prints is heard", || {
        let last = podman.ok(["logs", "--tail", "1", name]);
        last.trim().parse::<u64>().is_ok_and(|number| number > now)
    });
}

#[test]
fn a_container_is_frozen_and_comes_back() {
    let podman = Podman::new();
    podman.start("web", &[], COUNTS);
    eventually("it counts", || count(&podman, "web") > 2);
    for round in 0..2 {
        let before = count(&podman, "web");
        let said = podman.call(["container", "checkpoint", "web"]);
        assert!(said.status.success() && said.stdout == "web\n" && said.stderr.is_empty(), "{said:?}");
        assert_eq!(podman.status("web"), "exited");
        assert_eq!(podman.inspect("web")["State"]["Checkpointed"], true);
        let said = podman.call(["container", "restore", "web"]);
        assert!(said.status.success() && said.stderr.is_empty(), "{round}: {said:?}");
        counts_on(&podman, "web", before);
    }
    // It is a container like any other.
    podman.ok(["pause", "web"]);
    podman.ok(["unpause", "web"]);
    podman.ok(["exec", "web", "sh", "-c", "echo 7 >/tmp/other"]);
    podman.ok(["stop", "--time", "0", "web"]);
    podman.ok(["start", "web"]);
    assert!(count(&podman, "web") < 1000);
}

#[test]
fn one_that_is_left_running_runs_on() {
    let podman = Podman::new();
    podman.start("web", &[], COUNTS);
    let before = count(&podman, "web");
    let pid = podman.inspect("web")["State"]["Pid"].clone();
    for _ in 0..2 {
        podman.ok(["container", "checkpoint", "--leave-running", "web"]);
        counts_on(&podman, "web", before);
    }
    assert_eq!(podman.inspect("web")["State"]["Pid"], pid);
    assert_eq!(podman.status("web"), "running");
}

#[test]
fn figures_are_told_and_images_are_kept() {
    let podman = Podman::new();
    podman.start("web", &[], COUNTS);
    let about = podman.inspect("web");
    let userdata = Path::new(about["OCIConfigPath"].as_str().unwrap()).parent().unwrap();
    let folder = |name: &str| userdata.join(name);
    let said: Value =
        serde_json::from_str(&podman.ok(["container", "checkpoint", "--keep", "--print-stats", "web"]))
            .unwrap();
    let figures = &said["container_statistics"][0];
    let criu = &figures["criu_statistics"];
    assert!(figures["runtime_checkpoint_duration"].as_u64().unwrap() > 0, "{said:#}");
    assert!(
        criu["frozen_time"].as_u64().unwrap() > 0 && criu["pages_written"].as_u64().unwrap() > 10,
        "{said:#}"
    );
    for name in ["checkpoint/inventory.img", "dump.log", "stats-dump"] {
        assert!(folder(name).exists(), "{name}");
    }
    let said: Value =
        serde_json::from_str(&podman.ok(["container", "restore", "--keep", "--print-stats", "web"])).unwrap();
    let criu = &said["container_statistics"][0]["criu_statistics"];
    assert!(criu["pages_restored"].as_u64().unwrap() > 10, "{said:#}");
    for name in ["checkpoint/inventory.img", "restore.log", "stats-restore"] {
        assert!(folder(name).exists(), "{name}");
    }
    counts_on(&podman, "web", 1);
}

/// A container of a test program, which is asked through a folder of its root file system.
fn of_program(podman: &Podman, program: &str, what: &str) -> Bundle {
    let bundle = Bundle::of_program(&podman.place().join("bundle"), program, &[what]);
    let rootfs = bundle.rootfs();
    let program = format!("/bin/{program}");
    let words = [
        "--detach",
        "--name",
        "web",
        "--rootfs",
        rootfs.to_str().unwrap(),
        &program,
        "--dir",
        "/state",
        what,
    ];
    podman.ok(podman.run_arguments(words));
    bundle.ready();
    bundle
}

#[test]
fn locks_are_kept_when_that_is_asked_for() {
    let podman = Podman::new();
    let bundle = of_program(&podman, "hazard", "file-lock");
    let said = podman.call(["container", "checkpoint", "web"]);
    assert!(!said.status.success() && said.stderr.contains("--file-locks"), "{said:?}");
    assert_eq!(podman.status("web"), "running");
    podman.ok(["container", "checkpoint", "--file-locks", "web"]);
    podman.ok(["container", "restore", "--file-locks", "web"]);
    bundle.ask_ok("");
    let file = std::fs::File::open(bundle.door("locked")).unwrap();
    assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err(), "nobody else gets it");
}

#[test]
fn connections_are_kept_when_that_is_asked_for() {
    let podman = Podman::new();
    let criu = criu("criu-next");
    let call = |words: &[&str]| finish(&mut podman.with_criu(&criu, words));
    let bundle = of_program(&podman, "connected", "tcp");
    assert_eq!(bundle.ask_ok("send one"), "one");
    let refused = call(&["container", "checkpoint", "web"]);
    assert!(!refused.status.success() && refused.stderr.contains("TCP connection"), "{refused:?}");
    for text in ["two", "three"] {
        assert_eq!(bundle.ask_ok(&format!("send {text}")), text);
        for verb in ["checkpoint", "restore"] {
            let done = call(&["container", verb, "--tcp-established", "web"]);
            assert!(done.status.success(), "{verb}: {done:?}");
        }
    }
    assert_eq!(bundle.ask_ok("send four"), "four");
}

#[test]
fn a_first_look_at_memory_needs_a_kernel_that_tracks_it() {
    let podman = Podman::new();
    podman.start("web", &[], COUNTS);
    let archive = podman.place().join("first.tar");
    let words = ["container", "checkpoint", "--pre-checkpoint", "--export", archive.to_str().unwrap(), "web"];
    let said = podman.call(words);
    let check = finish(std::process::Command::new(env!("CARGO_BIN_EXE_floe")).arg("check"));
    if check.stdout.contains("tracks changed memory (pre-dump): yes") {
        assert!(said.status.success(), "{said:?}");
        return counts_on(&podman, "web", 1);
    }
    assert!(!said.status.success(), "{said:?}");
    assert!(
        said.stderr.contains("does not track") && said.stderr.contains("CONFIG_MEM_SOFT_DIRTY"),
        "{said:?}"
    );
    counts_on(&podman, "web", 1);
}

#[test]
fn a_container_of_a_pod_comes_back_into_its_namespaces() {
    let podman = Podman::new();
    let parent = podman.cgroup_parent();
    let pod = |name: &str| {
        let flags = ["--name", name, "--network", "none", "--cgroup-parent", &parent];
        let infra = ["--infra-image", IMAGE, "--infra-command", "sleep 1000"];
        podman.ok(["pod", "create"].iter().chain(&flags).chain(&infra)).trim().to_owned()
    };
    let first = pod("one");
    podman.ok(["run", "--detach", "--pod", "one", "--name", "web", IMAGE, "sh", "-c", COUNTS]);
    let shared = |pod: &str, name: &str| {
        let infra = format!("{}-infra", &pod[..12]);
        let of = |name: &str| {
            let pid = podman.inspect(name)["State"]["Pid"].to_string();
            ["ipc", "net", "uts"].map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap())
        };
        assert_eq!(of(name), of(&infra), "{name} is in the namespaces of its pod");
    };
    shared(&first, "web");
    let before = count(&podman, "web");
    podman.ok(["container", "checkpoint", "web"]);
    podman.ok(["container", "restore", "web"]);
    shared(&first, "web");
    counts_on(&podman, "web", before);

    // And into another pod.
    let archive = podman.place().join("web.tar.zst");
    podman.ok(["container", "checkpoint", "--export", archive.to_str().unwrap(), "web"]);
    let second = pod("two");
    podman.ok(["pod", "start", "two"]);
    podman.ok([
        "container",
        "restore",
        "--import",
        archive.to_str().unwrap(),
        "--pod",
        &second,
        "--name",
        "copy",
    ]);
    shared(&second, "copy");
    counts_on(&podman, "copy", before);
    assert_eq!(podman.status("copy"), "running");
}
