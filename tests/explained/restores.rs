//! Failures of a restore.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::dumps::container;
use crate::support::Place;
use crate::support::program::Bundle;

/// A snapshot of a container that holds a file open is changed around by `change`: `check` finds `kind`, and CRIU fails
/// with the known message `known`. Put back by `mend`, it is restored.
#[track_caller]
fn refused(kind: &str, known: &str, change: impl FnOnce(&Bundle), mend: impl FnOnce(&Bundle)) {
    let place = Place::new("explained-restore");
    let (bundle, name) = container(&place, "open-file");
    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"));
    let archive = place.join("box.tar.zst");
    let archive = archive.to_str().unwrap();
    place.ok(["checkpoint", &name, "--to", archive]);
    place.ok(["delete", &name]);
    assert!(place.ok(["check", "--from", archive]).contains("is whole"));

    change(&bundle);
    let said = place.run(["check", "--from", archive, "--format", "json"]);
    let answer: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let found = answer["blockers"].as_array().unwrap();
    assert!(found.iter().any(|one| one["kind"] == kind), "{answer:#}");
    assert_eq!(said.code, Some(3));
    assert_eq!(place.run(["restore", &name, "--detach", "--from", archive]).code, Some(3));
    assert!(place.state(&name).is_none());

    let said = place.run(["restore", &name, "--detach", "--from", archive, "--no-check", "--format", "json"]);
    let error: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(error["error"]["known"], known, "{error:#}");
    assert!(
        error["error"]["message"].as_str().unwrap().contains("(hazard)"),
        "the process is named: {error:#}"
    );
    assert!(fs::metadata(error["error"]["log_file"].as_str().unwrap()).unwrap().len() > 0);
    assert!(place.state(&name).is_none(), "nothing is left of it");

    mend(&bundle);
    place.ok(["restore", &name, "--detach", "--from", archive]);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn a_file_of_another_size() {
    let path = |bundle: &Bundle| bundle.door("open");
    refused(
        "file-size",
        "file-size",
        |bundle| fs::write(path(bundle), "more than twelve bytes").unwrap(),
        |bundle| fs::write(path(bundle), "twelve bytes").unwrap(),
    );
}

#[test]
fn a_file_of_another_mode() {
    let set = |bundle: &Bundle, mode| {
        fs::set_permissions(bundle.door("open"), fs::Permissions::from_mode(mode)).unwrap()
    };
    refused("file-mode", "file-mode", |bundle| set(bundle, 0o600), |bundle| set(bundle, 0o644));
}

#[test]
fn a_file_that_is_gone() {
    let path = |bundle: &Bundle| bundle.door("open");
    refused(
        "file-missing",
        "file-missing",
        |bundle| fs::remove_file(path(bundle)).unwrap(),
        |bundle| fs::write(path(bundle), "twelve bytes").unwrap(),
    );
}

#[test]
fn a_program_of_another_build() {
    let program = |bundle: &Bundle| bundle.rootfs().join("bin/hazard");
    refused(
        "file-build-id",
        "file-build-id",
        |bundle| {
            let mut bytes = fs::read(program(bundle)).unwrap();
            let at = bytes.windows(4).position(|window| window == b"GNU\0").unwrap();
            // The first note of that owner may be another; every byte behind each is looked at.
            let notes: Vec<usize> = (at..bytes.len().min(at + 4096))
                .filter(|at| bytes[*at..].starts_with(b"\x14\0\0\0\x03\0\0\0GNU\0"))
                .collect();
            let id = notes.first().map_or(at - 4, |note| *note) + 12;
            bytes[id] ^= 0xff;
            fs::copy(program(bundle), bundle.path().join("kept")).unwrap();
            fs::write(program(bundle), bytes).unwrap();
        },
        |bundle| {
            fs::copy(bundle.path().join("kept"), program(bundle)).unwrap();
        },
    );
}

#[test]
fn process_ids_that_are_taken() {
    let place = Place::new("pids");
    let (bundle, name) = container(&place, "nothing");
    bundle.change(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"));
    let archive = place.join("box.tar.zst");
    let archive = archive.to_str().unwrap();
    // The original runs on, and has the ids that the copy would need.
    place.ok(["checkpoint", &name, "--to", archive, "--leave-running"]);
    let said = place.run(["check", "--from", archive, "--format", "json"]);
    let answer: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(answer["blockers"][0]["kind"], "pid-taken", "{answer:#}");
    assert_eq!(answer["blockers"][0]["pid"], place.pid(&name));
    let copy = place.name("copy");
    let said = place.run(["restore", &copy, "--detach", "--from", archive, "--no-check", "--format", "json"]);
    let error: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(error["error"]["known"], "pid-taken", "{error:#}");
    assert!(place.state(&copy).is_none());
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}
