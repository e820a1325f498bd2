//! `update`: limits that change while the container runs, all or none.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle;
use crate::limits::{Files, is_v2, sleeper};
use crate::stage::{Stage, eventually, finish, quiet, wait};
use crate::support::tool;

#[test]
fn limits_change_while_it_runs() {
    let stage = Stage::new();
    let name =
        stage.run_detached(&sleeper(&stage, json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } })));
    let files = Files(name.clone());
    let memory = || files.value(&["memory.limit_in_bytes", "memory.max"]);
    let swap = || match is_v2() {
        true => files.value(&["memory.swap.max"]).parse::<u64>().unwrap() + memory().parse::<u64>().unwrap(),
        false => files.value(&["memory.memsw.limit_in_bytes"]).parse().unwrap(),
    };
    // Up and down, where the kernel of version 1 wants the one before the other.
    for (limit, both) in [("256m", "512m"), ("32m", "48m"), ("100M", "100M")] {
        stage.ok(&["update", "--memory", limit, "--memory-swap", both, &name]);
        let bytes = |text: &str| text[..text.len() - 1].parse::<u64>().unwrap() << 20;
        assert_eq!((memory(), swap()), (bytes(limit).to_string(), bytes(both)), "{limit} {both}");
    }
    stage.ok(&[
        "update",
        "--cpu-share",
        "2048",
        "--cpu-quota",
        "30000",
        "--cpu-period",
        "60000",
        "--pids-limit",
        "77",
        &name,
    ]);
    assert_eq!(files.value(&["pids.max"]), "77");
    stage.ok(&["update", "--cpu-period", "90000", &name]);
    if is_v2() {
        assert_eq!(files.value(&["cpu.max"]), "30000 90000", "the quota stays");
    } else {
        assert_eq!(
            (files.value(&["cpu.shares"]), files.value(&["cpu.cfs_quota_us"])),
            ("2048".into(), "30000".into())
        );
        assert_eq!(files.value(&["cpu.cfs_period_us"]), "90000");
    }
    stage.ok(&["update", "--cpuset-cpus", "0", "--cpu-idle", "1", "--memory-reservation", "1m", &name]);
    assert_eq!((files.value(&["cpuset.cpus"]), files.value(&["cpu.idle"])), ("0".into(), "1".into()));

    // By JSON, from a file and from standard input.
    let json = stage.path().join("resources.json");
    fs::write(&json, r#"{"pids":{"limit":88},"memory":{"limit":0}}"#).unwrap();
    stage.ok(&["update", "--resources", json.to_str().unwrap(), &name]);
    assert_eq!((files.value(&["pids.max"]), memory()), ("88".to_owned(), (100 << 20).to_string()));
    let mut child =
        quiet(&mut stage.floe(&["update", "-r", "-", &name])).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"pids":{"limit":99}}"#).unwrap();
    assert!(wait(&mut child).success());
    assert_eq!(files.value(&["pids.max"]), "99");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn an_update_that_fails_changes_nothing() {
    let stage = Stage::new();
    let name = stage
        .run_detached(&sleeper(&stage, json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 10 } })));
    let files = Files(name.clone());
    let record = || fs::read_to_string(stage.root().join(&name).join("state.json")).unwrap();
    let before = record();
    // The processor that isn't there is refused after the others were taken.
    let said =
        stage.fails(&["update", "--memory", "128m", "--pids-limit", "20", "--cpuset-cpus", "4095", &name]);
    assert!(said.contains("linux.resources.cpu.cpus"), "{said}");
    assert_eq!(files.value(&["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(files.value(&["pids.max"]), "10");
    assert_eq!(record(), before);
    stage.fails(&["update", "--memory", "64m", "--memory-swap", "32m", &name]);
    stage.fails(&["update", "--memory", "lots", &name]);
    if !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        for flag in ["--l3-cache-schema", "--mem-bw-schema"] {
            let said = stage.fails(&["update", "--pids-limit", "20", flag, "L3:0=f", &name]);
            assert!(said.contains("no resctrl file system is mounted"), "{said}");
        }
    }
    stage.fails(&["update", "--resources", "/nonexistent", &name]);
    stage.ok(&["kill", &name, "KILL"]);
    stage.wait_for_status(&name, "stopped");
    assert!(stage.fails(&["update", "--pids-limit", "5", &name]).contains("stopped"));
    stage.ok(&["delete", &name]);
}

#[test]
fn further_limits_change_while_it_runs() {
    let stage = Stage::new();
    let name = stage.run_detached(&sleeper(&stage, json!({ "cpu": { "quota": 40_000, "period": 80_000 } })));
    let files = Files(name.clone());
    stage.ok(&["update", "--cpu-burst", "7000", "--cpuset-mems", "0", &name]);
    assert_eq!(files.value(&["cpu.cfs_burst_us", "cpu.max.burst"]), "7000");
    assert_eq!(files.value(&["cpuset.mems"]), "0");
    assert!(stage.fails(&["update", "--cpuset-mems", "4095", &name]).contains("linux.resources.cpu.mems"));
    assert_eq!(files.value(&["cpuset.mems"]), "0");
    stage.ok(&["delete", "--force", &name]);
}

/// What some kernels have and others lack: it is set, or named as missing, and nothing else is changed then.
#[test]
fn limits_that_the_kernel_may_lack_are_set_or_named() {
    let stage = Stage::new();
    let name = stage.run_detached(&sleeper(&stage, json!({ "pids": { "limit": 10 } })));
    let files = Files(name.clone());
    let there = |file: &str| {
        let controller = file.split('.').next().unwrap();
        Path::new("/sys/fs/cgroup").join(controller).join(&name).join(file).exists()
    };
    let weight = ["blkio.weight", "blkio.bfq.weight"].into_iter().find(|file| there(file));
    let real_time = there("cpu.rt_period_us").then_some("cpu.rt_period_us");
    for (flags, file, value, key) in [
        (&["--blkio-weight", "200"][..], weight, "200", "linux.resources.blockIO.weight"),
        (&["--cpu-rt-period", "900000"], real_time, "900000", "linux.resources.cpu.realtimePeriod"),
        (
            &["--cpu-rt-runtime", "0", "--cpu-rt-period", "800000"],
            real_time,
            "800000",
            "linux.resources.cpu.realtimePeriod",
        ),
    ] {
        let done = stage.call(&[&["update", "--pids-limit", "20"], flags, &[&name]].concat());
        match file {
            Some(file) => {
                assert!(done.status.success(), "{flags:?}: {done:?}");
                assert_eq!(files.value(&[file]), value, "{flags:?}");
                stage.ok(&["update", "--pids-limit", "10", &name]);
            }
            None => {
                assert!(!done.status.success() && done.stderr.contains(key), "{flags:?}: {done:?}");
                assert_eq!(files.value(&["pids.max"]), "10", "{flags:?}");
            }
        }
    }
    // A runtime needs a period that holds it, and real-time of those above; whatever it is, it is said by its key.
    let done = stage.call(&["update", "--cpu-rt-runtime", "1000", &name]);
    match done.status.success() {
        true => assert_eq!(files.value(&["cpu.rt_runtime_us"]), "1000"),
        false => assert!(done.stderr.contains("linux.resources.cpu.realtimeRuntime"), "{done:?}"),
    }
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn limits_of_kernel_memory_are_passed_over_with_a_warning() {
    let stage = Stage::new();
    let words = "limits of kernel memory are ignored";
    for kernel in [json!({ "kernel": 1 << 24 }), json!({ "kernelTCP": 1 << 24 }), json!({ "kernel": 0 })] {
        let name = stage.name();
        let bundle = sleeper(&stage, json!({ "memory": kernel }));
        let log = stage.path().join("log");
        let mut call = stage.floe(&["--log", log.to_str().unwrap(), "run", "--detach"]);
        let done = finish(call.arg("--bundle").arg(&bundle).arg(&name));
        assert!(done.status.success(), "{done:?}");
        let told = fs::read_to_string(&log).unwrap();
        let is_said = kernel != json!({ "kernel": 0 });
        assert_eq!(
            (done.stderr.contains(words), told.contains(words)),
            (is_said, is_said),
            "{kernel}: {done:?}"
        );
        for flag in ["--kernel-memory", "--kernel-memory-tcp"] {
            let done = stage.call(&["update", flag, "16m", &name]);
            assert!(done.status.success() && done.stderr.contains(words), "{flag}: {done:?}");
        }
        stage.ok(&["delete", "--force", &name]);
        fs::remove_file(log).unwrap();
    }
}

#[test]
fn a_limit_that_is_in_use_is_refused_where_that_is_to_be_checked() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::with(&stage, |config| {
        let script = "head -c 8000000 /dev/zero >/dev/shm/held; exec sleep 1000";
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    }));
    let files = Files(name.clone());
    eventually("it holds memory", || {
        files.value(&["memory.usage_in_bytes", "memory.current"]).parse::<u64>().unwrap() > 8_000_000
    });
    let update = |memory: Value| {
        let file = stage.path().join("resources.json");
        fs::write(&file, json!({ "memory": memory }).to_string()).unwrap();
        stage.call(&["update", "--resources", file.to_str().unwrap(), &name])
    };
    let refused = update(json!({ "limit": 4 << 20, "checkBeforeUpdate": true }));
    assert!(
        !refused.status.success() && refused.stderr.contains("linux.resources.memory.limit"),
        "{refused:?}"
    );
    assert_eq!(files.value(&["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(stage.status(&name), "running", "nothing was killed for it");
    let taken = update(json!({ "limit": 32 << 20, "checkBeforeUpdate": true }));
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(files.value(&["memory.limit_in_bytes", "memory.max"]), (32 << 20).to_string());
    stage.ok(&["delete", "--force", &name]);
}

/// A small file system that can be filled to the brim.
struct Full {
    place: PathBuf,
    filler: PathBuf,
}

impl Full {
    fn mount(place: PathBuf) -> Self {
        fs::create_dir_all(&place).unwrap();
        tool(Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k,mode=755", "tmpfs"]).arg(&place));
        Self { filler: place.join("filler"), place }
    }

    fn fill(&self) {
        let mut file = fs::File::create(&self.filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(&self.filler).unwrap();
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

#[test]
fn a_full_state_directory_changes_no_limit_and_loses_nothing() {
    let stage = Stage::new();
    let disk = Full::mount(stage.root());
    let name = stage.run_detached(&sleeper(&stage, json!({ "pids": { "limit": 10 } })));
    let files = Files(name.clone());
    let record = || fs::read_to_string(stage.root().join(&name).join("state.json")).unwrap();
    let before = record();
    disk.fill();
    let said = stage.fails(&["update", "--pids-limit", "20", "--memory", "64m", &name]);
    assert!(said.contains("No space left on device") && said.contains("state.json"), "{said}");
    assert_eq!((files.value(&["pids.max"]), record()), ("10".to_owned(), before));
    // Everything else goes on.
    assert_eq!(stage.status(&name), "running");
    assert_eq!(stage.ok(&["exec", &name, "echo", "here"]), "here\n");
    stage.ok(&["pause", &name]);
    stage.ok(&["resume", &name]);
    let other = stage.name();
    let bundle = bundle::shell(&stage, "true");
    let said = stage.fails(&["run", "--bundle", bundle.to_str().unwrap(), &other]);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(stage.ok(&["list", "--quiet"]), format!("{name}\n"));
    disk.empty();
    stage.ok(&["update", "--pids-limit", "20", &name]);
    assert_eq!(files.value(&["pids.max"]), "20");
    assert!(record().contains("20"), "{}", record());
    disk.fill();
    stage.ok(&["delete", "--force", &name]);
    disk.empty();
}
