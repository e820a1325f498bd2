//! Tasks from their start to their removal.

use std::fs;
use std::process::Stdio;

use crate::engine::Containerd;
use crate::support::calls::{eventually, wait};
use crate::support::terminal::{SCRIPT, converse};

#[test]
fn run_prints_what_the_container_prints_and_ends_as_it_ends() {
    let containerd = Containerd::new();
    let script = "echo out; echo err >&2; exit 9";
    let done = containerd.call(containerd.run_arguments("web", &["--rm"], script));
    assert_eq!((done.code(), &*done.stdout, &*done.stderr), (9, "out\n", "err\n"));
    let mut missing = containerd.run_arguments("missing", &["--rm"], "");
    missing.truncate(missing.len() - 3);
    missing.push("no-such".to_owned());
    let done = containerd.call(missing);
    // The words come out of the log in JSON that the shim names.
    assert!(done.stderr.contains(r#"exec: "no-such": executable file not found in $PATH"#), "{done:?}");
    containerd.call(["containers", "delete", "missing"]);
}

#[test]
fn a_task_is_joined_paused_measured_and_ended() {
    let containerd = Containerd::new();
    let events = containerd.place().join("events");
    let mut listener = containerd.command(["events"]);
    let mut listener =
        listener.stdout(fs::File::create(&events).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let told = || fs::read_to_string(&events).unwrap();
    // Nothing says when it listens.
    eventually("events arrive", || {
        containerd.ok(["namespaces", "label", containerd.place().mark(), "floe=test"]);
        told().contains("/namespaces/update")
    });

    containerd.start("web", &[], "trap 'exit 3' TERM; while :; do sleep 0.05; done");
    assert_eq!(containerd.status("web").as_deref(), Some("RUNNING"));

    let done = containerd.call(containerd.exec_arguments("web", "one", &["--cwd", "/tmp"], "pwd; exit 5"));
    assert_eq!((done.code(), &*done.stdout), (5, "/tmp\n"), "{done:?}");
    assert!(!containerd.call(["tasks", "exec", "--exec-id", "two", "web", "no-such"]).status.success());

    let metrics = containerd.ok(["tasks", "metrics", "web"]);
    let metric = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name} in {metrics}")).split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_ne!(metric("pids.current"), "0");
    let processes = containerd.ok(["tasks", "ps", "web"]);
    assert!(processes.lines().count() >= 2, "{processes}");

    containerd.ok(["tasks", "pause", "web"]);
    assert_eq!(containerd.status("web").as_deref(), Some("PAUSED"));
    containerd.ok(["tasks", "resume", "web"]);
    assert_eq!(containerd.status("web").as_deref(), Some("RUNNING"));

    containerd.ok(["tasks", "kill", "--signal", "TERM", "web"]);
    eventually("it has ended", || containerd.status("web").as_deref() == Some("STOPPED"));
    let deleted = containerd.call(["tasks", "delete", "web"]);
    assert!(deleted.stderr.contains("exit code 3"), "{deleted:?}");
    containerd.ok(["containers", "delete", "web"]);
    let topics = [
        "/tasks/create",
        "/tasks/start",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/paused",
        "/tasks/resumed",
        "/tasks/exit",
        "/tasks/delete",
    ];
    for topic in topics {
        eventually(topic, || told().contains(topic));
    }
    let of_exec =
        told().lines().any(|line| line.contains(r#""id":"one""#) && line.contains(r#""exit_status":5"#));
    assert!(of_exec, "{}", told());
    listener.kill().unwrap();
    wait(&mut listener);
}

#[test]
fn on_a_terminal() {
    let containerd = Containerd::new();
    converse(containerd.command(containerd.run_arguments("web", &["--rm", "--tty"], SCRIPT)));
    containerd.start("other", &[], "sleep 1000");
    converse(containerd.command(containerd.exec_arguments("other", "one", &["--tty"], SCRIPT)));
    containerd.remove("other");
}

#[test]
fn every_process_is_ended() {
    let containerd = Containerd::new();
    containerd.start("web", &["--pid-file", containerd.place().join("pid").to_str().unwrap()], "sleep 1000");
    let inner = containerd.command(containerd.exec_arguments("web", "one", &[], "sleep 1000")).spawn();
    eventually("both are there", || containerd.ok(["tasks", "ps", "web"]).lines().count() == 3);
    containerd.ok(["tasks", "kill", "--all", "--signal", "KILL", "web"]);
    assert_eq!(wait(&mut inner.unwrap()).code(), Some(137));
    eventually("it is stopped", || containerd.status("web").as_deref() == Some("STOPPED"));
    // To signal one that has ended is an error that the shim tells from others by runc's words.
    let done = containerd.call(["tasks", "kill", "--signal", "KILL", "web"]);
    assert!(done.stderr.contains("not found"), "{done:?}");
    containerd.call(["tasks", "delete", "web"]);
    containerd.ok(["containers", "delete", "web"]);
}

#[test]
fn the_lack_of_memory_is_told() {
    let containerd = Containerd::new();
    let events = containerd.place().join("events");
    let mut listener = containerd.command(["events"]);
    let mut listener =
        listener.stdout(fs::File::create(&events).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let limit = (32 << 20).to_string();
    // Its own process asks for the memory, so that the kernel ends that one.
    containerd.start(
        "web",
        &["--memory-limit", &limit],
        "sleep 1; dd if=/dev/zero of=/dev/null bs=64M; sleep 1000",
    );
    let metrics = containerd.ok(["tasks", "metrics", "web"]);
    assert!(metrics.lines().any(|line| line.contains("limit") && line.contains(&limit)), "{metrics}");
    eventually("it is told", || fs::read_to_string(&events).unwrap().contains("/tasks/oom"));
    listener.kill().unwrap();
    wait(&mut listener);
    containerd.remove("web");
}

#[test]
fn another_containerd_finds_the_tasks_again() {
    let mut containerd = Containerd::new();
    containerd.start("web", &[], "sleep 1000");
    containerd.start_again();
    assert_eq!(containerd.status("web").as_deref(), Some("RUNNING"));
    let done = containerd.call(containerd.exec_arguments("web", "one", &[], "echo still here"));
    assert_eq!(done.stdout, "still here\n", "{done:?}");
    containerd.remove("web");
}

#[test]
fn the_default_seccomp_profile() {
    let containerd = Containerd::new();
    let done = containerd.call(containerd.run_arguments(
        "web",
        &["--rm", "--seccomp"],
        "grep Seccomp: /proc/self/status",
    ));
    assert_eq!((done.code(), &*done.stdout), (0, "Seccomp:\t2\n"), "{done:?}");
}
