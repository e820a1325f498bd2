//! What a container can see and do: namespaces, limits, rights, file systems.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::bundle;
use crate::stage::{Stage, eventually};

/// The inode of a process's namespace.
fn namespace(pid: i32, kind: &str) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).unwrap().ino()
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// What the container's program prints.
fn output(stage: &Stage, bundle: &Path) -> String {
    stage.ok(&["run", "-b", bundle.to_str().unwrap(), &stage.name()])
}

#[test]
fn every_namespace_is_its_own() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        config["hostname"] = json!("inner-host");
    });
    let name = stage.run_detached(&bundle);
    let pid = stage.pid(&name);
    for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        assert_ne!(namespace(pid, kind), namespace(own_pid(), kind), "{kind}");
    }
    assert_eq!(namespace(pid, "user"), namespace(own_pid(), "user"), "none was asked for");
    let inside = |command: &str| stage.ok(&["exec", &name, "sh", "-c", command]);
    assert_eq!(inside("hostname"), "inner-host\n");
    assert_eq!(inside("cat /proc/1/comm"), "sleep\n");
    assert_eq!(inside("ls /sys/class/net"), "lo\n");
    assert!(inside("ip addr show lo").contains("127.0.0.1"), "lo is up");
    assert_ne!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "inner-host\n");

    // Another container joins the network of this one.
    let joining = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/net"));
            }
        }
    });
    let other = stage.run_detached(&joining);
    assert_eq!(namespace(stage.pid(&other), "net"), namespace(pid, "net"));
    assert_ne!(namespace(stage.pid(&other), "pid"), namespace(pid, "pid"));
    for name in [name, other] {
        stage.ok(&["delete", "--force", &name]);
    }
}

#[test]
fn a_user_namespace_maps_its_root_to_somebody_else() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sh", "-c", "id -u; touch /tmp/mine; exec sleep 1000"]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    for dir in ["", "rootfs", "rootfs/tmp"] {
        std::os::unix::fs::chown(bundle.join(dir), Some(100_000), Some(100_000)).unwrap();
    }
    // The way to the root file system has to be open for that user.
    fs::set_permissions(stage.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let name = stage.run_detached(&bundle);
    let pid = stage.pid(&name);
    assert_ne!(namespace(pid, "user"), namespace(own_pid(), "user"));
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 100_000);
    eventually("the file is there", || bundle.join("rootfs/tmp/mine").exists());
    assert_eq!(fs::metadata(bundle.join("rootfs/tmp/mine")).unwrap().uid(), 100_000);
    assert_eq!(stage.ok(&["exec", &name, "id", "-u"]), "0\n");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn limits_hold() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }]);
        config["linux"]["resources"]["memory"] = json!({ "limit": 33_554_432 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 9 });
        config["linux"]["resources"]["cpu"] = json!({ "shares": 512 });
    });
    let name = stage.run_detached(&bundle);
    let cgroup_file = |v1: &str, v2: &str| {
        let paths = [format!("/sys/fs/cgroup/{v1}"), format!("/sys/fs/cgroup/{name}/{v2}")];
        let value = paths.iter().find_map(|path| fs::read_to_string(path.replace("NAME", &name)).ok());
        value.unwrap_or_else(|| panic!("neither of {paths:?} is there")).trim().to_owned()
    };
    assert_eq!(cgroup_file("memory/NAME/memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(cgroup_file("pids/NAME/pids.max", "pids.max"), "9");
    let inside = |command: &str| stage.call(&["exec", &name, "sh", "-c", command]);
    assert_eq!(inside("ulimit -Sn; ulimit -Hn").stdout, "77\n88\n");
    let crowd = inside("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done 2>&1; echo $?");
    assert!(crowd.stdout.contains("fork"), "the tenth process is one too many: {crowd:?}");
    let glutton = inside("tail /dev/zero");
    assert_eq!(glutton.code(), 128 + 9, "ended at the memory limit: {glutton:?}");
    assert_eq!(stage.status(&name), "running");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn devices_are_those_of_the_configuration() {
    let stage = Stage::new();
    let bundle = bundle::with(&stage, |config| {
        let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c; ls -ln /dev/mine; mknod /tmp/disk b 8 0 2>&1; ls /dev";
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["linux"]["devices"] = json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 0, "gid": 5 }]);
    });
    let text = output(&stage, &bundle);
    assert!(text.starts_with("3\ncrw-r-----    1 0        5           1,   3"), "{text}");
    assert!(text.contains("mknod: /tmp/disk: Operation not permitted"), "{text}");
    for name in ["full", "null", "random", "tty", "urandom", "zero", "fd", "stdin", "ptmx", "shm", "pts"] {
        assert!(text.lines().any(|line| line == name), "{name} is missing in {text}");
    }
    assert!(!text.contains("kmsg") && !text.lines().any(|line| line.starts_with("vd")), "{text}");
}

#[test]
fn the_process_is_who_and_where_it_should_be() {
    let stage = Stage::new();
    let script = "id -u; id -g; grep Groups /proc/self/status; pwd; echo $COLOUR; umask; grep -E 'CapEff|CapBnd|NoNew|SigBlk' /proc/self/status";
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["process"]["user"] =
            json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o027 });
        config["process"]["cwd"] = json!("/tmp");
        config["process"]["env"] = json!(["PATH=/bin", "COLOUR=blue"]);
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]
        });
    });
    let expected = "1000\n1001\nGroups:\t7 8 \n/tmp\nblue\n0027\nSigBlk:\t0000000000000000\n\
                    CapEff:\t0000000000000020\nCapBnd:\t0000000000000020\nNoNewPrivs:\t1\n";
    assert_eq!(output(&stage, &bundle), expected);
}

#[test]
fn no_signal_is_blocked_or_ignored_because_floe_did() {
    let stage = Stage::new();
    let bundle =
        bundle::with(&stage, |config| config["process"]["args"] = json!(["cat", "/proc/self/status"]));
    let text = output(&stage, &bundle);
    let mask = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    // 32 and 33 belong to glibc, which sets them up for itself when a program has threads.
    assert_eq!(mask("SigIgn:") & !(0b11 << 31), 0);
}

#[test]
fn mounts_masks_and_read_only_paths_are_made() {
    let stage = Stage::new();
    let outside = stage.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "from outside").unwrap();
    let script = "cat /data/file; touch /data/x || echo ro; mount | grep -c ' /scratch '; touch /nowhere || echo ro;
        cat /etc/secret; ls /etc/hidden; touch /etc/frozen/x || echo ro; touch /tmp/y && echo rw; ls / | tr '\\n' ' '";
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["readonly"] = json!(true);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({ "destination": "/data", "type": "bind", "source": outside, "options": ["rbind", "ro"] }),
        );
        mounts.push(
            json!({ "destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"] }),
        );
        mounts.push(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }));
        for (key, path) in
            [("maskedPaths", "/etc/secret"), ("maskedPaths", "/etc/hidden"), ("readonlyPaths", "/etc/frozen")]
        {
            config["linux"][key].as_array_mut().unwrap().push(json!(path));
        }
    });
    let etc = bundle.join("rootfs/etc");
    fs::write(etc.join("secret"), "secret").unwrap();
    fs::create_dir(etc.join("hidden")).unwrap();
    fs::write(etc.join("hidden/file"), "").unwrap();
    fs::create_dir(etc.join("frozen")).unwrap();
    let text = output(&stage, &bundle);
    assert_eq!(text, "from outsidero\n1\nro\nro\nrw\nbin data dev etc proc root run scratch sys tmp ");
    assert!(!outside.join("x").exists());
}

#[test]
fn kernel_parameters_belong_to_the_container() {
    let stage = Stage::new();
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let bundle = bundle::with(&stage, |config| {
        config["process"]["args"] = json!([
            "cat",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/kernel/msgmax",
            "/proc/self/oom_score_adj"
        ]);
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "12345" });
        config["process"]["oomScoreAdj"] = json!(321);
    });
    assert_eq!(output(&stage, &bundle), "1\n12345\n321\n");
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), before);
    let foreign = bundle::with(&stage, |config| config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }));
    let words = stage.fails(&["run", "-b", foreign.to_str().unwrap(), &stage.name()]);
    assert!(words.contains("vm.swappiness"), "a parameter of the whole host: {words}");
}

#[test]
fn a_cgroup_with_strangers_in_it_is_not_taken() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "sleep 1000");
    let first = stage.run_detached(&bundle);
    let second = bundle::with(&stage, |config| config["linux"]["cgroupsPath"] = json!(format!("/{first}")));
    let words = stage.fails(&["run", "-b", second.to_str().unwrap(), &stage.name()]);
    assert!(words.contains(&format!("{first} has processes")), "{words}");
    assert_eq!(stage.status(&first), "running");
    let whole = bundle::with(&stage, |config| config["linux"]["cgroupsPath"] = json!("/"));
    stage.fails(&["run", "-b", whole.to_str().unwrap(), &stage.name()]);
    stage.ok(&["delete", "--force", &first]);
}
