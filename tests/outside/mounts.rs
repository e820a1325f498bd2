//! Bind mounts whose sources are elsewhere at the restore, and another host name.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::leaks::Picture;
use crate::support::program::Bundle;
use crate::support::{Place, tool};

const IMPOSSIBLE: i32 = 3;

/// A folder with a file that says which one it is.
fn folder(place: &Place, name: &str) -> PathBuf {
    let folder = place.join(name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("name"), name).unwrap();
    folder
}

fn program(place: &Place) -> Bundle {
    Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "1", "--random", "50"])
}

#[test]
fn a_mount_gets_the_source_that_is_named() {
    let place = Place::new("map");
    let before = Picture::without_criu(&place, &[]);
    let [one, two, other, more] = ["one", "two", "other", "more"].map(|name| folder(&place, name));
    let file = place.join("file");
    fs::write(&file, "x").unwrap();
    let bundle = program(&place);
    bundle.change(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        for (source, destination) in [(&one, "/one"), (&two, "/two")] {
            mounts.push(
                json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]}),
            );
        }
    });
    let first = place.name("first");
    place.start(&first, bundle.path());
    bundle.ready();
    let archive = place.join("map.tar.zst");
    let archive = archive.to_str().unwrap();
    place.ok(["checkpoint", &first, "--to", archive]);
    place.ok(["delete", &first]);
    let map = |from: &PathBuf, to: &PathBuf| format!("{}={}", from.display(), to.display());
    let sees = |name: &str, path: &str| {
        fs::read_to_string(format!("/proc/{}/root{path}/name", place.pid(name))).unwrap()
    };
    // What makes no sense is said before anything is made.
    let nowhere = place.join("nowhere");
    for (words, told) in [
        (map(&other, &more), "no bind mount with the source"),
        (map(&one, &file), "one is a folder and one is none"),
    ] {
        let said = place.run(["restore", &first, "--detach", "--from", archive, "--map", &words]);
        assert!(said.code == Some(IMPOSSIBLE) && said.stderr.contains(told), "{words}: {said:?}");
    }
    let said = place.run(["restore", &first, "--detach", "--from", archive, "--map", &map(&one, &nowhere)]);
    assert!(said.code == Some(1) && said.stderr.contains("nowhere"), "{said:?}");
    assert_eq!(place.run(["restore", &first, "--from", archive, "--map", "x"]).code, Some(2));
    assert!(place.state(&first).is_none());

    // One that is gone needs another, and two can change places.
    fs::rename(&one, place.join("away")).unwrap();
    let said = place.run(["restore", &first, "--detach", "--from", archive]);
    assert!(
        said.code == Some(IMPOSSIBLE) && said.stderr.contains("what the bundle mounts at /one is not there"),
        "{said:?}"
    );
    let again = place.name("again");
    let (a, b) = (map(&one, &two), map(&two, &other));
    place.ok(["restore", &again, "--detach", "--from", archive, "--map", &a, "--map", &b]);
    assert_eq!((sees(&again, "/one"), sees(&again, "/two")), ("two".into(), "other".into()));
    bundle.ask_ok("");
    // Frozen once more, it comes back with those that it had last, and they can be named in turn.
    let last = place.there_and_back(&again, "last", &[]);
    assert_eq!((sees(&last, "/one"), sees(&last, "/two")), ("two".into(), "other".into()));
    place.ok(["checkpoint", &last, "--to", archive]);
    place.ok(["delete", &last]);
    place.ok(["restore", &last, "--detach", "--from", archive, "--map", &map(&other, &more)]);
    assert_eq!((sees(&last, "/one"), sees(&last, "/two")), ("two".into(), "more".into()));
    bundle.ask_ok("");
    place.ok(["delete", "--force", &last]);
    before.assert_unchanged();
}

#[test]
fn a_clone_gets_another_host_name() {
    let place = Place::new("hostname");
    let before = Picture::without_criu(&place, &[]);
    let bundle = program(&place);
    let first = place.name("first");
    place.start(&first, bundle.path());
    bundle.ready();
    let named = |name: &str| {
        let pid = place.pid(name).to_string();
        String::from_utf8(tool(Command::new("nsenter").args(["--target", &pid, "--uts", "hostname"])))
            .unwrap()
    };
    let archive = place.join("hostname.tar.zst");
    let archive = archive.to_str().unwrap();
    place.ok(["checkpoint", &first, "--to", archive, "--leave-running"]);
    let clone = place.name("clone");
    place.ok(["restore", &clone, "--detach", "--from", archive, "--hostname", "clone-7"]);
    assert_eq!((named(&first), named(&clone)), ("frozen\n".into(), "clone-7\n".into()));
    place.ok(["delete", "--force", &first]);
    bundle.ask_ok("");
    // It keeps it.
    let again = place.there_and_back(&clone, "again", &[]);
    assert_eq!(named(&again), "clone-7\n");
    let long = "x".repeat(65);
    for name in ["", &long] {
        let said = place.run(["restore", &first, "--detach", "--from", archive, "--hostname", name]);
        assert!(said.code == Some(IMPOSSIBLE) && said.stderr.contains("is no host name"), "{said:?}");
    }
    place.ok(["delete", "--force", &again]);
    // One that has the host's has none to be changed.
    bundle.change(|config| {
        config.as_object_mut().unwrap().remove("hostname");
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "uts");
    });
    fs::remove_file(bundle.door("ready")).unwrap();
    place.start(&first, bundle.path());
    bundle.ready();
    place.ok(["checkpoint", &first, "--to", archive]);
    place.ok(["delete", &first]);
    let said = place.run(["restore", &first, "--detach", "--from", archive, "--hostname", "x"]);
    assert!(said.code == Some(IMPOSSIBLE) && said.stderr.contains("no host name of its own"), "{said:?}");
    before.assert_unchanged();
}
