//! Limits as the host's cgroups have them, what is used of them, and changes of a running container.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bundle;
use crate::stage::{Stage, eventually, quiet, wait};

/// The container's cgroup on the host, through whatever version it has.
struct Files(String);

impl Files {
    /// The value of the first of these files that the host has: version 1's, version 2's.
    #[track_caller]
    fn value(&self, names: &[&str]) -> String {
        let found = names.iter().find_map(|name| {
            let controller = name.split('.').next().unwrap();
            let paths = [format!("{controller}/{}", self.0), format!("unified/{}", self.0), self.0.clone()];
            paths
                .iter()
                .find_map(|path| fs::read_to_string(Path::new("/sys/fs/cgroup").join(path).join(name)).ok())
        });
        found.unwrap_or_else(|| panic!("none of {names:?} is there")).trim().to_owned()
    }
}

fn sleeper(stage: &Stage, resources: Value) -> PathBuf {
    bundle::with(stage, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        for (key, value) in resources.as_object().unwrap() {
            config["linux"]["resources"][key] = value.clone();
        }
    })
}

/// A block device of the host as `major:minor`.
fn disk() -> (u32, u32) {
    let mut disks = fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path());
    let text = disks
        .find_map(|path| fs::read_to_string(path.join("dev")).ok())
        .expect("this test needs a block device");
    let (major, minor) = text.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn every_resource_is_in_the_hosts_cgroups() {
    let stage = Stage::new();
    let (major, minor) = disk();
    let page = 2 << 20;
    let rate = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let mut memory =
        json!({ "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20, "disableOOMKiller": false });
    if !is_v2() {
        memory["swappiness"] = json!(33);
    }
    let bundle = sleeper(
        &stage,
        json!({
            "memory": memory,
            "cpu": { "shares": 512, "quota": 40_000, "period": 80_000, "burst": 10_000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 50 },
            "blockIO": {
                "throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20),
                "throttleReadIOPSDevice": rate(100), "throttleWriteIOPSDevice": rate(200)
            },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": page }]
        }),
    );
    let files = Files(stage.run_detached(&bundle));
    let is = |names: &[&str], value: &str| assert_eq!(files.value(names), value, "{names:?}");
    is(&["memory.limit_in_bytes", "memory.max"], "67108864");
    is(&["memory.soft_limit_in_bytes", "memory.low"], "33554432");
    is(&["pids.max"], "50");
    is(&["cpuset.cpus"], "0");
    is(&["cpuset.mems"], "0");
    is(&["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"], &page.to_string());
    is(&["hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max"], &page.to_string());
    if is_v2() {
        is(&["memory.swap.max"], "33554432");
        is(&["cpu.weight"], "59");
        is(&["cpu.max"], "40000 80000");
        is(&["cpu.max.burst"], "10000");
        is(&["io.max"], &format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200"));
    } else {
        is(&["memory.memsw.limit_in_bytes"], "100663296");
        is(&["memory.swappiness"], "33");
        is(&["cpu.shares"], "512");
        is(&["cpu.cfs_quota_us"], "40000");
        is(&["cpu.cfs_period_us"], "80000");
        is(&["cpu.cfs_burst_us"], "10000");
        for (file, rate) in
            [("read_bps", 1 << 20), ("write_bps", 2 << 20), ("read_iops", 100), ("write_iops", 200)]
        {
            is(&[&format!("blkio.throttle.{file}_device")], &format!("{major}:{minor} {rate}"));
        }
    }
    stage.ok(&["delete", "--force", &files.0]);
}

#[test]
fn an_idle_cpu_and_a_disabled_oom_killer() {
    let stage = Stage::new();
    let disable = !is_v2();
    let bundle = sleeper(&stage, json!({ "cpu": { "idle": 1 }, "memory": { "disableOOMKiller": disable } }));
    let files = Files(stage.run_detached(&bundle));
    assert_eq!(files.value(&["cpu.idle"]), "1");
    if disable {
        assert!(files.value(&["memory.oom_control"]).contains("oom_kill_disable 1"));
    }
    stage.ok(&["delete", "--force", &files.0]);
}

#[test]
fn what_the_host_lacks_is_named_and_nothing_is_left() {
    let stage = Stage::new();
    for (resources, words) in [
        (json!({ "rdma": { "nonexistent0": { "hcaHandles": 3 } } }), "rdma"),
        (json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 0 }] }), "hugepageLimits[0]"),
        (json!({ "unified": { "nothing.max": "1" } }), "nothing.max"),
        (json!({ "cpu": { "cpus": "4095" } }), "linux.resources.cpu.cpus"),
        (
            json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 4000, "minor": 0, "rate": 1 }] } }),
            "throttleReadBpsDevice[0]",
        ),
    ] {
        let bundle = sleeper(&stage, resources);
        let said = stage.fails(&["run", "--detach", "-b", bundle.to_str().unwrap(), &stage.name()]);
        assert!(said.contains(words), "{words}: {said}");
        stage.assert_clean();
    }
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        config["linux"]["devices"] = json!([
            { "path": "/dev/tun1", "type": "c", "major": 10, "minor": 200 },
            { "path": "/dev/fuse1", "type": "c", "major": 10, "minor": 229 }
        ]);
        config["linux"]["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 200, "access": "r" }]);
    });
    let name = stage.run_detached(&bundle);
    // Both drivers have to be in the kernel for the nodes to be opened at all.
    let may = |script: &str| stage.call(&["exec", &name, "sh", "-c", script]).status.success();
    assert!(may(": </dev/tun1") && !may(": >/dev/tun1") && !may(": </dev/fuse1"));
    assert!(
        may(": >/dev/null") && may(": </dev/zero"),
        "the default devices are there whatever the rules say"
    );
    stage.ok(&["delete", "--force", &name]);
}

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
    stage.fails(&["update", "--l3-cache-schema", "L3:0=f", &name]);
    stage.fails(&["update", "--resources", "/nonexistent", &name]);
    stage.ok(&["kill", &name, "KILL"]);
    stage.wait_for_status(&name, "stopped");
    assert!(stage.fails(&["update", "--pids-limit", "5", &name]).contains("stopped"));
    stage.ok(&["delete", &name]);
}

#[test]
fn what_is_used_is_told() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] =
            json!(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 1000"]);
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 12 });
    });
    let name = stage.run_detached(&bundle);
    eventually("it has used a processor", || {
        let event: Value = serde_json::from_str(&stage.ok(&["events", "--stats", &name])).unwrap();
        assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(name.as_str())));
        let data = &event["data"];
        assert_eq!(data["memory"]["usage"]["limit"], 64 << 20, "{event}");
        assert!(data["memory"]["usage"]["usage"].as_u64() > Some(0), "{event}");
        assert!(data["memory"]["raw"].as_object().unwrap().len() > 10);
        assert_eq!((data["pids"]["current"].as_u64(), data["pids"]["limit"].as_u64()), (Some(1), Some(12)));
        assert!(data["cpuset"]["cpus"].is_array() && data["intel_rdt"].is_object());
        data["cpu"]["usage"]["total"].as_u64() > Some(1_000_000)
    });
    stage.ok(&["kill", &name, "KILL"]);
    stage.wait_for_status(&name, "stopped");
    assert!(stage.fails(&["events", "--stats", &name]).contains("not running"));
    stage.ok(&["delete", &name]);
}

#[test]
fn events_tell_use_and_a_lack_of_memory_until_the_end() {
    let stage = Stage::new();
    let name =
        stage.run_detached(&sleeper(&stage, json!({ "memory": { "limit": 32 << 20, "swap": 32 << 20 } })));
    let mut command = stage.floe(&["events", "--interval", "200ms", &name]);
    let mut child = quiet(&mut command).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(next()["type"], "stats");
    }
    assert_eq!(stage.call(&["exec", &name, "tail", "/dev/zero"]).code(), 128 + 9);
    let told = (0..50).map(|_| next()).find(|event| event["type"] == "oom").expect("it tells");
    assert_eq!(told["id"], name.as_str());
    stage.ok(&["kill", &name, "KILL"]);
    assert!(wait(&mut child).success(), "it ends with the container");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_scope_of_systemd_and_a_path_are_told_apart() {
    let stage = Stage::new();
    let at = |path: &str| bundle::with(&stage, |config| config["linux"]["cgroupsPath"] = json!(path));
    let scope = at("system.slice:floe:web");
    let said = stage.fails(&["run", "-b", scope.to_str().unwrap(), &stage.name()]);
    assert!(said.contains("system.slice:floe:web") && said.contains("--systemd-cgroup"), "{said}");
    for path in ["/some/path", "no-slice:floe:web", "system.slice:floe:a/b"] {
        let bundle = at(path);
        let said = stage.fails(&["--systemd-cgroup", "run", "-b", bundle.to_str().unwrap(), &stage.name()]);
        assert!(said.contains("slice:prefix:name"), "{path}: {said}");
    }
}
