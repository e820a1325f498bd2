//! Real programs, from Debian's packages, frozen twice under load: once going on, once gone and restored. Each then
//! checks itself by its own means.
//!
//! What runs in the containers is in `real_programs/`: each script says `ready`, works until there is a file `enough`,
//! and writes a `report`, which is `ok` or what was wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::json;
use support::Place;
use support::leaks::Picture;
use support::program::{Bundle, wait_for};

const SCRIPTS: [(&str, &str); 9] = [
    ("postgres.sh", include_str!("real_programs/postgres.sh")),
    ("redis.sh", include_str!("real_programs/redis.sh")),
    ("nginx.sh", include_str!("real_programs/nginx.sh")),
    ("nginx.py", include_str!("real_programs/nginx.py")),
    ("python.py", include_str!("real_programs/python.py")),
    ("Chain.java", include_str!("real_programs/Chain.java")),
    ("node.js", include_str!("real_programs/node.js")),
    ("pipeline.sh", include_str!("real_programs/pipeline.sh")),
    ("stress.sh", include_str!("real_programs/stress.sh")),
];

/// How long a program works between two things that are done to it.
const WHILE: Duration = Duration::from_millis(1500);

/// What is to be run.
struct Program<'a> {
    name: &'a str,
    words: &'a [&'a str],
    /// User and group.
    user: (u32, u32),
    /// What checkpoint is told.
    flags: &'a [&'a str],
}

/// A container of the program, at work.
fn at_work(place: &Place, program: &Program<'_>) -> (Bundle, String) {
    let bundle =
        Bundle::of_root(&place.join("bundle"), &support::prefix().join("cache/programs"), program.words);
    for (name, text) in SCRIPTS {
        fs::write(bundle.door(name), text).unwrap();
    }
    let (uid, gid) = program.user;
    bundle.change(|config| {
        config["process"]["user"] = json!({"uid": uid, "gid": gid});
        // In a namespace of their own the users of the container can be frozen without CAP_SYS_RESOURCE.
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let ids = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["uidMappings"] = ids.clone();
        config["linux"]["gidMappings"] = ids;
    });
    let name = place.name(program.name);
    place.start(&name, bundle.path());
    wait_for(&bundle.door("ready"));
    std::thread::sleep(WHILE);
    (bundle, name)
}

/// Freezes it twice, restores it, and hears what it reports.
fn frozen_and_back(program: &Program<'_>) {
    let mut place = Place::new(program.name);
    place.with_next_criu();
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name) = at_work(&place, program);
    let (first, second) = (place.join("first.tar.zst"), place.join("second.tar.zst"));
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());

    // Nothing is found that stands in the way, and rightly.
    place.ok([&["check", &name], program.flags].concat());
    place.ok([&["checkpoint", &name, "--to", first, "--leave-running"], program.flags].concat());
    std::thread::sleep(WHILE);
    place.ok([&["checkpoint", &name, "--to", second], program.flags].concat());
    place.ok(["delete", &name]);
    let again = place.name("again");
    place.ok(["restore", &again, "--detach", "--from", second]);
    std::thread::sleep(WHILE);

    assert!(!bundle.door("report").exists(), "it ended too early: {}", wait_for(&bundle.door("report")));
    fs::write(bundle.door("enough"), "").unwrap();
    assert_eq!(wait_for(&bundle.door("report")).trim(), "ok");
    place.ok(["delete", "--force", &again]);
    drop(bundle);
    before.assert_unchanged();
}

#[test]
fn postgresql_loses_no_committed_transaction() {
    let passwd = fs::read_to_string(support::prefix().join("cache/programs/etc/passwd")).unwrap();
    let line = passwd.lines().find_map(|line| line.strip_prefix("postgres:x:")).unwrap();
    let mut ids = line.split(':').map_while(|number| number.parse().ok());
    let user = (ids.next().unwrap(), ids.next().unwrap());
    frozen_and_back(&Program { name: "postgres", words: &["sh", "/state/postgres.sh"], user, flags: &[] });
}

#[test]
fn redis_answers_each_client_once() {
    let flags = &["--tcp", "established"];
    frozen_and_back(&Program { name: "redis-tcp", words: &["bash", "/state/redis.sh"], user: (0, 0), flags });
}

#[test]
fn nginx_keeps_the_connections_of_its_clients() {
    let flags = &["--tcp", "established"];
    frozen_and_back(&Program { name: "nginx", words: &["bash", "/state/nginx.sh"], user: (0, 0), flags });
}

#[test]
fn python_threads_keep_what_sqlite_has_committed() {
    let flags = &["--file-locks"];
    frozen_and_back(&Program {
        name: "python",
        words: &["python3", "/state/python.py"],
        user: (0, 0),
        flags,
    });
}

#[test]
fn a_java_virtual_machine_computes_on() {
    let words = &["java", "-Xmx256m", "/state/Chain.java"];
    frozen_and_back(&Program { name: "java", words, user: (0, 0), flags: &[] });
}

#[test]
fn node_keeps_timers_workers_and_its_connection() {
    let flags = &["--tcp", "established"];
    frozen_and_back(&Program { name: "node", words: &["node", "/state/node.js"], user: (0, 0), flags });
}

#[test]
fn a_pipeline_of_a_shell_loses_no_line() {
    frozen_and_back(&Program {
        name: "pipeline",
        words: &["bash", "/state/pipeline.sh"],
        user: (0, 0),
        flags: &[],
    });
}

#[test]
fn stressors_verify_what_they_computed() {
    frozen_and_back(&Program {
        name: "stress",
        words: &["bash", "/state/stress.sh"],
        user: (0, 0),
        flags: &[],
    });
}
