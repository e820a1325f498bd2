//! Further processes in a container.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bundle;
use crate::stage::{Stage, eventually, finish, quiet, wait};

fn sleeping(stage: &Stage) -> String {
    stage.run_detached(&bundle::with(stage, |config| config["process"]["args"] = json!(["sleep", "1000"])))
}

#[test]
fn exec_returns_the_processs_own_status() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    for (script, status) in
        [("exit 0", 0), ("exit 9", 9), ("kill -KILL $$", 128 + 9), ("kill -USR1 $$", 128 + 10)]
    {
        assert_eq!(stage.call(&["exec", &name, "sh", "-c", script]).code(), status, "{script}");
    }
    let missing = stage.call(&["exec", &name, "no-such-program"]);
    assert_eq!(missing.code(), 255);
    assert!(
        missing.stderr.contains("no-such-program") && missing.stderr.contains("not found"),
        "{missing:?}"
    );
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn it_is_in_all_namespaces_and_the_cgroup_of_the_container() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    let script = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done; for n in cgroup ipc mnt net pid user uts; do readlink /proc/1/ns/$n; done";
    let text = stage.ok(&["exec", &name, "sh", "-c", script]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 14);
    assert_eq!(lines[..7], lines[7..]);
    let groups = stage.ok(&["exec", &name, "cat", "/proc/self/cgroup"]);
    assert!(
        groups.lines().filter(|line| !line.starts_with("0:")).all(|line| line.ends_with(":/")),
        "{groups}"
    );
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn flags_change_the_process() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    let script = "id -u; id -g; pwd; echo $WHAT; echo $TERM; grep -E 'Groups|CapEff|NoNew' /proc/self/status";
    let flags = [
        "--user",
        "5:6",
        "--cwd",
        "/tmp",
        "--env",
        "WHAT=this",
        "-e",
        "TERM=dumb",
        "-g",
        "44",
        "--no-new-privs",
    ];
    let mut words = vec!["exec"];
    words.extend(flags);
    words.extend([name.as_str(), "sh", "-c", script]);
    assert_eq!(
        stage.ok(&words),
        "5\n6\n/tmp\nthis\ndumb\nGroups:\t44 \nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n"
    );
    let more = stage.ok(&["exec", "--cap", "CAP_SYS_CHROOT", &name, "grep", "CapEff", "/proc/self/status"]);
    assert_eq!(more, "CapEff:\t0000000020040420\n");

    let file = stage.path().join("process.json");
    fs::write(
        &file,
        json!({ "args": ["sh", "-c", "echo $A"], "env": ["A=b", "PATH=/bin"], "cwd": "/", "user": {} })
            .to_string(),
    )
    .unwrap();
    assert_eq!(stage.ok(&["exec", "--process", file.to_str().unwrap(), &name]), "b\n");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_detached_process_is_left_to_itself() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    let pid_file = stage.path().join("exec-pid");
    stage.ok(&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), &name, "sleep", "500"]);
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(&stage.ok(&["ps", "-f", "json", &name])).unwrap();
    assert!(pids.contains(&pid) && pids.len() == 2, "{pid} in {pids:?}");
    stage.ok(&["exec", &name, "killall", "sleep"]);
    eventually("the detached one has ended", || {
        let pids: Vec<i32> = serde_json::from_str(&stage.ok(&["ps", "-f", "json", &name])).unwrap();
        !pids.contains(&pid)
    });
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn only_a_running_container_takes_one() {
    let stage = Stage::new();
    let (bundle, name) = (bundle::shell(&stage, "exit 0"), stage.name());
    assert!(stage.fails(&["exec", &name, "true"]).contains("does not exist"));
    stage.ok(&["run", "--keep", "-b", bundle.to_str().unwrap(), &name]);
    assert!(stage.fails(&["exec", &name, "true"]).contains("stopped"));
    stage.ok(&["delete", &name]);
}

#[test]
fn it_goes_to_a_cgroup_below_the_containers() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    let top = Path::new("/sys/fs/cgroup");
    let (own, wanted): (PathBuf, _) = match top.join("cgroup.controllers").exists() {
        true => (top.join(&name), "inner"),
        false => (top.join("memory").join(&name), "memory:/inner"),
    };
    let inner = own.join("inner");
    fs::create_dir(&inner).unwrap();
    // From outside: what the process sees of itself depends on its cgroup namespace.
    let pid_file = stage.path().join("pid");
    let pid_file = pid_file.to_str().unwrap();
    stage.ok(&["exec", "--cgroup", wanted, "--detach", "--pid-file", pid_file, &name, "sleep", "1000"]);
    let pid = fs::read_to_string(pid_file).unwrap();
    assert_eq!(fs::read_to_string(inner.join("cgroup.procs")).unwrap().trim(), pid);
    let words = stage.fails(&["exec", "--cgroup", "nothing", &name, "true"]);
    assert!(words.contains("nothing does not exist"), "{words}");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_paused_container_is_joined_only_when_that_is_asked_for() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    stage.ok(&["pause", &name]);
    assert!(stage.fails(&["exec", &name, "true"]).contains("paused"));
    let mut waiting = stage.floe(&["exec", "--ignore-paused", &name, "sh", "-c", "exit 3"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none(), "nothing runs in a paused container");
    stage.ok(&["resume", &name]);
    assert_eq!(wait(&mut waiting).code(), Some(3));
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn descriptors_of_the_processes_are_sent() {
    let stage = Stage::new();
    let path = stage.path().join("pidfd.sock");
    let (socket, path) = (UnixListener::bind(&path).unwrap(), path.to_str().unwrap());
    let bundle = bundle::with(&stage, |config| config["process"]["args"] = json!(["sleep", "1000"]));
    let name = stage.name();
    let pid_of = |fd: OwnedFd| {
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        let pid = about.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a pidfd");
        pid.trim().parse::<i32>().unwrap()
    };
    let received = || floe_runtime::console::receive(socket.accept().unwrap().0.as_fd()).unwrap();
    stage.ok(&["run", "--detach", "--pidfd-socket", path, "--bundle", bundle.to_str().unwrap(), &name]);
    assert_eq!(pid_of(received()), stage.pid(&name));

    let pid_file = stage.path().join("pid");
    let words = ["--detach", "--pidfd-socket", path, "--pid-file", pid_file.to_str().unwrap(), &name];
    stage.ok(&[&["exec"], &words[..], &["sleep", "1000"]].concat());
    assert_eq!(pid_of(received()).to_string(), fs::read_to_string(&pid_file).unwrap());
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_label_that_the_host_cannot_give_is_no_silent_loss() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    for flag in ["--apparmor", "--process-label"] {
        // Without the module, or without what is named.
        let words = stage.fails(&["exec", flag, "no-such-label", &name, "true"]);
        assert!(words.contains("no-such-label"), "{flag}: {words}");
    }
    stage.ok(&["exec", "--apparmor", "unconfined", &name, "true"]);
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn sockets_of_systemd_reach_the_first_process_only() {
    let stage = Stage::new();
    let script = "echo $LISTEN_FDS $LISTEN_PID >/told; cat <&3 >>/told; exec sleep 1000";
    let (bundle, name) = (bundle::shell(&stage, script), stage.name());
    let file = stage.path().join("opened");
    fs::write(&file, "by systemd\n").unwrap();
    // The shell executes floe in its place, so that the number that it names is floe's.
    let mut call = Command::new("sh");
    let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<\"$0\"; exec \"$@\"";
    call.args(["-c", script]).arg(&file);
    let floe = stage.floe(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &name]);
    call.arg(floe.get_program())
        .args(floe.get_args())
        .envs(floe.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = finish(quiet(&mut call));
    assert!(done.status.success(), "{done:?}");
    eventually("it has told", || {
        fs::read_to_string(bundle.join("rootfs/told")).is_ok_and(|told| told == "1 1\nby systemd\n")
    });
    assert_eq!(stage.ok(&["exec", &name, "sh", "-c", "echo \"<$LISTEN_FDS>\""]), "<>\n");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn descriptors_are_handed_on_as_many_as_are_named() {
    let stage = Stage::new();
    let name = sleeping(&stage);
    let file = stage.path().join("opened");
    fs::write(&file, "through 3\n").unwrap();
    let exec = |flags: &[&str]| {
        // A shell has it open as 3 and 4, and as nothing else.
        let floe = stage.floe(&[&["exec"][..], flags, &[&name, "sh", "-c", "cat <&3"]].concat());
        let mut call = Command::new("sh");
        call.args(["-c", "exec 3<\"$0\" 4<\"$0\"; exec \"$@\""]).arg(&file).arg(floe.get_program());
        call.args(floe.get_args()).envs(floe.get_envs().filter_map(|(name, value)| Some((name, value?))));
        finish(&mut call)
    };
    for count in ["1", "2"] {
        assert_eq!(exec(&["--preserve-fds", count]).stdout, "through 3\n", "{count}");
    }
    let none = exec(&[]);
    assert!(none.code() != 0 && none.stdout.is_empty(), "{none:?}");
    let too_many = exec(&["--preserve-fds", "9"]);
    assert!(
        too_many.code() == 255 && too_many.stderr.contains('5'),
        "the first that is not open is named: {too_many:?}"
    );
    stage.ok(&["delete", "--force", &name]);
}

/// It stands still in the container's cgroup, where version 1 lets nothing end; and it goes on only at floe's word, which
/// does not come any more.
#[test]
fn a_process_whose_floe_was_killed_does_not_go_on_into_the_container() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| config["process"]["args"] = json!(["sleep", "1000"]));
    let name = stage.run_detached(&bundle);
    let processes = || -> Vec<i32> { serde_json::from_str(&stage.ok(&["ps", "-f", "json", &name])).unwrap() };
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        stage.ok(&["pause", &name]);
        let words = ["exec", "--ignore-paused", &name, "touch", "/ran"];
        let mut floe = quiet(&mut stage.floe(&words)).spawn().unwrap();
        eventually("the process waits in the cgroup", || processes().len() == 2);
        kill(Pid::from_raw(i32::try_from(floe.id()).unwrap()), signal).unwrap();
        if signal == Signal::SIGKILL {
            wait(&mut floe);
            stage.ok(&["resume", &name]);
            eventually("the process is gone", || processes().len() == 1);
            assert!(!bundle.join("rootfs/ran").exists(), "and has done nothing");
        } else {
            // One that can be caught is the process's to have.
            stage.ok(&["resume", &name]);
            wait(&mut floe);
            eventually("the process is gone", || processes().len() == 1);
        }
    }
    stage.ok(&["delete", "--force", &name]);
}
