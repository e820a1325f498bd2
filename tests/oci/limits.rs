//! Limits as the host's cgroups have them, what is used of them, and changes of a running container.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle;
use crate::stage::{Stage, eventually, finish, quiet, wait};
use crate::support::tool;

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
