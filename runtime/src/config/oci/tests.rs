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
        ("/linux/sysctl", json(r#"{"net.ipv4.ip_forward": "1"}"#), "linux.sysctl"),
        ("/mounts/0/destination", json(r#""proc""#), "mounts[0].destination"),
        ("/mounts/0/destination", json(r#""/a/../b""#), "mounts[0].destination"),
        ("/process/args", json("[]"), "process.args"),
        ("/process/cwd", json(r#""relative""#), "process.cwd"),
        ("/process/apparmorProfile", json(r#""a\nb""#), "process.apparmorProfile"),
        ("/hooks", json(r#"{"startContainer": [{"path": "/x"}]}"#), "hooks.startContainer"),
        ("/linux/netDevices", json(r#"{"eth1": {"name": "a/b"}}"#), "linux.netDevices.eth1.name"),
        ("/linux/netDevices", json(r#"{"a b": {}}"#), "linux.netDevices.a b"),
        ("/linux/netDevices", json(r#"{"eth1": {}}"#), "linux.netDevices"),
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
fn missing_parts_are_told_by_name() {
    for (key, said) in [("process", "process in"), ("root", "root in")] {
        let error = bundle(|spec| drop(spec.as_object_mut().unwrap().remove(key))).unwrap_err();
        assert!(error.to_string().starts_with(said), "{error}");
    }
    assert!(matches!(from_json(b"{", Path::new("/c"), Path::new("/")), Err(Error::Json { .. })));
}
