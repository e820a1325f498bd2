//! Limits as the host's cgroups have them, what is used of them, and changes of a running container.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle;
use crate::stage::{Stage, eventually, finish, quiet, wait};

/// The container's cgroup on the host, through whatever version it has.
pub struct Files(pub String);

impl Files {
    /// The value of the first of these files that the host has: version 1's, version 2's.
    #[track_caller]
    pub fn value(&self, names: &[&str]) -> String {
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

pub fn sleeper(stage: &Stage, resources: Value) -> PathBuf {
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

pub fn is_v2() -> bool {
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

/// On the container's own host: a network namespace in which this is all that there is.
#[test]
fn what_goes_through_the_containers_interfaces_is_told() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "true");
    fs::remove_file(bundle.join("config.json")).unwrap();
    let file = bundle.join("container.json");
    let config = json!({
        "rootfs": "rootfs",
        "namespaces": [{"type": "NEWNS"}, {"type": "NEWPID"}, {"type": "NEWNET"}],
        "networks": [{"type": "loopback"}, {"type": "veth", "name": "web0", "host_interface_name": "vhost",
            "address": "10.7.0.2/24"}],
        "cgroups": {"name": stage.name()}
    });
    fs::write(&file, config.to_string()).unwrap();
    let name = stage.name();
    let floe = |words: &str| {
        let call = stage.floe::<&str>(&[]);
        let words_before: Vec<_> = call.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
        format!("{} {} {words}", call.get_program().display(), words_before.join(" "))
    };
    let script = [
        "set -e".to_owned(),
        floe(&format!(
            "run --detach --config {} {name} sleep 1000 </dev/null >/dev/null 2>&1",
            file.display()
        )),
        "ip addr add 10.7.0.1/24 dev vhost".to_owned(),
        floe(&format!("events --stats {name}")),
        // Nobody listens, which is told through the interface too.
        floe(&format!("exec {name} nc 10.7.0.1 7007 </dev/null >/dev/null 2>&1 || :")),
        floe(&format!("events --stats {name}")),
        floe(&format!("delete --force {name}")),
    ];
    let mut call = Command::new("unshare");
    call.args(["--net", "sh", "-c", &script.join("\n")]).envs(
        stage
            .floe::<&str>(&[])
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))),
    );
    let done = finish(&mut call);
    assert!(done.status.success(), "{done:?}");
    let told: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |number: usize| told[number]["data"]["network_interfaces"][0].clone();
    assert_eq!(told[1]["data"]["network_interfaces"].as_array().unwrap().len(), 1, "{}", told[1]);
    let (before, after) = (of(0), of(1));
    assert_eq!(after["Name"], "vhost");
    for key in ["RxBytes", "RxPackets", "TxBytes", "TxPackets"] {
        assert!(after[key].as_u64() > before[key].as_u64(), "{key}: {before} {after}");
    }
    for key in ["RxErrors", "RxDropped", "TxErrors", "TxDropped"] {
        assert_eq!(after[key], 0, "{key}: {after}");
    }
    // A container without any says so as runc does.
    let name = stage.run_detached(&sleeper(&stage, json!({})));
    let event: Value = serde_json::from_str(&stage.ok(&["events", "--stats", &name])).unwrap();
    assert_eq!(event["data"].get("network_interfaces"), Some(&Value::Null));
    stage.ok(&["delete", "--force", &name]);
}
