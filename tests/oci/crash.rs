//! floe killed at any moment, and several of them at once.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bundle;
use crate::stage::{Done, Stage, finish, quiet, wait};

/// How many moments of a creation are tried.
const MOMENTS: u32 = 40;

/// Starts floe, kills it after `delay`, and removes what there is.
fn kill_after(stage: &Stage, words: &[&str], name: &str, delay: Duration) -> String {
    let mut child = quiet(&mut stage.floe(words)).spawn().unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = stage.call(&["state", name]);
    let status = serde_json::from_str::<Value>(&seen.stdout)
        .map_or("none".to_owned(), |state| state["status"].to_string());
    stage.ok(&["delete", "--force", name]);
    eprintln!("killed after {delay:?} ({status})");
    stage.assert_clean();
    status
}

#[test]
fn what_a_killed_create_leaves_is_removed_whole() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    let bundle = bundle.to_str().unwrap();
    let start = Instant::now();
    let name = stage.name();
    stage.ok(&["create", "-b", bundle, &name]);
    let whole = start.elapsed();
    stage.ok(&["delete", &name]);
    let mut seen = BTreeMap::<String, u32>::new();
    for moment in 0..MOMENTS {
        let name = stage.name();
        let status =
            kill_after(&stage, &["create", "-b", bundle, &name], &name, whole * moment / (MOMENTS - 5));
        *seen.entry(status).or_default() += 1;
    }
    assert!(seen.len() > 1, "all were killed at the same point: {seen:?}");
}

#[test]
fn what_a_killed_run_leaves_is_removed_whole() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000 & sleep 1000");
    let bundle = bundle.to_str().unwrap();
    for moment in 0..MOMENTS / 2 {
        let name = stage.name();
        kill_after(&stage, &["run", "-b", bundle, &name], &name, Duration::from_millis(5) * moment);
    }
}

#[test]
fn an_interrupted_create_takes_everything_back() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    let mut interrupted = 0;
    for moment in 0..MOMENTS / 2 {
        let name = stage.name();
        let mut child =
            quiet(&mut stage.floe(&["create", "-b", bundle.to_str().unwrap(), &name])).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5) * moment);
        // It may have ended already; it isn't collected yet, so the number is still its own.
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        if wait(&mut child).success() {
            stage.ok(&["delete", "--force", &name]);
        } else {
            interrupted += 1;
        }
        assert_eq!(stage.ok(&["list", "-q"]), "");
        stage.assert_clean();
    }
    assert!(interrupted > 0, "every creation was over before the signal came");
}

#[test]
fn a_killed_start_leaves_created_or_running() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    for moment in 0..MOMENTS / 2 {
        let name = stage.name();
        stage.ok(&["create", "-b", bundle.to_str().unwrap(), &name]);
        let status = kill_after(&stage, &["start", &name], &name, Duration::from_micros(500) * moment);
        assert!(status == "\"created\"" || status == "\"running\"", "{status}");
    }
}

#[test]
fn of_several_that_create_one_name_exactly_one_succeeds() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    for _ in 0..5 {
        let name = stage.name();
        let create = || finish(&mut stage.floe(&["create", "-b", bundle.to_str().unwrap(), &name]));
        let done: Vec<Done> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = done.iter().partition(|done| done.status.success());
        assert_eq!(won.len(), 1, "{done:?}");
        assert!(lost.iter().all(|done| done.stderr.contains("exists already")), "{lost:?}");
        assert_eq!(stage.status(&name), "created");
        stage.ok(&["delete", "--force", &name]);
    }
}

#[test]
fn nobody_ever_sees_half_a_container() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..8 {
                let name = stage.run_detached(&bundle);
                stage.ok(&["delete", "--force", &name]);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut looks = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let listed = stage.call(&["list", "--format", "json"]);
            assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
            let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
            for each in listed.as_array().unwrap() {
                assert!(each["bundle"] == bundle.to_str().unwrap(), "{each}");
            }
            looks += 1;
        }
        assert!(looks > 5);
    });
}

#[test]
fn two_deletes_and_two_starts_do_not_hurt_each_other() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    for _ in 0..5 {
        let name = stage.name();
        stage.ok(&["create", "-b", bundle.to_str().unwrap(), &name]);
        let both = |verb: &'static [&'static str]| {
            let call = || finish(stage.floe(verb).arg(&name));
            std::thread::scope(|scope| {
                let (one, two) = (scope.spawn(call), scope.spawn(call));
                [one.join().unwrap(), two.join().unwrap()]
            })
        };
        let started = both(&["start"]);
        assert_eq!(started.iter().filter(|done| done.status.success()).count(), 1, "{started:?}");
        assert_eq!(stage.status(&name), "running");
        let deleted = both(&["delete", "--force"]);
        assert!(deleted.iter().all(|done| done.status.success()), "{deleted:?}");
    }
}

#[test]
fn an_exec_that_meets_a_delete_leaves_nothing() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    for moment in 0..12 {
        let name = stage.run_detached(&bundle);
        std::thread::scope(|scope| {
            scope.spawn(|| finish(&mut stage.floe(&["exec", &name, "sleep", "1000"])));
            std::thread::sleep(Duration::from_millis(4) * moment);
            stage.ok(&["delete", "--force", &name]);
        });
        stage.assert_clean();
    }
}

#[test]
fn a_pid_that_another_process_has_now_is_not_touched() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::shell(&stage, "sleep 1000"));
    // As after a reboot, or after all pids have gone round: the recorded number belongs to somebody else.
    // Not within the hundredth of a second that the kernel counts starts in.
    std::thread::sleep(Duration::from_millis(50));
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    stage.ok(&["kill", &name, "KILL"]);
    stage.wait_for_status(&name, "stopped");
    let file = stage.root().join(&name).join("state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let init = record.as_object_mut().unwrap().get_mut("init").expect("the record names the first process");
    init["pid"] = stranger.id().into();
    fs::write(&file, record.to_string()).unwrap();
    assert_eq!(stage.status(&name), "stopped");
    stage.fails(&["kill", &name, "KILL"]);
    stage.ok(&["delete", "--force", &name]);
    assert_eq!(stranger.try_wait().unwrap(), None, "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_damaged_record_is_named_and_can_be_removed() {
    let stage = Stage::new();
    let good = stage.run_detached(&bundle::shell(&stage, "sleep 1000"));
    let bad = stage.run_detached(&bundle::shell(&stage, "sleep 1000"));
    fs::write(stage.root().join(&bad).join("state.json"), "{\"id\":").unwrap();
    let words = stage.fails(&["state", &bad]);
    assert!(words.contains("state.json"), "{words}");
    assert!(stage.ok(&["list", "-q"]).contains(&good), "the others are still reached");
    for name in [&good, &bad] {
        stage.ok(&["delete", "--force", name]);
    }
}
