use super::*;
use crate::config::{MountKind, NamespaceKind};

fn bundle(change: impl FnOnce(&mut serde_json::Value)) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rootfs")).unwrap();
    let mut spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": "rootfs"},
        "hostname": "web",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro", "rprivate"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}]}
    });
    change(&mut spec);
    from_json(spec.to_string().as_bytes(), Path::new("/b/config.json"), dir.path())
}

#[test]
fn a_bundle_becomes_a_configuration() {
    let config = bundle(|_| {}).unwrap();
    assert!(config.rootfs.is_absolute());
    assert!(config.creates(NamespaceKind::Pid) && !config.creates(NamespaceKind::Network));
    assert_eq!(config.mounts[0].kind, MountKind::Filesystem("proc".into()));
    assert_eq!(config.mounts[1].data, "mode=755,size=65536k");
    assert_eq!(config.mounts[2].kind, MountKind::Bind { recursive: true });
    assert!(config.mounts[2].source.as_ref().unwrap().is_absolute());
    assert_eq!(config.mounts[3].kind, MountKind::Cgroup);
    assert!(config.devices.iter().any(|device| device.path == Path::new("/dev/null")));
}

/// What is refused, and the key that the refusal names.
#[test]
fn what_cannot_be_done_is_refused_by_its_key() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let cases: Vec<(&str, serde_json::Value, &str)> = vec![
        ("/linux/namespaces", json(r#"[{"type": "pid"}, {"type": "pid"}]"#), "linux.namespaces[1]"),
        ("/linux/namespaces", json(r#"[{"type": "network", "path": "net"}]"#), "linux.namespaces[0].path"),
        (
            "/linux/namespaces",
            json(r#"[{"type": "mount", "path": "/proc/self/ns/mnt"}]"#),
            "linux.namespaces[0].path",
        ),
        ("/linux/namespaces", json(r#"[{"type": "pid"}]"#), "hostname"),
        ("/linux/namespaces", json(r#"[{"type": "uts"}]"#), "mounts"),
        ("/linux/namespaces", json(r#"[{"type": "uts", "path": "/proc/self/ns/uts"}]"#), "hostname"),
        ("/linux/sysctl", json(r#"{"net.ipv4.ip_forward": "1"}"#), "linux.sysctl"),
        ("/linux/sysctl", json(r#"{"kernel.msgmax": "1"}"#), "linux.sysctl"),
        ("/linux/sysctl", json(r#"{"vm.swappiness": "1"}"#), "linux.sysctl"),
        ("/linux/sysctl", json(r#"{"kernel.hostname": "x"}"#), "linux.sysctl"),
        ("/linux/sysctl", json(r#"{"user.max_net_namespaces": "1"}"#), "linux.sysctl"),
        (
            "/linux/sysctl",
            json(r#"{"kernel/../vm.swappiness": "1"}"#),
            "linux.sysctl.kernel/../vm.swappiness",
        ),
        ("/linux/sysctl", json(r#"{"net..x": "1"}"#), "linux.sysctl.net..x"),
        (
            "/linux/devices",
            json(r#"[{"path": "/dev/../x", "type": "c", "major": 1, "minor": 1}]"#),
            "linux.devices[0].path",
        ),
        (
            "/linux/devices",
            json(r#"[{"path": "/dev/x", "type": "c", "major": 4096, "minor": 1}]"#),
            "linux.devices[0].major",
        ),
        (
            "/linux/devices",
            json(r#"[{"path": "/dev/x", "type": "c", "major": 1, "minor": -1}]"#),
            "linux.devices[0].minor",
        ),
        (
            "/linux/devices",
            json(r#"[{"path": "/dev/x", "type": "a", "major": 1, "minor": 1}]"#),
            "linux.devices[0].type",
        ),
        (
            "/linux/resources",
            json(r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": -1, "rate": 1}]}}"#),
            "linux.resources.blockIO.throttleReadBpsDevice[0].minor",
        ),
        (
            "/linux/resources",
            json(r#"{"blockIO": {"weightDevice": [{"major": 4294967296, "minor": 0, "weight": 100}]}}"#),
            "linux.resources.blockIO.weightDevice[0].major",
        ),
        ("/linux/timeOffsets", json(r#"{"boottime": {"secs": 1}}"#), "linux.timeOffsets"),
        ("/linux/timeOffsets", json(r#"{"realtime": {"secs": 1}}"#), "linux.timeOffsets.realtime"),
        (
            "/linux/timeOffsets",
            json(r#"{"monotonic": {"nanosecs": 1000000000}}"#),
            "linux.timeOffsets.monotonic.nanosecs",
        ),
        ("/linux/uidMappings", json(r#"[{"containerID": 0, "hostID": 0, "size": 1}]"#), "linux.uidMappings"),
        ("/linux/gidMappings", json(r#"[{"containerID": 0, "hostID": 0, "size": 1}]"#), "linux.gidMappings"),
        ("/linux/mountLabel", json(r#""system_u:object_r:x:s0""#), "linux.mountLabel"),
        ("/linux/rootfsPropagation", json(r#""both""#), "linux.rootfsPropagation"),
        ("/linux/cgroupsPath", json(r#""/a/../../b""#), "linux.cgroupsPath"),
        ("/linux/maskedPaths", json(r#"["/a", "b"]"#), "linux.maskedPaths[1]"),
        ("/linux/readonlyPaths", json(r#"["\u0000"]"#), "linux.readonlyPaths[0]"),
        ("/mounts/0/options", json(r#"["idmap", "bind"]"#), "mounts[0].options"),
        ("/mounts/0/options", json(r#"[7]"#), "mounts[0].options[0]"),
        ("/mounts/0/destination", json(r#""/a/../b""#), "mounts[0].destination"),
        ("/process/args", json("[]"), "process.args"),
        ("/process/cwd", json(r#""relative""#), "process.cwd"),
        ("/process/apparmorProfile", json(r#""a\nb""#), "process.apparmorProfile"),
        ("/linux/netDevices", json(r#"{"eth1": {"name": "a/b"}}"#), "linux.netDevices.eth1.name"),
        ("/linux/netDevices", json(r#"{"a b": {}}"#), "linux.netDevices.a b"),
        ("/linux/netDevices", json(r#"{"eth1": {}}"#), "linux.netDevices"),
        ("/process/cwd", json(r#""/\u0000""#), "process.cwd"),
        ("/process/user/uid", json("-1"), "process.user.uid"),
        ("/process/user/uid", json("4294967296"), "process.user.uid"),
        ("/process/user/umask", json("4096"), "process.user.umask"),
        ("/process/args", json(r#"["a\u0000b"]"#), "process.args[0]"),
        ("/process/env", json(r#"["A=1", "B=\u0000"]"#), "process.env[1]"),
        ("/hooks", json(r#"{"startContainer": [{"path": "x"}]}"#), "hooks.startContainer[0].path"),
        (
            "/hooks",
            json(r#"{"poststop": [{"path": "/x"}, {"path": "/x", "timeout": -1}]}"#),
            "hooks.poststop[1].timeout",
        ),
        (
            "/hooks",
            json(r#"{"prestart": [{"path": "/x", "env": ["A=\u0000"]}]}"#),
            "hooks.prestart[0].env[0]",
        ),
        ("/hostname", json(r#""a\u0000b""#), "hostname"),
        (
            "/domainname",
            json(r#""0123456789012345678901234567890123456789012345678901234567890123456789""#),
            "domainname",
        ),
        ("/root/path", json(r#""rootfs\u0000""#), "root.path"),
        ("/root/path", json(r#""/""#), "root.path"),
    ];
    for (pointer, value, key) in cases {
        let error = bundle(|spec| set(spec, pointer, value)).expect_err(pointer);
        assert!(error.to_string().starts_with(&format!("{key} in /b/config.json")), "{pointer}: {error}");
    }
}

fn set(spec: &mut serde_json::Value, pointer: &str, value: serde_json::Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap();
    match parent.as_array_mut() {
        Some(list) => list[name.parse::<usize>().unwrap()] = value,
        None => parent[name] = value,
    }
}

#[test]
fn parameters_have_one_spelling() {
    let config = bundle(|spec| {
        set(
            spec,
            "/linux/namespaces",
            serde_json::json!([{"type": "network"}, {"type": "mount"}, {"type": "uts"}]),
        );
        let given = serde_json::json!({"net/ipv4/conf/eth0.7/forwarding": "1", "net.core.somaxconn": "9"});
        set(spec, "/linux/sysctl", given);
    });
    let sysctl = config.unwrap().sysctl;
    let names: Vec<&String> = sysctl.keys().collect();
    assert_eq!(names, ["net.core.somaxconn", "net.ipv4.conf.eth0/7.forwarding"]);
}

#[test]
fn hooks_become_hooks() {
    let config = bundle(|spec| {
        let hook = serde_json::json!([{"path": "/x", "args": ["x", "y"], "env": ["A=b"], "timeout": 3}]);
        set(
            spec,
            "/hooks",
            serde_json::json!({"createContainer": hook, "startContainer": hook, "poststop": []}),
        );
    });
    let hooks = config.unwrap().hooks;
    assert_eq!(hooks.create_container, hooks.start_container);
    let hook = &hooks.start_container[0];
    assert_eq!(
        (hook.args.len(), hook.env.len(), hook.timeout),
        (2, 1, Some(std::time::Duration::from_secs(3)))
    );
}

#[test]
fn missing_parts_are_told_by_name() {
    for (key, said) in [("process", "process in"), ("root", "root in")] {
        let error = bundle(|spec| drop(spec.as_object_mut().unwrap().remove(key))).unwrap_err();
        assert!(error.to_string().starts_with(said), "{error}");
    }
    assert!(matches!(from_json(b"{", Path::new("/c"), Path::new("/")), Err(Error::Json { .. })));
}

#[test]
fn what_is_for_other_platforms_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rootfs")).unwrap();
    let mut spec = serde_json::json!({
        "ociVersion": "1.2.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}]},
    });
    let read = |spec: &serde_json::Value| {
        from_json(spec.to_string().as_bytes(), &dir.path().join("config.json"), dir.path()).unwrap()
    };
    let plain = read(&spec);
    spec["solaris"] = serde_json::json!({"milestone": "svc:/milestone/container:default"});
    spec["windows"] = serde_json::json!({"layerFolders": ["C:\\Layers\\1"], "servicing": true});
    spec["vm"] = serde_json::json!({"kernel": {"path": "/boot/vmlinuz"}});
    spec["zos"] = serde_json::json!({"namespaces": [{"type": "mount"}]});
    assert_eq!(read(&spec), plain);
}
