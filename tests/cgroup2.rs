//! The freezer of cgroup version 2, on whatever host: in a mount namespace where only the unified hierarchy is mounted,
//! which is all that floe sees of a host's cgroups.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::program::Bundle;
use support::{Place, Said, said};

/// Mounts the unified hierarchy alone, and becomes its arguments.
const UNIFIED: &str = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";

fn unified(place: &Place, arguments: &[&str]) -> Said {
    let floe = place.floe(arguments);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", UNIFIED, "sh"]);
    command.arg(floe.get_program()).args(floe.get_args());
    command.envs(floe.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(std::process::Stdio::null());
    said(&mut command)
}

#[track_caller]
fn ok(place: &Place, arguments: &[&str]) -> String {
    let said = unified(place, arguments);
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    said.stdout
}

/// The cgroup of a container as this host shows it, wherever its unified hierarchy is mounted.
fn folder(place: &Place, name: &str) -> PathBuf {
    let state: serde_json::Value = serde_json::from_str(&ok(place, &["state", name])).unwrap();
    let own = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
    assert_eq!(path, name, "it is in another cgroup");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let unified = mounts.lines().find(|line| line.contains(" cgroup2 ")).expect("a host without cgroup v2");
    Path::new(unified.split(' ').nth(1).unwrap()).join(path)
}

fn frozen(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.events")).unwrap().lines().any(|line| line == "frozen 1")
}

fn beats(bundle: &Bundle) -> bool {
    let beat = || fs::read(bundle.door("beat")).unwrap();
    let before = beat();
    let begun = Instant::now();
    while beat() == before {
        if begun.elapsed() > Duration::from_secs(2) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn cgroups_of_its_own_are_there_again_in_version_2() {
    let place = Place::new("unified-inner");
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["clock"]);
    let mut name = place.name("one");
    let archive = place.join("c.tar.zst");
    let archive = archive.to_str().unwrap();
    let run = ["--log", "/dev/null", "run", "--detach", "--bundle", bundle.path().to_str().unwrap(), &name];
    assert_eq!(quiet(&place, &run), Some(0));
    bundle.ready();
    let child = bundle.ask_ok("child");
    let own = folder(&place, &name);
    let find = |own: &Path, inner: &str| {
        let all = fs::read_to_string(own.join(inner).join("cgroup.procs")).unwrap();
        all.lines().map(str::to_owned).find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap().to_owned();
            numbers.split_whitespace().last() == Some(&child)
        })
    };
    let pid = find(&own, "").unwrap();
    fs::create_dir_all(own.join("inner/deep")).unwrap();
    fs::write(own.join("inner/cgroup.max.descendants"), "5").unwrap();
    fs::write(own.join("inner/deep/cgroup.procs"), &pid).unwrap();
    for round in ["two", "three"] {
        ok(&place, &["checkpoint", &name, "--to", archive]);
        ok(&place, &["delete", &name]);
        name = place.name(round);
        assert_eq!(quiet(&place, &["restore", &name, "--detach", "--from", archive]), Some(0));
        let own = folder(&place, &name);
        assert!(find(&own, "inner/deep").is_some() && find(&own, "").is_none(), "{round}");
        assert_eq!(fs::read_to_string(own.join("inner/cgroup.max.descendants")).unwrap(), "5\n");
        bundle.ask_ok("clock");
    }
    let own = folder(&place, &name);
    ok(&place, &["delete", "--force", &name]);
    assert!(!own.exists());
}

#[test]
fn a_container_is_frozen_by_version_2() {
    let place = Place::new("unified");
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "4"]);
    let (one, two) = (place.name("one"), place.name("two"));
    let archive = place.join("c.tar.zst");
    let archive = archive.to_str().unwrap();
    // The container inherits the streams, and would keep files of this test open.
    let run = ["--log", "/dev/null", "run", "--detach", "--bundle", bundle.path().to_str().unwrap(), &one];
    assert_eq!(quiet(&place, &run), Some(0));
    bundle.ready();
    let own = folder(&place, &one);

    ok(&place, &["pause", &one]);
    assert!(frozen(&own) && !beats(&bundle), "it is paused, and runs");
    ok(&place, &["checkpoint", &one, "--to", archive, "--leave-running"]);
    assert!(frozen(&own) && !beats(&bundle), "it was paused, and runs after its checkpoint");
    ok(&place, &["resume", &one]);
    assert!(!frozen(&own) && beats(&bundle), "it does not go on");

    ok(&place, &["checkpoint", &one, "--to", archive, "--leave-running"]);
    assert!(!frozen(&own) && beats(&bundle), "it stands still after its checkpoint");
    bundle.ask_ok("");
    ok(&place, &["checkpoint", &one, "--to", archive]);
    ok(&place, &["delete", &one]);
    assert!(!own.exists(), "{} is left", own.display());

    assert_eq!(quiet(&place, &["restore", &two, "--detach", "--from", archive]), Some(0));
    let other = folder(&place, &two);
    assert!(beats(&bundle));
    bundle.ask_ok("");
    // And once more, of the restored one.
    ok(&place, &["checkpoint", &two, "--to", archive]);
    ok(&place, &["delete", &two]);
    assert!(!other.exists(), "{} is left", other.display());
}

/// Runs a command whose container lives on with its streams on `/dev/null`.
fn quiet(place: &Place, arguments: &[&str]) -> Option<i32> {
    let mut all = vec!["-c", "exec >/dev/null 2>&1; exec \"$@\"", "sh"];
    let floe = place.floe(arguments);
    let program = floe.get_program().to_str().unwrap().to_owned();
    let words: Vec<String> = floe.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
    all.push(&program);
    all.extend(words.iter().map(String::as_str));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", UNIFIED, "sh", "sh"]).args(all);
    command.env(support::MARK, place.mark()).stdin(std::process::Stdio::null());
    command.status().unwrap().code()
}

/// A floe that is killed while it holds the freezer: the next one lets the container go.
#[test]
fn the_next_command_thaws_what_a_killed_one_froze() {
    let place = Place::new("unified-killed");
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "4"]);
    let name = place.name("one");
    let run = ["--log", "/dev/null", "run", "--detach", "--bundle", bundle.path().to_str().unwrap(), &name];
    assert_eq!(quiet(&place, &run), Some(0));
    bundle.ready();
    let own = folder(&place, &name);
    // What a floe leaves that was killed in the middle of a checkpoint: its journal, and a closed freezer. Process 1 of
    // another boot stands for one that is gone: no process has its start time.
    let journal = serde_json::json!({"verb": "checkpoint", "owner": {"pid": 1, "start": 1_u64 << 60}, "was_paused": false});
    fs::write(place.root().join(&name).join("journal.json"), journal.to_string()).unwrap();
    fs::write(own.join("cgroup.freeze"), "1").unwrap();
    assert!(!beats(&bundle));
    ok(&place, &["list"]);
    assert!(beats(&bundle), "the container stands still");
    assert!(!place.root().join(&name).join("journal.json").exists());
    ok(&place, &["delete", "--force", &name]);
}
