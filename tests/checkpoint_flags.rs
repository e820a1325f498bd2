//! The flags of `checkpoint`, `restore` and of what looks at archives, each by a container or an archive with which it
//! makes the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::calls::{eventually, wait};
use support::leaks::Picture;
use support::program::Bundle;
use support::terminal::Session;
use support::{Place, Said};

const IMPOSSIBLE: i32 = 3;
const SET_RUNNING_AGAIN: i32 = 5;

/// A container of the program `connected`, which holds `what`.
fn holding(place: &Place, what: &[&str]) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", what);
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    (bundle, name)
}

/// A checkpoint with these flags fails with `code`, says `words`, and leaves the container running and no archive.
#[track_caller]
fn refused(place: &Place, name: &str, flags: &[&str], code: i32, words: &[&str]) {
    let archive = place.join("refused.tar.zst");
    let said = place.run([&["checkpoint", name, "--to", archive.to_str().unwrap()], flags].concat());
    assert_eq!(said.code, Some(code), "{flags:?}: {said:?}");
    assert!(words.iter().all(|word| said.stderr.contains(word)), "{flags:?}: {words:?} in {said:?}");
    assert!(!archive.exists());
    assert_eq!(place.state(name).unwrap()["status"], "running");
}

/// Linux 6.16 took options of UNIX sockets from all others, for which criu asked up to 4.1: there the flags do not
/// help, which is said before anything is frozen.
fn sockets_can_be_taken(place: &Place) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect()
    };
    let criu = answer(&place.run(["check", "--format", "json"]))["criu"]["version"].clone();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    numbers(criu.as_str().unwrap()) >= vec![4, 2] || numbers(kernel.trim()) < vec![6, 16]
}

#[test]
fn a_tcp_connection_is_refused_kept_or_closed() {
    let mut place = Place::new("tcp");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name) = holding(&place, &["tcp"]);
    assert_eq!(bundle.ask_ok("send one"), "one");
    // By default, and by its name: nothing is frozen, and the connection is named.
    let words = ["TCP connection", "127.0.0.1:", "--tcp established"];
    refused(&place, &name, &[], IMPOSSIBLE, &words);
    refused(&place, &name, &["--tcp", "fail"], IMPOSSIBLE, &words);
    let usage = place.run(["checkpoint", &name, "--to", "x", "--tcp", "close", "--tcp-established"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    assert_eq!(bundle.ask_ok("send two"), "two");

    if !sockets_can_be_taken(&place) {
        for flags in
            [&["--tcp", "established"][..], &["--tcp-established"], &["--tcp", "close"], &["--tcp-close"]]
        {
            refused(&place, &name, flags, IMPOSSIBLE, &["use criu 4.2"]);
            assert_eq!(bundle.ask_ok("send three"), "three", "{flags:?}");
        }
        place.with_next_criu();
    }
    let mut name = name;
    for kept in [&["--tcp", "established"][..], &["--tcp-established"]] {
        let again = place.there_and_back(&name, "again", kept);
        assert_eq!(bundle.ask_ok("send three"), "three", "{kept:?}: it goes on");
        place.ok(["delete", "--force", &again]);
        name = place.name("more");
        fs::remove_file(bundle.door("ready")).unwrap();
        place.start(&name, bundle.path());
        bundle.ready();
    }
    for closed in [&["--tcp", "close"][..], &["--tcp-close"]] {
        let again = place.there_and_back(&name, "again", closed);
        let answer = bundle.ask("send four");
        assert!(answer.starts_with("failed: "), "{closed:?}: {answer}");
        place.ok(["delete", "--force", &again]);
        name = place.name("more");
        fs::remove_file(bundle.door("ready")).unwrap();
        place.start(&name, bundle.path());
        bundle.ready();
    }
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

#[test]
fn a_socket_outside_is_let_go_when_that_is_asked_for() {
    let place = Place::new("unix");
    let before = Picture::without_criu(&place, &[]);
    let address = SocketAddr::from_abstract_name(place.mark()).unwrap();
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["unix", place.mark()]);
    // criu finds a socket's other side in the network namespace of the container only, so that is the host's.
    bundle.change(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
    });
    let outside = UnixDatagram::bind_addr(&address).unwrap();
    outside.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    let heard = || {
        let mut text = [0; 16];
        let length = outside.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    bundle.ask_ok("send one");
    assert_eq!(heard(), "one");
    refused(&place, &name, &[], IMPOSSIBLE, &["UNIX socket", "--ext-unix-sk"]);
    bundle.ask_ok("send two");
    assert_eq!(heard(), "two");
    let again = place.there_and_back(&name, "again", &["--ext-unix-sk"]);
    bundle.ask_ok("send three");
    assert_eq!(heard(), "three", "it is connected again, to who listens there now");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

#[test]
fn a_file_without_its_name_gets_one_when_that_is_asked_for() {
    let place = Place::new("remap");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name) = holding(&place, &["file"]);
    assert_eq!(bundle.ask_ok("send one"), "one");
    refused(&place, &name, &[], IMPOSSIBLE, &["--link-remap"]);
    assert_eq!(bundle.ask_ok("send two"), "onetwo");
    let again = place.there_and_back(&name, "again", &["--link-remap"]);
    assert_eq!(bundle.ask_ok("send three"), "onetwothree");
    let names: BTreeSet<String> = fs::read_dir(bundle.door(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("answer-"))
        .collect();
    assert_eq!(names, BTreeSet::from(["other-name".to_owned(), "ready".to_owned()]), "and no name is left");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

/// A session cannot be joined, and every process of a container that floe starts begins one of its own: there is no
/// shell's job. A terminal of the host is handed over by itself.
#[test]
fn a_terminal_of_the_host_is_taken_over_with_and_without_shell_job() {
    let place = Place::new("job");
    let before = Picture::without_criu(&place, &[]);
    let bundle = Bundle::of_program(&place.join("bundle"), "stdio-writer", &[]);
    let names = [place.name("0"), place.name("1"), place.name("2")];
    let on_a_terminal = |words: &[&str]| {
        let mut session = Session::begin(place.floe(words), 24, 80);
        let status = wait(&mut session.child);
        assert!(status.success(), "{words:?}: {}", session.shown);
        session
    };
    let mut session =
        on_a_terminal(&["run", "--detach", "--bundle", bundle.path().to_str().unwrap(), &names[0]]);
    bundle.ready();
    let mut lines = 0;
    for (from, flags, to) in [(&names[0], &[][..], &names[1]), (&names[1], &["--shell-job"][..], &names[2])] {
        bundle.ask_ok("write 1");
        lines += 1;
        session.until(&format!("out {lines}\n"));
        let archive = place.join(format!("{lines}.tar.zst"));
        let archive = archive.to_str().unwrap();
        place.ok([&["checkpoint", from, "--to", archive], flags].concat());
        place.ok(["delete", from]);
        let said = place.run(["restore", to, "--detach", "--from", archive]);
        assert_eq!(said.code, Some(IMPOSSIBLE), "{said:?}");
        assert!(said.stderr.contains("restore it from a terminal"), "{said:?}");
        session = on_a_terminal(&["restore", to, "--detach", "--from", archive, "--progress", "none"]);
    }
    bundle.ask_ok("write 1");
    session.until("out 3\n");
    place.ok(["delete", "--force", &names[2]]);
    before.assert_unchanged();
}

/// A container that holds a few MiB that can be compressed, and runs.
fn with_memory(place: &Place) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "4", "--random", "50"]);
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    (bundle, name)
}

#[test]
fn a_higher_level_of_compression_makes_a_smaller_archive() {
    let place = Place::new("level");
    let (bundle, name) = with_memory(&place);
    let size = |level: &str| {
        let archive = place.join(format!("{level}.tar.zst"));
        let path = archive.to_str().unwrap();
        place.ok(["checkpoint", &name, "--leave-running", "--to", path, "--compress", level]);
        place.ok(["verify", path]);
        fs::metadata(archive).unwrap().len()
    };
    let (low, high) = (size("zstd"), size("zstd:19"));
    assert!(high < low, "level 1: {low}, level 19: {high}");
    for wrong in ["zstd:0", "zstd:20", "zstd:", "gzip", "none"] {
        let said = place.run(["checkpoint", &name, "--to", "x", "--compress", wrong]);
        assert_eq!(said.code, Some(2), "{wrong}: {said:?}");
        assert!(said.stderr.contains("zstd:LEVEL"), "{wrong}: {said:?}");
    }
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

/// Runs a floe with the shortest limit, whose criu says nothing any more from `phase` on; what it says in the end.
fn with_a_criu_that_stands_still(place: &Place, words: &[&str], phase: &str) -> Said {
    let log = place.join("stands-still");
    let mut command = place.floe([words, &["--timeout", "1", "--progress", "json"]].concat());
    command.stderr(fs::File::create(&log).unwrap());
    let mut floe = command.spawn().unwrap();
    let text = || fs::read_to_string(&log).unwrap();
    eventually(phase, || text().contains(&format!("\"phase\":\"{phase}\"")));
    if let Some(criu) = criu_of(&floe) {
        kill(criu, Signal::SIGSTOP).unwrap();
    }
    let status = wait(&mut floe);
    Said { code: status.code(), stdout: String::new(), stderr: text() }
}

fn criu_of(floe: &Child) -> Option<Pid> {
    let pid = floe.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let is_criu =
        |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "criu");
    children.split_whitespace().find(is_criu).map(|pid| Pid::from_raw(pid.parse().unwrap()))
}

#[test]
fn a_criu_that_stands_still_is_given_up_after_the_time_limit() {
    let place = Place::new("still");
    let before = Picture::without_criu(&place, &[]);
    // Enough that criu is still at it when it is stopped.
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "128", "--random", "50"]);
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    let archive = place.join("c.tar.zst");
    let archive = archive.to_str().unwrap();
    let words = ["checkpoint", &name, "--to", archive];
    let said = with_a_criu_that_stands_still(&place, &words, "dump pages");
    assert_eq!(said.code, Some(SET_RUNNING_AGAIN), "{said:?}");
    assert!(said.stderr.contains("1 s"), "the limit is named: {said:?}");
    assert!(!Path::new(archive).exists());
    assert_eq!(place.state(&name).unwrap()["status"], "running");
    bundle.ask_ok("");
    // With its usual limit nothing stands in the way.
    place.ok(["checkpoint", &name, "--to", archive]);
    place.ok(["delete", &name]);
    let again = place.name("again");
    let words = ["restore", &again, "--detach", "--from", archive];
    let said = with_a_criu_that_stands_still(&place, &words, "fork tree");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("1 s"), "the limit is named: {said:?}");
    assert_eq!(place.state(&again), None);
    place.ok(words);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

/// The objects on standard error, one a line.
#[track_caller]
fn objects(said: &Said) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    said.stderr.lines().map(read).collect()
}

#[track_caller]
fn phases(said: &Said) -> Vec<String> {
    objects(said).iter().filter_map(|line| Some(line["phase"].as_str()?.to_owned())).collect()
}

/// What is printed for programs.
#[track_caller]
fn answer(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{said:?}: {error}"))
}

#[test]
fn results_and_progress_are_told_to_programs() {
    let place = Place::new("forms");
    let (bundle, name) = with_memory(&place);
    let (archive, again) = (place.join("c.tar.zst"), place.name("again"));
    let archive = archive.to_str().unwrap();
    let json = ["--format", "json", "--progress", "json"];
    let with = |words: &[&str]| place.run([words, &json].concat());

    let said = with(&["checkpoint", &name, "--to", archive]);
    let report = answer(&said);
    assert_eq!(
        (&report["running"], &report["processes"]),
        (&Value::Bool(false), &Value::from(1)),
        "{report}"
    );
    assert_eq!(report["path"], archive);
    assert_eq!(report["bytes"], fs::metadata(archive).unwrap().len());
    assert!(
        report["frozen_us"].as_u64() > Some(0) && report["page_bytes"].as_u64() > Some(4 << 20),
        "{report}"
    );
    let told = phases(&said);
    assert!(
        ["collect", "freeze", "dump pages", "seal"].iter().all(|one| told.iter().any(|phase| phase == one)),
        "{told:?}"
    );
    let failed = with(&["checkpoint", &name, "--to", archive]);
    let error: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(
        (failed.code, &error["error"]["code"]),
        (Some(IMPOSSIBLE), &Value::from(IMPOSSIBLE)),
        "{failed:?}"
    );
    assert!(error["error"]["message"].as_str().unwrap().contains("stopped"), "{error}");
    place.ok(["delete", &name]);

    let verified = with(&["verify", archive]);
    assert_eq!(answer(&verified)["bytes"], report["bytes"]);
    assert!(answer(&verified)["plain_bytes"].as_u64() > report["page_bytes"].as_u64(), "{verified:?}");
    assert!(!phases(&verified).is_empty() && objects(&verified).iter().any(|line| line["bytes"].is_u64()));

    let pid_file = place.join("pid");
    let restored =
        with(&["restore", &again, "--detach", "--from", archive, "--pid-file", pid_file.to_str().unwrap()]);
    let report = answer(&restored);
    assert_eq!(
        (&report["container"], &report["processes"]),
        (&Value::from(&*again), &Value::from(1)),
        "{report}"
    );
    assert_eq!(report["pid"], place.pid(&again));
    assert_eq!(fs::read_to_string(pid_file).unwrap(), place.pid(&again).to_string());
    let told = phases(&restored);
    assert!(
        ["unpack", "fork tree", "resume"].iter().all(|one| told.iter().any(|phase| phase == one)),
        "{told:?}"
    );
    let taken = with(&["restore", &again, "--detach", "--from", archive]);
    let error: Value = serde_json::from_str(&taken.stdout).unwrap();
    assert!(
        taken.code == Some(1) && error["error"]["message"].as_str().unwrap().contains(&*again),
        "{taken:?}"
    );
    bundle.ask_ok("");
    place.ok(["delete", "--force", &again]);

    // Text, and no progress where it is not wanted or nobody watches.
    for progress in [&["--progress", "none"][..], &["--progress", "auto"], &[]] {
        let said = place.run([&["verify", archive][..], progress].concat());
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{progress:?}");
        assert!(said.stdout.starts_with(&format!("{archive} is whole: ")), "{said:?}");
        let words = ["restore", &again, "--detach", "--from", archive];
        let said = place.run([&words[..], progress].concat());
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{progress:?}");
        assert!(said.stdout.starts_with(&format!("{again} runs again, process ")), "{said:?}");
        place.ok(["delete", "--force", &again]);
    }
    // A bar on a terminal, and where it is asked for.
    let mut session = Session::begin(place.floe(["verify", archive]), 24, 120);
    session.until("unpack");
    session.until("is whole: ");
    assert_eq!(wait(&mut session.child).code(), Some(0));
}

/// A container whose number nobody can be told is not left behind unknown.
#[test]
fn a_pid_file_that_cannot_be_written_takes_the_restore_back() {
    let place = Place::new("pidfile");
    let (bundle, name) = with_memory(&place);
    let (archive, again) = (place.join("c.tar.zst"), place.name("again"));
    let archive = archive.to_str().unwrap();
    place.ok(["checkpoint", &name, "--to", archive]);
    place.ok(["delete", &name]);
    let before = Picture::without_criu(&place, &[]);
    let words = ["restore", &again, "--detach", "--from", archive];
    let said = place.run([&words[..], &["--pid-file", "/nonexistent/pid"]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("/nonexistent/pid"), "{said:?}");
    assert_eq!(place.state(&again), None);
    before.assert_unchanged();
    place.ok(words);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &again]);
}

#[test]
fn an_archive_is_looked_at_as_text_and_as_json() {
    let place = Place::new("look");
    let bundle = Bundle::of_program(&place.join("bundle"), "process-tree", &[]);
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    let archive = place.join("c.tar.zst");
    let path = archive.to_str().unwrap();
    place.ok(["checkpoint", &name, "--file-locks", "--to", path]);
    place.ok(["delete", &name]);

    let json = |words: &[&str]| answer(&place.run([words, &["--format", "json"]].concat()));
    let summary = json(&["inspect", path]);
    assert_eq!(summary["container"]["id"], *name);
    assert_eq!(summary["bytes"], fs::metadata(&archive).unwrap().len());
    let processes = summary["processes"].as_u64().unwrap();
    assert!(processes > 90 && summary["memory_bytes"].as_u64() > Some(1 << 20), "{summary}");
    assert_eq!(json(&["inspect", path, "summary"]), summary);
    let text = place.ok(["inspect", path]);
    for part in
        [&format!("container  {name}\n"), summary["snapshot"].as_str().unwrap(), "state      running\n"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains(&format!("processes  {processes} with ")), "{text}");

    let tree = json(&["inspect", path, "tree"]);
    let tasks = tree.as_array().unwrap();
    assert_eq!(tasks.len() as u64, processes);
    let first = tasks.iter().find(|task| task["pid"] == 1).unwrap();
    assert_eq!(first["name"], "process-tree");
    let text = place.ok(["inspect", path, "tree"]);
    assert_eq!(text.lines().count() as u64, processes, "{text}");
    assert!(text.starts_with("1 process-tree ("), "{text}");
    for task in tasks {
        let line = format!("{} {} (", task["pid"], task["name"].as_str().unwrap());
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert_eq!(place.run(["inspect", path, "nonsense"]).code, Some(2));
    let missing = place.run(["inspect", "/nonexistent", "--format", "json"]);
    let error: Value = serde_json::from_str(&missing.stdout).unwrap();
    assert!(missing.code == Some(1) && error["error"]["message"].as_str().unwrap().contains("/nonexistent"));

    let fit = json(&["check", "--from", path]);
    assert_eq!((&fit["snapshot"], &fit["blockers"]), (&summary["snapshot"], &serde_json::json!([])), "{fit}");
    assert!(place.ok(["check", "--from", path]).starts_with(&format!("{path} is whole")));
}

#[test]
fn a_container_and_a_host_are_checked_as_text_and_as_json() {
    let place = Place::new("check");
    let (_bundle, name) = holding(&place, &["tcp"]);
    let host = answer(&place.run(["check", "--format", "json"]));
    assert!(host["criu"]["version"].is_string() && host["features"]["mem_track"].is_boolean(), "{host}");
    assert!(place.ok(["check"]).starts_with("criu "));
    let said = place.run(["check", &name, "--format", "json"]);
    let value: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(said.code, Some(IMPOSSIBLE), "{said:?}");
    let blockers = value["blockers"].as_array().unwrap();
    let blocker = blockers.iter().find(|blocker| blocker["kind"] == "tcp-connected").unwrap();
    assert_eq!((&value["container"], &blocker["process"]), (&Value::from(&*name), &Value::from("connected")));
    assert!(blocker["on"].as_str().unwrap().contains("127.0.0.1:"), "{value}");
    let said = place.run(["check", &name]);
    assert_eq!(said.code, Some(IMPOSSIBLE), "{said:?}");
    assert!(said.stdout.contains("TCP connection") && said.stderr.is_empty(), "{said:?}");
    place.ok(["delete", "--force", &name]);
}
