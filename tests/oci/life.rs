//! A container from its creation to its end.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle;
use crate::stage::{Done, Stage, eventually, finish, quiet, wait};

#[test]
fn run_returns_the_programs_status_and_removes_the_container() {
    let stage = Stage::new();
    for status in [0, 1, 7, 255] {
        let bundle = bundle::shell(&stage, &format!("echo out; echo err >&2; exit {status}"));
        let done = stage.call(&["run", "--bundle", bundle.to_str().unwrap(), &stage.name()]);
        assert_eq!((done.code(), done.stdout.as_str(), done.stderr.as_str()), (status, "out\n", "err\n"));
    }
    let bundle = bundle::shell(&stage, "kill -9 $$");
    // The first process of a pid namespace is immune to its own signals, so it goes on to the end.
    assert_eq!(stage.call(&["run", "-b", bundle.to_str().unwrap(), &stage.name()]).code(), 0);
    let killed = bundle::shell(&stage, "sh -c 'kill -TERM $$'; exit $?");
    assert_eq!(stage.call(&["run", "-b", killed.to_str().unwrap(), &stage.name()]).code(), 128 + 15);
    assert_eq!(stage.ok(&["list", "--quiet"]), "");
}

#[test]
fn the_verbs_lead_from_created_to_deleted() {
    let stage = Stage::new();
    let (bundle, name) = (bundle::shell(&stage, "echo started > /tmp/mark; exec sleep 1000"), stage.name());
    let pid_file = stage.path().join("pid");
    stage.ok(&[
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        &name,
    ]);

    let state = stage.state(&name);
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], name.as_str());
    assert_eq!(state["bundle"], bundle.to_str().unwrap());
    assert_eq!(state["owner"], "root");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
    std::thread::sleep(Duration::from_millis(50));
    assert!(!bundle.join("rootfs/tmp/mark").exists(), "the program waits for start");

    stage.ok(&["start", &name]);
    eventually("the program runs", || bundle.join("rootfs/tmp/mark").exists());
    assert_eq!(stage.status(&name), "running");
    assert_eq!(stage.pid(&name), state["pid"].as_i64().unwrap() as i32, "the program is the same process");

    assert!(stage.fails(&["delete", &name]).contains("running"));
    stage.ok(&["kill", &name, "KILL"]);
    stage.wait_for_status(&name, "stopped");
    assert_eq!(stage.state(&name)["pid"], 0);
    assert!(stage.fails(&["kill", &name]).contains("container not running"));
    stage.ok(&["delete", &name]);
    assert!(stage.fails(&["state", &name]).contains("does not exist"));
}

#[test]
fn a_created_container_is_deleted_without_force() {
    let stage = Stage::new();
    let (bundle, name) = (bundle::shell(&stage, "exit 0"), stage.name());
    stage.ok(&["create", "-b", bundle.to_str().unwrap(), &name]);
    stage.ok(&["delete", &name]);
}

#[test]
fn pause_stops_every_process_and_resume_lets_them_go_on() {
    let stage = Stage::new();
    let bundle =
        bundle::shell(&stage, "(while :; do echo x >> /tmp/beats; sleep 0.01; done) & exec sleep 1000");
    let name = stage.run_detached(&bundle);
    let beats = bundle.join("rootfs/tmp/beats");
    let count = || fs::read(&beats).map_or(0, |bytes| bytes.len());
    eventually("it beats", || count() > 5);

    stage.ok(&["pause", &name]);
    assert_eq!(stage.status(&name), "paused");
    let stopped_at = count();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(), stopped_at);
    assert!(stage.fails(&["pause", &name]).contains("paused"));
    assert!(stage.fails(&["exec", &name, "true"]).contains("paused"));

    stage.ok(&["resume", &name]);
    assert_eq!(stage.status(&name), "running");
    eventually("it beats again", || count() > stopped_at);
    assert!(stage.fails(&["resume", &name]).contains("running"));

    stage.ok(&["pause", &name]);
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_created_container_can_be_paused_too() {
    let stage = Stage::new();
    let (bundle, name) = (bundle::shell(&stage, "exit 4"), stage.name());
    stage.ok(&["create", "-b", bundle.to_str().unwrap(), &name]);
    stage.ok(&["pause", &name]);
    assert_eq!(stage.status(&name), "paused");
    assert!(stage.fails(&["start", &name]).contains("paused"));
    stage.ok(&["resume", &name]);
    assert_eq!(stage.status(&name), "created");
    stage.ok(&["start", &name]);
    stage.wait_for_status(&name, "stopped");
    stage.ok(&["delete", &name]);
}

#[test]
fn kill_reaches_the_first_process_or_all() {
    let stage = Stage::new();
    let script = "trap 'echo one >> /tmp/got' USR1; (trap 'echo two >> /tmp/got' USR1; echo ready > /tmp/ready; while :; do sleep 0.02; done) & while :; do sleep 0.02; done";
    let bundle = bundle::shell(&stage, script);
    let name = stage.run_detached(&bundle);
    let got = || fs::read_to_string(bundle.join("rootfs/tmp/got")).unwrap_or_default();
    eventually("both listen", || bundle.join("rootfs/tmp/ready").exists());
    stage.ok(&["kill", &name, "SIGUSR1"]);
    eventually("the first got it", || got() == "one\n");
    stage.ok(&["kill", "--all", &name, "10"]);
    eventually("both got it", || got().contains("two") && got().matches("one").count() == 2);
    assert!(stage.fails(&["kill", &name, "NONSENSE"]).contains("NONSENSE"));
    stage.ok(&["delete", "-f", &name]);
}

#[test]
fn list_and_ps_show_what_there_is() {
    let stage = Stage::new();
    assert_eq!(stage.ok(&["list"]).lines().count(), 1, "a head");
    assert_eq!(stage.ok(&["list", "--format", "json"]), "[]\n");
    let bundle = bundle::shell(&stage, "sleep 1000 & exec sleep 2000");
    let (one, two) = (stage.run_detached(&bundle), stage.name());
    stage.ok(&["create", "-b", bundle.to_str().unwrap(), &two]);

    assert_eq!(stage.ok(&["list", "-q"]), format!("{one}\n{two}\n"));
    let listed: Value = serde_json::from_str(&stage.ok(&["list", "-f", "json"])).unwrap();
    let seen: Vec<_> = listed.as_array().unwrap().iter().map(|each| (&each["id"], &each["status"])).collect();
    assert_eq!(seen, [(&json!(one), &json!("running")), (&json!(two), &json!("created"))]);
    let table = stage.ok(&["list"]);
    assert!(table.starts_with("ID ") && table.contains(&one) && table.contains("created"), "{table}");

    eventually("both sleep", || stage.ok(&["ps", &one]).matches("sleep").count() == 2);
    let pids: Vec<i32> = serde_json::from_str(&stage.ok(&["ps", "--format", "json", &one])).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&stage.pid(&one)));
    let chosen = stage.ok(&["ps", &one, "-eo", "pid,comm"]);
    assert_eq!(
        chosen.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect::<Vec<_>>(),
        ["COMMAND", "sleep", "sleep"]
    );
    for name in [one, two] {
        stage.ok(&["delete", "--force", &name]);
    }
}

#[test]
fn the_foreground_passes_signals_on_and_input_in() {
    let stage = Stage::new();
    let bundle =
        bundle::shell(&stage, "trap 'echo got it; exit 42' TERM; echo ready; while :; do sleep 0.02; done");
    let out = stage.path().join("out");
    let mut command = stage.floe(&["run", "-b", bundle.to_str().unwrap(), &stage.name()]);
    let mut child = command.stdout(fs::File::create(&out).unwrap()).spawn().unwrap();
    eventually("it is ready", || fs::read_to_string(&out).unwrap() == "ready\n");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(wait(&mut child).code(), Some(42));
    assert_eq!(fs::read_to_string(&out).unwrap(), "ready\ngot it\n");

    let reader = bundle::shell(&stage, "read line; echo \"<$line>\"");
    let mut command = stage.floe(&["run", "-b", reader.to_str().unwrap(), &stage.name()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from outside\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "<from outside>\n");
}

#[test]
fn keep_leaves_the_container_for_looking() {
    let stage = Stage::new();
    let (bundle, name) = (bundle::shell(&stage, "exit 3"), stage.name());
    let done: Done = stage.call(&["run", "--keep", "-b", bundle.to_str().unwrap(), &name]);
    assert_eq!(done.code(), 3);
    assert_eq!(stage.status(&name), "stopped");
    stage.ok(&["delete", &name]);
}

#[test]
fn hooks_run_with_the_state_on_their_input() {
    let stage = Stage::new();
    let log = stage.path().join("hooks");
    let hook = |point: &str| {
        let script = format!("cat >> {0}; echo ' {point}' >> {0}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    };
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["true"]);
        config["hooks"] = json!({
            "createRuntime": hook("createRuntime"), "poststart": hook("poststart"), "poststop": hook("poststop")
        });
    });
    let name = stage.name();
    stage.ok(&["run", "-b", bundle.to_str().unwrap(), &name]);
    let text = fs::read_to_string(&log).unwrap();
    let points: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(points, ["createRuntime", "poststart", "poststop"]);
    let first: Value =
        serde_json::from_str(text.lines().next().unwrap().rsplit_once(' ').unwrap().0).unwrap();
    assert_eq!(first["id"], name.as_str());
    assert!(first["pid"].as_i64().unwrap() > 0);

    // Wherever it fails, `run` says so and leaves nothing.
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let failing = bundle::with(&stage, |config| {
            config["process"]["args"] = json!(["sleep", "20"]);
            config["hooks"][kind] =
                json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"] }]);
        });
        let name = stage.name();
        let words = stage.fails(&["run", "-b", failing.to_str().unwrap(), &name]);
        assert!(words.contains(kind) && words.contains("no luck"), "{words}");
        assert!(stage.fails(&["state", &name]).contains("does not exist"), "{kind}");
    }
}

#[test]
fn what_floe_does_with_signals_stays_its_own_affair() {
    let stage = Stage::new();
    let seen = stage.path().join("hook-status");
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["true"]);
        let copy = format!("cat /proc/self/status > {}", seen.display());
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", copy] }] });
    });
    stage.ok(&["run", "-b", bundle.to_str().unwrap(), &stage.name()]);
    let status = fs::read_to_string(&seen).unwrap();
    assert!(status.contains("SigBlk:\t0000000000000000\n"), "a hook can be ended: {status}");
}

#[test]
fn descriptors_beyond_the_standard_streams_stay_outside_unless_kept() {
    use std::os::fd::AsRawFd;
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "ls /proc/self/fd | tr '\\n' ' '");
    let file = fs::File::open("/etc/hostname").unwrap();
    // Not close-on-exec, as an engine would pass it.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let done = finish(&mut stage.floe(&["run", "-b", bundle.to_str().unwrap(), &stage.name()]));
    assert_eq!(done.stdout, "0 1 2 3 ", "3 is the folder that ls reads; {} is not there", file.as_raw_fd());
}

#[test]
fn a_name_may_be_as_long_as_the_references() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "exec sleep 1000");
    let bundle = bundle.to_str().unwrap();
    let (name, other) = ("n".repeat(1024), format!("{}o", "n".repeat(1023)));
    for name in [&name, &other] {
        stage.ok(&["run", "--detach", "--bundle", bundle, name]);
        assert_eq!(stage.state(name)["id"], **name);
    }
    let listed = stage.ok(&["list", "--quiet"]);
    assert!(listed.lines().any(|line| line == name) && listed.lines().any(|line| line == other), "{listed}");
    assert_eq!(stage.ok(&["exec", &name, "echo", "here"]), "here\n");
    assert!(stage.fails(&["run", "--bundle", bundle, &name]).contains("exists already"));
    stage.ok(&["delete", "--force", &name]);
    assert_eq!(stage.status(&other), "running");
    stage.ok(&["delete", "--force", &other]);
    assert!(stage.fails(&["run", "--bundle", bundle, &"n".repeat(1025)]).contains("1024"));
}

/// The parent of a process.
fn parent(pid: &str) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

#[test]
fn orphans_become_the_runtimes_unless_that_is_not_wanted() {
    let stage = Stage::new();
    // Without a pid namespace, whose first process would take them on.
    let bundle = bundle::with(&stage, |config| {
        let script = "sh -c 'sleep 1000 & echo $! >/orphan.new; mv /orphan.new /orphan'; exec sleep 1000";
        config["process"]["args"] = json!(["sh", "-c", script]);
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let orphan = bundle.join("rootfs/orphan");
    for (flag, taken) in [(None, true), (Some("--no-subreaper"), false)] {
        let name = stage.name();
        let mut words = vec!["run", "-b", bundle.to_str().unwrap()];
        words.extend(flag);
        words.push(&name);
        let mut floe = quiet(&mut stage.floe(&words)).spawn().unwrap();
        eventually("there is an orphan", || orphan.exists());
        let pid = fs::read_to_string(&orphan).unwrap().trim().to_owned();
        eventually("its parent has ended", || {
            fs::read_to_string(format!("/proc/{}/comm", parent(&pid))).unwrap() != "sh\n"
        });
        assert_eq!(parent(&pid) == floe.id(), taken, "{flag:?}: its parent is {}", parent(&pid));
        fs::remove_file(&orphan).unwrap();
        stage.ok(&["kill", &name, "KILL"]);
        assert_eq!(wait(&mut floe).code(), Some(128 + 9));
    }
}

#[test]
fn a_hook_that_asks_for_the_state_finds_its_process_in_it() {
    let stage = Stage::new();
    let (name, told) = (stage.name(), stage.path().join("told"));
    fs::create_dir(&told).unwrap();
    let floe = stage.floe(&["state", &name]);
    let words: Vec<_> = [floe.get_program()].into_iter().chain(floe.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
    let kinds = ["prestart", "createRuntime", "createContainer"];
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["true"]);
        for kind in kinds {
            let folder = told.display();
            let script =
                format!("cat >{folder}/{kind}-input; exec {} >{folder}/{kind}-state", words.join(" "));
            config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        }
    });
    stage.ok(&["create", "--bundle", bundle.to_str().unwrap(), &name]);
    let pid = stage.pid(&name);
    let read = |file: String| serde_json::from_slice::<Value>(&fs::read(told.join(file)).unwrap()).unwrap();
    for kind in kinds {
        let (input, state) = (read(format!("{kind}-input")), read(format!("{kind}-state")));
        assert_eq!((&state["status"], &state["pid"]), (&json!("creating"), &json!(pid)), "{kind}");
        if kind != "createContainer" {
            // That one hears of the number in the container's own pid namespace.
            assert_eq!((&input["status"], &input["pid"]), (&state["status"], &state["pid"]), "{kind}");
        }
    }
    assert_eq!(stage.status(&name), "created");
    stage.ok(&["delete", "--force", &name]);
}
