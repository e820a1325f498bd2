//! What a hostile review found, each as it was shown.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::bundle;
use crate::stage::{Stage, eventually};

#[test]
fn an_id_that_means_leave_as_it_is_makes_nobody_root() {
    let stage = Stage::new();
    let none = u32::MAX;
    let bundle = bundle::with(&stage, |config| config["process"]["user"] = json!({"uid": none, "gid": none}));
    let words = stage.fails(&["run", "--bundle", bundle.to_str().unwrap(), &stage.name()]);
    assert!(words.contains("process.user.uid") && words.contains("4294967295"), "{words}");
    let name = stage.run_detached(&bundle::shell(&stage, "exec sleep 1000"));
    let done = stage.call(&["exec", "--user", "4294967295:0", &name, "id"]);
    assert!(
        !done.status.success() && done.stdout.is_empty() && done.stderr.contains("4294967295"),
        "{done:?}"
    );
    stage.ok(&["delete", "--force", &name]);
    let device = json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": none, "gid": 0}]);
    let bundle = bundle::with(&stage, |config| config["linux"]["devices"] = device);
    let words = stage.fails(&["run", "--bundle", bundle.to_str().unwrap(), &stage.name()]);
    assert!(words.contains("linux.devices"), "{words}");
}

#[test]
fn a_filter_without_network_calls_lets_a_container_start() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "echo inside; exit 7"]);
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["sendto", "recvfrom", "sendmsg", "recvmsg", "socket"], "action": "SCMP_ACT_ERRNO"}]});
    });
    let done = stage.call(&["run", "--bundle", bundle.to_str().unwrap(), &stage.name()]);
    assert_eq!((done.code(), done.stdout.as_str()), (7, "inside\n"), "{done:?}");
}

#[test]
fn hooks_in_the_container_have_the_callers_mask() {
    let stage = Stage::new();
    let out = stage.path().join("mask");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("umask > {}", out.display())]}]);
    let bundle = bundle::with(&stage, |config| {
        config["hooks"] = json!({"createContainer": hook});
        config["process"]["args"] = json!(["true"]);
    });
    stage.ok(&["run", "--bundle", bundle.to_str().unwrap(), &stage.name()]);
    let own = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::sys::stat::umask(own);
    assert_eq!(std::fs::read_to_string(&out).unwrap().trim(), format!("{:04o}", own.bits()));
}

#[test]
fn hooks_of_the_start_have_the_programs_mask() {
    let stage = Stage::new();
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "umask > /mask"]}]);
    let bundle = bundle::with(&stage, |config| {
        config["hooks"] = json!({"startContainer": hook});
        config["process"]["user"]["umask"] = json!(0o027);
        config["process"]["args"] = json!(["cat", "/mask"]);
    });
    assert_eq!(stage.ok(&["run", "--bundle", bundle.to_str().unwrap(), &stage.name()]), "0027\n");
}

#[test]
fn a_working_directory_that_is_made_is_not_everybodys() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["cwd"] = json!("/made/here");
        config["process"]["args"] = json!(["stat", "-c", "%a", "/made", "/made/here"]);
    });
    assert_eq!(stage.ok(&["run", "--bundle", bundle.to_str().unwrap(), &stage.name()]), "755\n755\n");
}

#[test]
fn the_callers_mask_does_not_reach_what_is_made_for_mounts() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        let mount = json!({"destination": "/made/for/it", "type": "tmpfs", "source": "tmpfs"});
        config["mounts"].as_array_mut().unwrap().push(mount);
        config["process"]["args"] = json!(["stat", "-c", "%a", "/made", "/made/for", "/dev/null"]);
    });
    let name = stage.name();
    let call = stage.floe(&["run", "--bundle", bundle.to_str().unwrap(), &name]);
    let mut masked = std::process::Command::new("sh");
    masked.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(call.get_program()).args(call.get_args());
    let own = call.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let done = crate::stage::finish(masked.envs(own));
    assert_eq!(done.stdout, "755\n755\n666\n", "{done:?}");
}

#[test]
fn a_paused_container_can_be_killed() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::shell(&stage, "exec sleep 1000"));
    stage.ok(&["pause", &name]);
    stage.ok(&["kill", &name, "KILL"]);
    stage.wait_for_status(&name, "stopped");
    stage.ok(&["delete", &name]);
}

#[test]
fn nothing_is_left_of_a_container_without_a_pid_namespace() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sh", "-c", "sleep 1000 & exec sleep 1000"]);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    });
    let name = stage.run_detached(&bundle);
    let count = || stage.ok(&["ps", "--format", "json", &name]).matches(',').count() + 1;
    eventually("both run", || count() == 2);
    stage.ok(&["kill", &name, "KILL"]);
    stage.wait_for_status(&name, "stopped");
    assert_eq!(stage.ok(&["ps", "--format", "json", &name]).trim(), "[]");
    stage.ok(&["delete", &name]);
}

#[test]
fn a_process_whose_pid_cannot_be_told_does_not_stay() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::shell(&stage, "exec sleep 1000"));
    let words = stage.fails(&["exec", "--detach", "--pid-file", "/nowhere/pid", &name, "sleep", "1000"]);
    assert!(words.contains("/nowhere/pid"), "{words}");
    let ps = stage.ok(&["ps", "--format", "json", &name]);
    assert!(!ps.contains(','), "one process: {ps}");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_hook_that_fails_late_does_not_end_another_container_of_the_name() {
    let stage = Stage::new();
    let hooked = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        config["hooks"] =
            json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 2; exit 1"]}]});
    });
    let plain = bundle::shell(&stage, "exec sleep 1000");
    let name = stage.name();
    let mut starting = stage.floe(&["run", "--detach", "--bundle", hooked.to_str().unwrap(), &name]);
    let mut starting = crate::stage::quiet(&mut starting).spawn().unwrap();
    eventually("it runs", || stage.call(&["state", &name]).stdout.contains("running"));
    stage.ok(&["delete", "--force", &name]);
    stage.ok(&["run", "--detach", "--bundle", plain.to_str().unwrap(), &name]);
    assert!(!crate::stage::wait(&mut starting).success(), "its hook failed");
    assert_eq!(stage.status(&name), "running");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_hook_that_hangs_does_not_keep_a_container() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        config["hooks"] = json!({"poststart": [{"path": "/bin/sleep", "args": ["sleep", "8"]}]});
    });
    let name = stage.name();
    let mut starting = stage.floe(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &name]);
    let mut starting = crate::stage::quiet(&mut starting).spawn().unwrap();
    eventually("it runs", || stage.call(&["state", &name]).stdout.contains("running"));
    let begun = Instant::now();
    stage.ok(&["delete", "--force", &name]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    crate::stage::wait(&mut starting);
}
