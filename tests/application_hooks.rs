//! Commands of the application before a freeze, after it, and after a restore, each by what it leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::leaks::Picture;
use support::{Place, tool};

/// Writes a line into the container's `/notes`.
const NOTE: &str = r#"echo "$FLOE_HOOK $FLOE_CONTAINER $FLOE_SNAPSHOT ${FLOE_CLONE-none} $(id -u)" >>/notes"#;

/// A bundle whose container waits, and does nothing else.
fn bundle(place: &Place, annotations: &Value) -> PathBuf {
    let folder = place.join("bundle");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bundle-busybox");
    tool(Command::new(script).arg(&folder).args(["sleep", "1000000"]));
    annotate(&folder, annotations);
    folder
}

fn annotate(bundle: &Path, annotations: &Value) {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["annotations"] = annotations.clone();
    fs::write(path, config.to_string()).unwrap();
}

fn notes(bundle: &Path) -> Vec<String> {
    let text = fs::read_to_string(bundle.join("rootfs/notes")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn annotations_run_in_the_container_around_a_freeze_and_after_a_restore() {
    let place = Place::new("hooks");
    let before = Picture::without_criu(&place, &[]);
    let hooks = ["before-freeze", "after-freeze", "after-restore"];
    let annotations: serde_json::Map<_, _> =
        hooks.iter().map(|hook| (format!("floe.hook.{hook}"), json!(NOTE))).collect();
    let bundle = bundle(&place, &Value::Object(annotations));
    let (name, archive) = (place.name("first"), place.join("a.tar.zst"));
    let archive = archive.to_str().unwrap();
    place.start(&name, &bundle);

    let said = place.ok(["checkpoint", &name, "--to", archive, "--leave-running", "--format", "json"]);
    let kept: Value = serde_json::from_str(&said).unwrap();
    let kept = kept["snapshot"].as_str().unwrap();
    let expected =
        |hook: &str, name: &str, snapshot: &str, clone: &str| format!("{hook} {name} {snapshot} {clone} 0");
    let around = ["before-freeze", "after-freeze"].map(|hook| expected(hook, &name, kept, "none"));
    assert_eq!(notes(&bundle), around);

    // Where it is gone afterwards, nothing can run in it.
    let said = place.ok(["checkpoint", &name, "--to", archive, "--format", "json"]);
    let gone: Value = serde_json::from_str(&said).unwrap();
    let gone = gone["snapshot"].as_str().unwrap();
    assert_eq!(notes(&bundle)[2..], [expected("before-freeze", &name, gone, "none")]);
    place.ok(["delete", &name]);

    // Each clone has a number of its own.
    let clones = ["second", "third"].map(|clone| place.name(clone));
    for clone in &clones {
        place.ok(["restore", clone, "--detach", "--from", archive]);
    }
    assert_eq!(
        notes(&bundle)[3..],
        [expected("after-restore", &clones[0], gone, "1"), expected("after-restore", &clones[1], gone, "2")]
    );
    clones.iter().for_each(|clone| drop(place.ok(["delete", "--force", clone])));

    // What the snapshot alone says is not run: the bundle that is restored with has the word.
    annotate(&bundle, &json!({}));
    let bare = place.name("bare");
    place.ok(["restore", &bare, "--detach", "--from", archive, "--bundle", bundle.to_str().unwrap()]);
    assert_eq!(notes(&bundle).len(), 5);
    place.ok(["delete", "--force", &bare]);
    before.assert_unchanged();
}

#[test]
fn a_container_that_is_not_ready_is_not_frozen() {
    let place = Place::new("unready");
    let bundle = bundle(&place, &json!({}));
    let (name, archive) = (place.name("first"), place.join("a.tar.zst"));
    place.start(&name, &bundle);
    let words = ["checkpoint", &name, "--to", archive.to_str().unwrap()];
    let refused = |flags: &[&str], words_of_it: &[&str]| {
        let said = place.run([&words[..], flags].concat());
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(words_of_it.iter().all(|word| said.stderr.contains(word)), "{said:?}");
        assert!(!archive.exists());
        assert_eq!(place.state(&name).unwrap()["status"], "running");
    };
    // The first failure is the answer, the second command is not run, and what was made quiet is let go.
    let flags = ["--before-freeze", "echo 17 transactions are open; exit 9", "--before-freeze", NOTE];
    let let_go = [&flags[..], &["--after-freeze", NOTE]].concat();
    refused(&let_go, &["not ready", "before-freeze hook", "exit status: 9: 17 transactions are open"]);
    let left = notes(&bundle);
    assert!(left.len() == 1 && left[0].starts_with("after-freeze "), "{left:?}");
    refused(&["--before-freeze", "sleep 1000", "--hook-timeout", "1"], &["longer than 1 s"]);
    let processes = place.ok(["ps", &name]);
    assert!(!processes.contains("sleep 1000\n"), "{processes}");
    refused(&["--before-freeze", r#"["/bin/false"]"#], &["exit status: 1"]);
    refused(&["--before-freeze", r#"["/not/there"]"#], &["/not/there"]);
    refused(&["--before-freeze", "[not json"], &["JSON array"]);
    refused(&["--host-before-freeze", "exit 4"], &["exit status: 4"]);

    // A paused container runs nothing; that is said, and it is frozen all the same.
    place.ok(["pause", &name]);
    let said = place.run([&words[..], &["--leave-running", "--before-freeze", NOTE]].concat());
    assert!(
        said.code == Some(0) && said.stderr.contains("is paused: its before-freeze command was not run"),
        "{said:?}"
    );
    assert_eq!(notes(&bundle).len(), 1);
    place.ok(["delete", "--force", &name]);
}

#[test]
fn the_host_runs_what_the_command_line_or_the_bundle_says() {
    let place = Place::new("host-hooks");
    let log = place.join("log");
    let note = |word: &str| format!("echo {word} $FLOE_HOOK ${{FLOE_CLONE-none}} >>{}", log.display());
    // An annotation may come from whoever may start a container: it is not a way to the host.
    let bundle = bundle(&place, &json!({"floe.hook.host.before-freeze": note("annotation")}));
    let file = json!({"before-freeze": [note("bundle")], "after-restore": [note("bundle")]});
    fs::write(bundle.join("floe-hooks.json"), file.to_string()).unwrap();
    let (name, archive) = (place.name("first"), place.join("a.tar.zst"));
    let archive = archive.to_str().unwrap();
    place.start(&name, &bundle);
    let (before, after) = (note("flag"), format!("cat >{}; {}", place.join("state").display(), note("flag")));
    place.ok([
        "checkpoint",
        &name,
        "--to",
        archive,
        "--host-before-freeze",
        &before,
        "--host-after-freeze",
        &after,
    ]);
    // The OCI state is on its standard input.
    let state: Value = serde_json::from_slice(&fs::read(place.join("state")).unwrap()).unwrap();
    assert_eq!((&state["id"], &state["status"]), (&json!(name), &json!("stopped")));
    place.ok(["delete", &name]);

    // A restore whose command fails is taken back, in the container and outside.
    for flags in [["--after-restore", "exit 5"], ["--host-after-restore", "exit 5"]] {
        let said = place.run([&["restore", &name, "--detach", "--from", archive][..], &flags].concat());
        assert!(said.code == Some(1) && said.stderr.contains("after-restore hook"), "{said:?}");
        assert!(said.stderr.contains("exit status: 5") && place.state(&name).is_none(), "{said:?}");
    }
    place.ok(["restore", &name, "--detach", "--from", archive, "--host-after-restore", &note("flag")]);
    place.ok(["delete", "--force", &name]);
    let lines = fs::read_to_string(&log).unwrap();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "bundle before-freeze none",
            "flag before-freeze none",
            "flag after-freeze none",
            "bundle after-restore 1",
            "bundle after-restore 2",
            "bundle after-restore 3",
            "flag after-restore 3",
        ]
    );
}
