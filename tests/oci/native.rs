//! `--config`: a native configuration, and what is executed behind the name.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bundle;
use crate::stage::Stage;

/// A configuration as libcontainer would have written it, in a folder of its own.
fn configuration(stage: &Stage, change: impl FnOnce(&mut Value)) -> PathBuf {
    let bundle = bundle::shell(stage, "true");
    fs::remove_file(bundle.join("config.json")).unwrap();
    let mut config = json!({
        "rootfs": "rootfs",
        "hostname": "native",
        "namespaces": [{"type": "NEWNS"}, {"type": "NEWUTS"}, {"type": "NEWPID"}, {"type": "NEWIPC"}, {"type": "NEWNET"}],
        "mounts": [
            {"source": "proc", "destination": "/proc", "device": "proc", "flags": 14},
            {"source": "tmpfs", "destination": "/dev", "device": "tmpfs", "flags": 2, "data": "mode=755"},
            {"source": "devpts", "destination": "/dev/pts", "device": "devpts", "flags": 10, "data": "newinstance,ptmxmode=0666"}
        ],
        "capabilities": ["CAP_KILL"],
        "cgroups": {"name": stage.name(), "memory": 64 << 20},
        "labels": ["color=blue"]
    });
    change(&mut config);
    let file = bundle.join("container.json");
    fs::write(&file, config.to_string()).unwrap();
    file
}

#[test]
fn what_follows_the_name_runs_in_it() {
    let stage = Stage::new();
    let file = configuration(&stage, |_| {});
    let file = file.to_str().unwrap();
    let script = "hostname; id -u; pwd; echo $A; grep CapEff /proc/self/status";
    let words = ["run", "--config", file, "--env", "A=x y", "--cwd", "/tmp", "--user", "root:root"];
    let name = stage.name();
    let out = stage.ok(&[&words[..], &[&name, "sh", "-c", script]].concat());
    assert_eq!(out, "native\n0\n/tmp\nx y\nCapEff:\t0000000000000020\n");
    assert_eq!(
        stage.ok(&["run", "--config", file, "--tty", &name, "sh", "-c", "test -t 0 && echo yes"]),
        "yes\r\n"
    );
    let done = stage.call(&["run", "--config", file, &name, "sh", "-c", "exit 7"]);
    assert_eq!(done.code(), 7);
    stage.assert_clean();
}

#[test]
fn what_is_wrong_is_said_with_its_native_key() {
    let stage = Stage::new();
    let name = stage.name();
    let file = configuration(&stage, |config| config["mounts"][1]["flags"] = json!(-1));
    let words = stage.fails(&["run", "--config", file.to_str().unwrap(), &name, "true"]);
    assert!(words.contains("mounts[1].flags") && words.contains("container.json"), "{words}");
    let file = configuration(&stage, |_| {});
    let words = stage.fails(&["run", "--config", file.to_str().unwrap(), &name]);
    assert!(words.contains("process.args"), "{words}");
    // Neither can both be given, nor a command without it.
    let both = stage.call(&["run", "--config", file.to_str().unwrap(), "--bundle", "/", &name, "true"]);
    assert_eq!(both.code(), 2, "{both:?}");
    let none = stage.call(&["run", &name, "true"]);
    assert_eq!(none.code(), 2, "{none:?}");
    stage.assert_clean();
}

#[test]
fn it_is_frozen_and_comes_back() {
    let stage = Stage::new();
    let file = configuration(&stage, |_| {});
    let (name, again) = (stage.name(), stage.name());
    let script = "n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.02; done";
    stage.ok(&["run", "--detach", "--config", file.to_str().unwrap(), &name, "sh", "-c", script]);
    let state: Value = serde_json::from_str(&stage.ok(&["state", &name])).unwrap();
    assert_eq!(state["annotations"]["color"], "blue");
    let archive = stage.path().join("native.tar.zst");
    let archive = archive.to_str().unwrap();
    stage.ok(&["checkpoint", &name, "--to", archive]);
    stage.ok(&["delete", &name]);
    let count =
        || fs::read_to_string(file.with_file_name("rootfs/count")).unwrap().trim().parse::<u64>().ok();
    let before = count();
    stage.ok(&["restore", &again, "--from", archive, "--detach"]);
    crate::stage::eventually("it counts on", || count() > before);
    assert_eq!(stage.ok(&["exec", &again, "hostname"]), "native\n");
    stage.ok(&["delete", "--force", &again]);
    // The record of a snapshot outlives its container.
    fs::remove_dir_all(stage.root().join("@records")).unwrap();
}

#[test]
fn a_limit_that_is_passed_over_is_told() {
    let stage = Stage::new();
    let name = stage.name();
    let file = configuration(&stage, |config| config["cgroups"]["kernel_memory_tcp"] = json!(1 << 24));
    let done = stage.call(&["run", "--config", file.to_str().unwrap(), &name, "true"]);
    assert!(done.status.success() && done.stderr.contains("limits of kernel memory are ignored"), "{done:?}");
    stage.assert_clean();
}

#[test]
fn it_may_ask_for_systemds_driver() {
    let stage = Stage::new();
    let asks = |config: &mut Value| {
        config["cgroups"]["systemd"] = json!(true);
        config["cgroups"]["scope_prefix"] = json!("floe-test");
    };
    let file = configuration(&stage, asks);
    let name = stage.name();
    let words = ["run", "--config", file.to_str().unwrap(), &name, "cat", "/proc/self/cgroup"];
    let done = stage.call(&words);
    match PathBuf::from("/run/systemd/system").is_dir() {
        true => assert!(done.stdout.contains("system.slice/floe-test-"), "{done:?}"),
        // As `--systemd-cgroup` says it.
        false => {
            assert!(done.code() == 1 && done.stderr.contains("systemd"), "{done:?}");
            let plain = configuration(&stage, |config| {
                config["cgroups"] = json!({"name": "x", "scope_prefix": "floe-test"});
            });
            let flag = ["--systemd-cgroup", "run", "--config", plain.to_str().unwrap(), &name, "true"];
            assert_eq!(done.stderr, stage.fails(&flag));
        }
    }
    let file = configuration(&stage, |config| {
        asks(config);
        config["cgroups"]["path"] = json!("/floe");
    });
    let said = stage.fails(&["run", "--config", file.to_str().unwrap(), &name, "true"]);
    assert!(said.contains("cgroups.path"), "{said}");
}
