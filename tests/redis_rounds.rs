//! Redis through twenty rounds (fewer where everything takes long) of checkpoint, delete and restore: every key is there
//! each time, and in the end the host is as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::leaks::Picture;
use support::{Place, rounds, said, tool};

/// Keys of each of four kinds.
const KEYS: u32 = 10_000;

fn bundle(place: &Place) -> PathBuf {
    let folder = place.join("redis");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bundle-redis");
    tool(Command::new(script).arg(&folder));
    folder
}

/// Runs `redis-cli` in the container, which has to answer.
#[track_caller]
fn redis(place: &Place, name: &str, words: &[&str]) -> String {
    let mut arguments = vec!["exec", name, "redis-cli", "-s", "/run/redis.sock"];
    arguments.extend(words);
    let answer = place.ok(arguments).trim().to_owned();
    assert!(!answer.starts_with("ERR") && !answer.is_empty(), "redis answers {words:?} with {answer:?}");
    answer
}

fn wait_until_it_answers(place: &Place, name: &str) {
    let begun = Instant::now();
    loop {
        let said = place.run(["exec", name, "redis-cli", "-s", "/run/redis.sock", "ping"]);
        if said.stdout.trim() == "PONG" {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "redis does not answer: {said:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Strings, hashes, sorted sets and lists.
fn fill(place: &Place, name: &str) {
    let mut commands = tempfile::tempfile().unwrap();
    let mut text = String::new();
    for key in 0..KEYS {
        let value = blake3::hash(&key.to_le_bytes()).to_hex();
        text += &format!("SET string:{key} {value}\r\nHSET hash:{} field:{key} {value}\r\n", key / 10);
        text += &format!("ZADD sorted:{} {key} {value}\r\nRPUSH list:{} {value}\r\n", key % 7, key % 100);
    }
    commands.write_all(text.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut commands).unwrap();
    let mut piped = place.floe(["exec", name, "redis-cli", "-s", "/run/redis.sock", "--pipe"]);
    let said = said(piped.stdin(commands));
    assert!(said.stdout.contains("errors: 0") && said.code == Some(0), "{said:?}");
}

#[test]
fn redis_keeps_every_key_through_twenty_rounds() {
    let place = Place::new("redis");
    let bundle = bundle(&place);
    fs::create_dir(place.root()).unwrap();
    let before = Picture::take(&place, &[]);
    let names = [place.name("one"), place.name("two")];
    let archive = place.join("redis.tar.zst");

    place.start(&names[0], &bundle);
    wait_until_it_answers(&place, &names[0]);
    fill(&place, &names[0]);
    let running = Picture::without_criu(&place, &[]);
    let counts = |picture: &Picture| ["process", "cgroup", "mount"].map(|kind| picture.count(kind));

    let rounds = rounds(20);
    for round in 0..rounds {
        let (old, new) = (&names[round % 2], &names[(round + 1) % 2]);
        // Each snapshot holds something that the one before did not.
        redis(&place, old, &["SET", &format!("round:{round}"), &round.to_string()]);
        let (size, digest) = (redis(&place, old, &["DBSIZE"]), redis(&place, old, &["DEBUG", "DIGEST"]));
        assert_eq!(digest.len(), 40, "{digest:?} is no digest");

        place.ok(["checkpoint", old, "--to", archive.to_str().unwrap()]);
        place.ok(["delete", old]);
        assert_eq!(place.state(old), None);
        place.ok(["restore", new, "--detach", "--from", archive.to_str().unwrap()]);

        assert_eq!(redis(&place, new, &["DEBUG", "DIGEST"]), digest, "in round {round}");
        assert_eq!(redis(&place, new, &["DBSIZE"]), size, "in round {round}");
        fs::remove_file(&archive).unwrap();
    }

    // As many of each as after the first start: nothing grows from round to round.
    let last = &names[rounds % 2];
    let begun = Instant::now();
    while counts(&Picture::without_criu(&place, &[])) != counts(&running) {
        let now = counts(&Picture::without_criu(&place, &[]));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} have become {now:?}", counts(&running));
        std::thread::sleep(Duration::from_millis(100));
    }
    place.ok(["delete", "--force", last]);
    before.assert_unchanged();
    // What stays on purpose is the record by which each snapshot could be restored.
    let left: Vec<_> = fs::read_dir(place.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "@records"), "left in floe's state folder: {left:?}");
    let files: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected = ["redis".into(), "run".into(), format!("{}.log", names[0]).into()];
    assert!(files.iter().all(|name| expected.contains(name)), "left in the test's folder: {files:?}");
}
