//! Containers from their start to their removal.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::engine::{IMAGE, Podman};
use crate::support::calls::{eventually, finish, wait};

#[test]
fn run_prints_what_the_container_prints_and_ends_as_it_ends() {
    let podman = Podman::new();
    let done = podman.run([IMAGE, "sh", "-c", "echo out; echo err >&2; exit 9"]);
    assert_eq!((done.code(), &*done.stdout, &*done.stderr), (9, "out\n", "err\n"));
    assert_eq!(
        podman.run([IMAGE, "sh", "-c", "kill -KILL $$"]).code(),
        0,
        "the first process of a namespace"
    );
    // podman tells these apart by what the runtime says.
    for (program, code) in [("/no/such", 127), ("no-such", 127), ("/etc", 126)] {
        let done = podman.run([IMAGE, program]);
        assert_eq!(done.code(), code, "{program}: {done:?}");
        assert!(done.stderr.contains(program), "{done:?}");
    }
    let file = podman.place().join("input");
    fs::write(&file, "through\n").unwrap();
    let mut command = podman.command(podman.run_arguments(["--rm", "--interactive", IMAGE, "cat"]));
    let done = finish(command.stdin(fs::File::open(&file).unwrap()));
    assert_eq!((done.code(), &*done.stdout), (0, "through\n"), "{done:?}");
}

#[test]
fn exec_runs_beside_the_first_process() {
    let podman = Podman::new();
    podman.start("web", &["--env", "A=1"], "sleep 1000");
    let script = "echo $A $B $(id -u) $(pwd); tr '\\0' ' ' </proc/1/cmdline; exit 5";
    let flags = ["exec", "--env", "B=2", "--user", "7", "--workdir", "/tmp", "web", "sh", "-c"];
    let done = podman.call(flags.into_iter().chain([script]));
    assert_eq!((done.code(), &*done.stdout), (5, "1 2 7 /tmp\nsleep 1000 "), "{done:?}");
    assert_eq!(podman.call(["exec", "web", "no-such"]).code(), 127);
    assert_eq!(podman.call(["exec", "web", "/etc"]).code(), 126);
    podman.ok(["exec", "--detach", "web", "sh", "-c", "echo yes >/tmp/done"]);
    eventually("the one in the background is done", || {
        podman.call(["exec", "web", "cat", "/tmp/done"]).stdout == "yes\n"
    });
    let privileged = podman.ok(["exec", "--privileged", "web", "grep", "CapBnd", "/proc/self/status"]);
    let ordinary = podman.ok(["exec", "web", "grep", "CapBnd", "/proc/self/status"]);
    assert_ne!(privileged, ordinary);
    podman.ok(["exec", "web", "sh", "-c", "test ! -e /proc/self/fd/3"]);
}

#[test]
fn stop_start_and_restart() {
    let podman = Podman::new();
    podman.start("web", &[], "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done");
    eventually("it has printed", || podman.ok(["logs", "web"]) == "up\n");
    podman.ok(["stop", "--time", "20", "web"]);
    let state = podman.inspect("web")["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&Value::from("exited"), &Value::from(3)), "{state}");
    podman.ok(["start", "web"]);
    let first = podman.inspect("web")["State"]["Pid"].clone();
    assert_ne!(first, 0);
    eventually("it has printed again", || podman.ok(["logs", "web"]) == "up\nbye\nup\n");
    podman.ok(["restart", "--time", "20", "web"]);
    assert_ne!(podman.inspect("web")["State"]["Pid"], first);
    // One that does not end by itself is killed.
    podman.start("deaf", &[], "sleep 1000");
    podman.ok(["stop", "--time", "0", "deaf"]);
    assert_eq!(podman.inspect("deaf")["State"]["ExitCode"], 137);
    assert_eq!(podman.call(["wait", "deaf"]).stdout, "137\n");
    podman.ok(["kill", "--signal", "TERM", "web"]);
    eventually("it has ended", || podman.status("web") == "exited");
    podman.ok(["rm", "web", "deaf"]);
}

#[test]
fn a_restart_policy_starts_it_again() {
    let podman = Podman::new();
    podman.start("web", &["--restart", "on-failure:2"], "echo try; exit 1");
    eventually("it was tried three times", || podman.ok(["logs", "web"]) == "try\ntry\ntry\n");
}

#[test]
fn pause_and_unpause() {
    let podman = Podman::new();
    podman.start("web", &[], "while :; do echo x; sleep 0.02; done");
    podman.ok(["pause", "web"]);
    assert_eq!(podman.status("web"), "paused");
    let lines = || podman.ok(["logs", "web"]).len();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = lines();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(lines(), before, "nothing runs");
    assert!(!podman.call(["exec", "web", "true"]).status.success());
    podman.ok(["unpause", "web"]);
    eventually("it goes on", || lines() > before);
    // A paused one is removed too.
    podman.ok(["pause", "web"]);
    podman.ok(["rm", "--force", "--time", "0", "web"]);
}

#[test]
fn use_and_limits_are_seen() {
    let podman = Podman::new();
    podman.start("web", &["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"], "sleep 1000");
    let stats = podman.ok(["stats", "--no-stream", "--format", "json", "web"]);
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!((&stats[0]["name"], &stats[0]["pids"]), (&Value::from("web"), &Value::from("1")), "{stats}");
    assert!(stats[0]["mem_usage"].as_str().unwrap().ends_with("/ 67.11MB"), "{stats}");
    let top = podman.ok(["top", "web", "pid", "comm"]);
    assert!(top.lines().any(|line| line.ends_with("sleep")), "{top}");
}

#[test]
fn limits_are_changed_while_it_runs() {
    let podman = Podman::new();
    podman.start("web", &["--memory", "64m"], "sleep 1000");
    // Asked of the kernel: podman's own figures stay those with which the container was made.
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max; \
        cat cpu/cpu.cfs_quota_us 2>/dev/null || cut -d ' ' -f 1 cpu.max";
    let limits = || podman.ok(["exec", "web", "sh", "-c", script]);
    assert!(limits().starts_with("67108864\n"), "{}", limits());
    podman.ok(["update", "--memory", "96m", "--cpus", "0.25", "web"]);
    assert_eq!(limits(), "100663296\n25000\n");
}

#[test]
fn a_health_check_is_executed_in_it() {
    let podman = Podman::new();
    let flags =
        ["--health-cmd", "test -f /tmp/well", "--health-interval", "disable", "--health-retries", "1"];
    podman.start("web", &flags, "sleep 1000");
    assert_eq!(podman.call(["healthcheck", "run", "web"]).code(), 1);
    assert_eq!(podman.inspect("web")["State"]["Health"]["Status"], "unhealthy");
    podman.ok(["exec", "web", "touch", "/tmp/well"]);
    podman.ok(["healthcheck", "run", "web"]);
    assert_eq!(podman.inspect("web")["State"]["Health"]["Status"], "healthy");
}

#[test]
fn the_engine_knows_its_runtime() {
    let podman = Podman::new();
    let info: Value = serde_json::from_str(&podman.ok(["info", "--format", "json"])).unwrap();
    let runtime = &info["host"]["ociRuntime"];
    let version = runtime["version"].as_str().unwrap();
    assert!(version.starts_with("floe version 0.1.0"), "{runtime}");
    assert!(version.contains(&format!("spec: {}", floe_runtime::OCI_VERSION)), "{runtime}");
}

#[test]
fn many_at_once() {
    let podman = Podman::new();
    let mut running: Vec<_> = (0..8)
        .map(|number| {
            let script = format!("echo {number} >/dev/null; exit {number}");
            let mut command = podman.command(podman.run_arguments(["--rm", IMAGE, "sh", "-c", &script]));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<_> = running.iter_mut().map(|child| wait(child).code()).collect();
    assert_eq!(codes, (0..8).map(Some).collect::<Vec<_>>());
}

#[test]
fn sockets_of_systemd_reach_the_container() {
    let podman = Podman::new();
    let file = podman.place().join("opened");
    fs::write(&file, "by systemd\n").unwrap();
    let script = "echo $LISTEN_FDS $LISTEN_PID; cat <&3";
    let run = podman.command(podman.run_arguments(["--rm", IMAGE, "sh", "-c", script]));
    // The shell executes podman in its place, so that the number that it names is podman's.
    let mut call = Command::new("sh");
    let begin = "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<\"$0\"; exec \"$@\"";
    call.args(["-c", begin]).arg(&file).arg(run.get_program()).args(run.get_args());
    call.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let done = finish(&mut call);
    assert_eq!((done.code(), &*done.stdout), (0, "1 1\nby systemd\n"), "{done:?}");
}
