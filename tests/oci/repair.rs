//! What the next call of floe does about one that was killed in the middle of a checkpoint or a restore.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle;
use crate::stage::{Stage, eventually};

/// A process that has ended, as records name one.
fn dead() -> Value {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    json!({ "pid": pid, "start": 1 })
}

/// The test itself, as records name a process: field 22 of `/proc/PID/stat`.
fn alive() -> Value {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let start: u64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    json!({ "pid": std::process::id(), "start": start })
}

fn write_journal(stage: &Stage, name: &str, owner: &Value, was_paused: bool) {
    write_journal_of("checkpoint", stage, name, owner, was_paused);
}

fn write_journal_of(verb: &str, stage: &Stage, name: &str, owner: &Value, was_paused: bool) {
    let entry = json!({ "verb": verb, "owner": owner, "was_paused": was_paused });
    fs::write(stage.root().join(name).join("journal.json"), entry.to_string()).unwrap();
}

fn journal_exists(stage: &Stage, name: &str) -> bool {
    stage.root().join(name).join("journal.json").exists()
}

#[test]
fn what_a_dead_checkpoint_froze_is_thawed_by_the_next_call() {
    let stage = Stage::new();
    let name =
        stage.run_detached(&bundle::shell(&stage, "while :; do echo x >> /tmp/beats; sleep 0.01; done"));
    stage.ok(&["pause", &name]);
    write_journal(&stage, &name, &dead(), false);
    let done = stage.call(&["list", "--quiet"]);
    assert!(done.status.success() && done.stderr.contains(&name), "it says what it repaired: {done:?}");
    assert_eq!(stage.status(&name), "running");
    assert!(!journal_exists(&stage, &name));

    // One that its user had paused stays paused.
    stage.ok(&["pause", &name]);
    write_journal(&stage, &name, &dead(), true);
    stage.ok(&["list"]);
    assert_eq!(stage.status(&name), "paused");
    assert!(!journal_exists(&stage, &name));
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_container_that_a_live_process_works_on_is_left_to_it() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::shell(&stage, "sleep 1000"));
    write_journal(&stage, &name, &alive(), false);
    for verb in ["pause", "resume"] {
        let words = stage.fails(&[verb, &name]);
        assert!(words.contains("checkpoint") && words.contains(&std::process::id().to_string()), "{words}");
    }
    assert!(journal_exists(&stage, &name), "nobody repairs what isn't broken");
    assert_eq!(stage.status(&name), "running");
    fs::remove_file(stage.root().join(&name).join("journal.json")).unwrap();
    stage.ok(&["pause", &name]);
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_restore_that_died_is_taken_back_whole() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::shell(&stage, "sleep 1000 & sleep 1000"));
    let pid = stage.pid(&name);
    // As a restore writes it before there is a first process, with tasks already in the cgroup.
    let file = stage.root().join(&name).join("state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["init"] = Value::Null;
    record["maker"] = alive();
    fs::write(&file, record.to_string()).unwrap();
    write_journal_of("restore", &stage, &name, &alive(), false);
    assert_eq!(stage.status(&name), "creating", "its maker is alive");

    record["maker"] = dead();
    fs::write(&file, record.to_string()).unwrap();
    write_journal_of("restore", &stage, &name, &dead(), false);
    let done = stage.call(&["list", "--quiet"]);
    assert!(done.stdout.is_empty() && done.stderr.contains(&name), "{done:?}");
    eventually("its processes are gone", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z")
    });
    stage.assert_clean();
    // The name is free again.
    let bundle = bundle::shell(&stage, "true");
    stage.ok(&["run", "-b", bundle.to_str().unwrap(), &name]);
}

#[test]
fn one_broken_container_does_not_keep_the_others_from_being_reached() {
    let stage = Stage::new();
    let good = stage.run_detached(&bundle::shell(&stage, "sleep 1000"));
    let bad = stage.run_detached(&bundle::shell(&stage, "sleep 1000"));
    fs::write(stage.root().join(&bad).join("journal.json"), "{").unwrap();
    assert_eq!(stage.status(&good), "running");
    stage.ok(&["exec", &good, "true"]);
    stage.ok(&["delete", "--force", &good]);
    stage.ok(&["delete", "--force", &bad]);
}

#[test]
fn a_state_directory_that_others_may_write_to_is_refused() {
    let stage = Stage::new();
    let root = stage.root();
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let words = stage.fails(&["list"]);
    assert!(words.contains("write") && words.contains(root.to_str().unwrap()), "{words}");
    fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    stage.ok(&["list"]);
}
