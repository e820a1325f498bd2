//! A snapshot that this host did not make is restored with a bundle that the caller accepts: no more than the bundle
//! gives comes back, and nothing of what asks for more is started.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::leaks::Picture;
use support::program::Bundle;
use support::{Place, Said, tool};

/// A snapshot of a container that is gone, and its bundle. The state folder with the record of it is forgotten, so that
/// it might have come from anywhere.
fn foreign(place: &Place, program: &str, arguments: &[&str]) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), program, arguments);
    let name = place.name("there");
    place.start(&name, bundle.path());
    bundle.ready();
    let archive = place.join("foreign.tar.zst").to_str().unwrap().to_owned();
    place.ok(["checkpoint", &name, "--to", &archive]);
    place.ok(["delete", &name]);
    fs::remove_dir_all(place.root().join("@records")).unwrap();
    (bundle, archive)
}

fn restore(place: &Place, archive: &str, bundle: &Path) -> Said {
    let bundle = bundle.to_str().unwrap();
    place.run(["restore", &place.name("here"), "--detach", "--from", archive, "--bundle", bundle])
}

#[test]
fn a_bundle_has_to_be_named() {
    let place = Place::new("unnamed");
    let (_bundle, archive) = foreign(&place, "memory-map", &["--mib", "2"]);
    let said = place.run(["restore", &place.name("here"), "--detach", "--from", &archive]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stderr.contains("--bundle"), "{said:?}");
}

#[test]
fn what_the_bundle_gives_comes_back() {
    let place = Place::new("foreign");
    for (program, arguments) in [("memory-map", &["--mib", "2"][..]), ("process-tree", &[])] {
        let (bundle, archive) = foreign(&place, program, arguments);
        let said = restore(&place, &archive, bundle.path());
        assert_eq!(said.code, Some(0), "{program}: {said:?}");
        bundle.ask_ok("");
        place.ok(["delete", "--force", &place.name("here")]);
        fs::remove_dir_all(bundle.path()).unwrap();
    }
}

#[test]
fn redis_comes_from_elsewhere() {
    let place = Place::new("foreign-redis");
    let bundle = place.join("redis");
    tool(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bundle-redis")).arg(&bundle));
    let (there, here) = (place.name("there"), place.name("here"));
    let archive = place.join("redis.tar.zst");
    place.start(&there, &bundle);
    let redis = |name: &str, words: &[&str]| {
        let command = ["exec", name, "redis-cli", "-s", "/run/redis.sock"];
        place.run(command.iter().chain(words)).stdout.trim().to_owned()
    };
    while redis(&there, &["set", "key", "kept"]) != "OK" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    place.ok(["checkpoint", &there, "--to", archive.to_str().unwrap()]);
    place.ok(["delete", &there]);
    fs::remove_dir_all(place.root().join("@records")).unwrap();
    let said = restore(&place, archive.to_str().unwrap(), &bundle);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(redis(&here, &["get", "key"]), "kept");
    place.ok(["delete", "--force", &here]);
}

/// The keys of whoever calls floe are not the restored container's (keyrings(7)).
#[test]
fn a_restored_container_has_a_keyring_of_its_own() {
    let place = Place::new("keyring");
    let (bundle, archive) = foreign(&place, "memory-map", &["--mib", "2"]);
    let name = format!(" _ses.{}:", place.name("here"));
    let keyrings = || {
        let keys = fs::read_to_string("/proc/keys").expect("a kernel with keyrings");
        keys.lines().filter(|line| line.contains(&name)).count()
    };
    assert_eq!(keyrings(), 0);
    assert_eq!(restore(&place, &archive, bundle.path()).code, Some(0));
    assert_eq!(keyrings(), 1);
    place.ok(["delete", "--force", &place.name("here")]);
    // Nobody has it any more: it goes with the last of its processes.
    let begun = std::time::Instant::now();
    while keyrings() > 0 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "the keyring is still there");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What a bundle that is accepted gives less than the container had, and the words with which the rest is refused.
type Less = (&'static str, fn(&mut Value), &'static str);

const LESS: &[Less] = &[
    ("a capability", |spec| spec["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN"]), "CAP_KILL"),
    (
        "all capabilities",
        |spec| drop(spec["process"].as_object_mut().unwrap().remove("capabilities")),
        "CAP_KILL",
    ),
    (
        "another user",
        |spec| {
            spec["process"]["user"]["uid"] = json!(1000);
            spec["process"]["capabilities"]["bounding"] =
                json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
        },
        "CAP_SETUID",
    ),
    (
        "a user namespace",
        |spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
        },
        "the host's user namespace",
    ),
    (
        "a masked path",
        |spec| {
            spec["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/proc/version"));
        },
        "/proc/version is to be seen",
    ),
    (
        "a path that is read-only",
        |spec| {
            spec["linux"]["readonlyPaths"].as_array_mut().unwrap().push(json!("/proc/tty"));
        },
        "/proc/tty can be written",
    ),
    (
        "no message queues",
        |spec| {
            spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/mqueue");
        },
        "type mqueue is mounted at /dev/mqueue",
    ),
    (
        "read-only shared memory",
        |spec| {
            let shm = |mount: &&mut Value| mount["destination"] == "/dev/shm";
            let mount = spec["mounts"].as_array_mut().unwrap().iter_mut().find(shm).unwrap();
            mount["options"].as_array_mut().unwrap().push(json!("ro"));
        },
        "/dev/shm can be written",
    ),
];

#[test]
fn more_than_the_bundle_gives_is_not_restored() {
    let place = Place::new("more");
    let (bundle, archive) = foreign(&place, "memory-map", &["--mib", "2"]);
    let content = fs::read(&archive).unwrap();
    let original = fs::read(bundle.path().join("config.json")).unwrap();
    let before = Picture::without_criu(&place, &[]);
    for (what, change, words) in LESS {
        bundle.change(change);
        let said = restore(&place, &archive, bundle.path());
        assert_eq!(said.code, Some(4), "{what}: {said:?}");
        assert!(said.stderr.contains("not trusted") && said.stderr.contains(words), "{what}: {said:?}");
        assert_eq!(place.state(&place.name("here")), None, "{what}: a container is left");
        before.assert_unchanged();
        fs::write(bundle.path().join("config.json"), &original).unwrap();
    }
    // And with what it was made of it comes back, once and again.
    for _ in 0..2 {
        assert_eq!(restore(&place, &archive, bundle.path()).code, Some(0));
        bundle.ask_ok("");
        place.ok(["delete", "--force", &place.name("here")]);
    }
    assert!(fs::read(&archive).unwrap() == content, "the archive was changed");
}
