//! Further processes in a container.

use std::fs;

use serde_json::json;

use crate::bundle;
use crate::stage::{Stage, eventually};

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
