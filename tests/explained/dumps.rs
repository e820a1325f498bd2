//! Failures of a dump.

use std::os::unix::net::{UnixDatagram, UnixListener};

use serde_json::{Value, json};

use crate::support::Place;
use crate::support::program::Bundle;

/// A container with one of the states of the program `hazard`, which also may do what needs CAP_SYS_ADMIN.
pub fn container(place: &Place, state: &str) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "hazard", &[state]);
    bundle.change(|config| {
        let more = ["CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"];
        for kind in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][kind].as_array_mut().unwrap().extend(more.map(Value::from));
        }
        config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
        config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    });
    (bundle, place.name("box"))
}

fn kinds(place: &Place, words: &[&str]) -> Vec<String> {
    let said = place.run([&["check", "--format", "json"], words].concat());
    let answer: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let found: Vec<String> = answer["blockers"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|one| one["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said.code, Some(if found.is_empty() { 0 } else { 3 }), "{said:?}");
    found
}

/// `state` makes `check` find `kind`, and CRIU fail with the known message `known`.
#[track_caller]
fn refused(state: &str, kind: &str, known: &str) {
    let place = Place::new("explained");
    let (bundle, name) = container(&place, state);
    let outside = bundle.door("outside.stream");
    let listener = UnixListener::bind(outside).unwrap();
    listener.set_nonblocking(true).unwrap();
    let _datagram = UnixDatagram::bind(bundle.door("outside.datagram")).unwrap();
    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"), "{state}: {}", bundle.ready());

    let _accepted = listener.accept();

    // Beforehand, and nothing is frozen.
    if !kind.is_empty() {
        let found = kinds(&place, &[&name]);
        assert!(found.iter().any(|one| one == kind), "{state}: check finds {found:?}");
    }
    let archive = place.join("box.tar.zst");
    let archive = archive.to_str().unwrap();
    if !kind.is_empty() {
        let said = place.run(["checkpoint", &name, "--to", archive]);
        assert_eq!(said.code, Some(3), "{state}: {said:?}");
    }

    // Afterwards.
    let said = place.run(["checkpoint", &name, "--to", archive, "--no-check", "--format", "json"]);
    let error: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{state}: {error}: {said:?}"));
    let error = &error["error"];
    assert_eq!(error["known"], known, "{state}: {error:#}");
    let entry = floe_criu_bridge::failure::known::all().find(|entry| entry.name == known).unwrap();
    assert!(error["message"].as_str().unwrap().contains(entry.remedy), "{state}: {error:#}");
    assert!(!error["log"].as_array().unwrap().is_empty(), "CRIU's own lines are shown: {error:#}");
    let log = std::fs::read_to_string(error["log_file"].as_str().unwrap()).unwrap();
    assert!(entry.pieces.iter().all(|piece| log.contains(piece)), "{state}: the whole log is kept");
    assert!(!std::path::Path::new(archive).exists());
    assert_eq!(place.state(&name).unwrap()["status"], "running", "{state}");
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

macro_rules! refused {
    ($($test:ident: $state:literal, $kind:literal, $known:literal;)*) => {
        $(
            #[test]
            fn $test() {
                refused($state, $kind, $known);
            }
        )*
    };
}

refused! {
    io_uring: "io-uring", "io-uring", "descriptor-not-handed-over";
    userfaultfd: "userfaultfd", "userfaultfd", "userfaultfd";
    perf_event: "perf-event", "perf-event", "perf-event";
    bpf_map: "bpf", "bpf", "bpf";
    anonymous_file: "fs-context", "anonymous-file", "anonymous-file";
    device: "device", "device", "device";
    vsock: "vsock", "socket-unsupported", "socket-family";
    mptcp: "mptcp", "socket-unsupported", "inet-protocol";
    file_lock: "file-lock", "file-locks", "file-locks";
    deleted_and_large: "deleted-large", "deleted-too-large", "deleted-too-large";
    deleted_with_another_name: "deleted-named", "deleted-other-name", "deleted-other-name";
    tcp_connection: "tcp", "tcp-connected", "tcp-connected";
    tcp_connection_that_waits: "tcp-waiting", "tcp-not-accepted", "tcp-not-accepted";
    udp_held_back: "udp-corked", "", "udp-corked";
    pipe_of_packets: "pipe-packets", "", "pipe-packets";
    unix_stream_to_outside: "unix-stream", "unix-half-stream", "unix-outside";
    unix_datagram_to_outside: "unix-datagram", "unix-outside", "unix-no-peer";
    watch_of_a_deleted_file: "watch-deleted", "watch-deleted", "inotify-deleted";
    nested_namespace: "nested-namespace", "nested-namespace", "nested-namespace";
    traced_process: "traced", "traced", "zombie-seizing";
    first_thread_ended: "zombie-threads", "zombie-threads", "zombie-threads";
    covered_file: "covered", "file-covered", "file-covered";
}

#[test]
fn what_is_in_order_raises_no_alarm() {
    let place = Place::new("no-alarm");
    let (bundle, name) = container(&place, "nothing");
    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"));
    assert_eq!(kinds(&place, &[&name]), Vec::<String>::new());
    assert!(place.ok(["check", &name]).contains("can be checkpointed"));
    place.ok(["delete", "--force", &name]);
}

/// With `--no-check` the dump of a secret succeeds without it: floe names its descriptor to CRIU as a file of the host.
#[test]
fn secret_memory_is_said_beforehand() {
    let place = Place::new("secret");
    let (bundle, name) = container(&place, "secret-memory");
    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"), "{}", bundle.ready());
    assert_eq!(kinds(&place, &[&name]), ["secret-memory"]);
    place.ok(["delete", "--force", &name]);
}

/// CRIU takes it for a mount from outside: the dump would succeed, and no restore could begin.
#[test]
fn a_mount_of_its_own_is_said_beforehand() {
    let place = Place::new("own-mount");
    let (bundle, name) = container(&place, "mount-unknown");
    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"), "{}", bundle.ready());
    assert_eq!(kinds(&place, &[&name]), ["mount-unsupported"]);
    place.ok(["delete", "--force", &name]);
}

/// What people run: an interpreter, and a pipeline of a shell with its children.
#[test]
fn ordinary_programs_raise_no_alarm() {
    let place = Place::new("ordinary");
    for (number, words) in [
        vec!["/usr/bin/python3", "-c", "import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); time.sleep(1000)"],
        vec!["/bin/sh", "-c", "while sleep 0.1; do echo x; done | cat | cat >/dev/null"],
    ]
    .into_iter()
    .enumerate()
    {
        let (bundle, _) = container(&place, "nothing");
        let name = place.name(&format!("box{number}"));
        bundle.change(|config| {
            config["process"]["args"] = json!(words);
            let folders = ["/usr", "/bin", "/lib", "/lib64"].map(|folder| std::fs::canonicalize(folder).unwrap_or_else(|_| folder.into()));
            for (folder, source) in ["/usr", "/bin", "/lib", "/lib64"].iter().zip(folders) {
                if source.exists() {
                    let mount = json!({"destination": folder, "type": "bind", "source": source, "options": ["rbind", "ro"]});
                    config["mounts"].as_array_mut().unwrap().push(mount);
                }
            }
        });
        place.start(&name, bundle.path());
        // It has begun what it does.
        let begun = std::time::Instant::now();
        let wanted = if number == 0 { "python3" } else { "cat" };
        while !place.ok(["ps", &name]).contains(wanted) {
            assert!(begun.elapsed().as_secs() < 60);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(kinds(&place, &[&name]), Vec::<String>::new());
        place.ok(["checkpoint", &name, "--to", place.join(format!("{number}.tar.zst")).to_str().unwrap(), "--leave-running"]);
        place.ok(["delete", "--force", &name]);
    }
}

#[test]
fn a_flag_that_allows_it_is_heeded() {
    let place = Place::new("allowed");
    let (bundle, name) = container(&place, "file-lock");
    place.start(&name, bundle.path());
    assert!(bundle.ready().starts_with("ok"));
    assert_eq!(kinds(&place, &[&name]), ["file-locks"]);
    assert_eq!(kinds(&place, &[&name, "--file-locks"]), Vec::<String>::new());
    place.ok(["delete", "--force", &name]);
}

#[test]
fn plain_processes_are_looked_at_by_pid() {
    let place = Place::new("by-pid");
    let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let pid = child.id().to_string();
    assert!(kinds(&place, &["--pid", &pid]).contains(&"session-outside".to_owned()));
    assert!(!kinds(&place, &["--pid", &pid, "--shell-job"]).contains(&"session-outside".to_owned()));
    child.kill().unwrap();
    child.wait().unwrap();
}
