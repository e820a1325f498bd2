use super::*;
use crate::config::{MountKind, NamespaceKind, Propagation, RlimitKind};
use crate::error::Error;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        Self(dir)
    }

    fn read(&self, value: &Value) -> Result<Config> {
        let process = ProcessArguments { args: vec!["sh".into()], ..ProcessArguments::default() };
        let file = self.0.path().join("container.json");
        from_json(value.to_string().as_bytes(), &file, &process).map(|(_, config)| config)
    }
}

fn read(value: &Value) -> Result<Config> {
    Place::new().read(value)
}

/// As libcontainer wrote one out: every field, most of them empty.
fn whole() -> Value {
    serde_json::from_str(include_str!("whole.json")).unwrap()
}

#[test]
fn a_whole_configuration_is_read() {
    let config = read(&whole()).unwrap();
    assert!(config.no_pivot && config.no_new_keyring && config.readonly);
    assert_eq!(config.propagation, Some(Propagation::Slave { recursive: true }));
    assert_eq!(config.mounts[0].kind, MountKind::Filesystem("proc".into()));
    assert_eq!(config.mounts[1].kind, MountKind::Bind { recursive: true });
    assert_eq!(config.mounts[2].data, "mode=755");
    let fuse = config.devices.iter().find(|device| device.path == Path::new("/dev/fuse")).unwrap();
    assert_eq!((fuse.major, fuse.minor, fuse.uid, fuse.gid), (10, 229, 3, 4));
    assert_eq!(config.hostname.as_deref(), Some("web"));
    assert!(config.creates(NamespaceKind::Pid) && !config.creates(NamespaceKind::Network));
    let own = config.process.capabilities.unwrap();
    for set in [own.bounding, own.effective, own.inheritable, own.permitted, own.ambient] {
        assert_eq!(set.bits(), 1 << 0 | 1 << 5, "CAP_CHOWN and CAP_KILL, in all five sets");
    }
    assert_eq!(config.cgroup_path.as_deref(), Some(Path::new("/floe/web")));
    assert_eq!(config.resources.memory.limit, Some(64 << 20));
    assert_eq!(config.resources.pids, Some(64));
    assert_eq!(config.resources.cpu.shares, Some(512));
    assert_eq!(config.process.rlimits[0].kind, RlimitKind::Nofile);
    assert_eq!((config.process.rlimits[0].soft, config.process.rlimits[0].hard), (512, 1024));
    assert_eq!(config.process.oom_score_adj, Some(10));
    assert!(config.process.no_new_privileges);
    assert_eq!(config.masked_paths, [Path::new("/proc/kcore")]);
    assert_eq!(config.sysctl["net.ipv4.ip_forward"], "1");
    assert_eq!(config.hooks.prestart[0].timeout, Some(std::time::Duration::from_millis(1500)));
    assert_eq!(config.annotations["color"], "blue=green");
}

#[test]
fn what_oci_has_no_words_for_is_set() {
    let mut spec = whole();
    spec["pivot_dir"] = json!("/mnt/pivot");
    spec["mounts"][1]["relabel"] = json!("Z");
    spec["Hooks"]["prestart"][0]["dir"] = json!("/srv");
    let config = read(&spec).unwrap();
    assert_eq!(config.pivot_dir.as_deref(), Some(Path::new("/mnt/pivot")));
    assert_eq!(config.mounts[1].relabel, Some(crate::config::Relabel::Private));
    assert_eq!(config.hooks.prestart[0].dir.as_deref(), Some(Path::new("/srv")));
    for (place, value, key) in [
        ("/pivot_dir", json!("/a/../b"), "pivot_dir"),
        ("/mounts/1/relabel", json!("x"), "mounts[1].relabel"),
        ("/mounts/0/relabel", json!("z"), "mounts[0].relabel"),
        ("/Hooks/prestart/0/dir", json!("here"), "Hooks.prestart[0].dir"),
    ] {
        let mut wrong = spec.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        let error = read(&wrong).unwrap_err();
        assert!(matches!(&error, Error::BadConfig { key: named, .. } if named == key), "{place}: {error}");
    }
}

#[test]
fn what_is_wrong_is_named_by_its_native_key() {
    let cases = [
        ("/rootfs", json!(""), "rootfs"),
        ("/rootfs", json!(7), "rootfs"),
        ("/namespaces/1/type", json!("NEWTHING"), "namespaces[1].type"),
        ("/rlimits/0/type", json!(99), "rlimits[0].type"),
        ("/rlimits/0/hard", json!("many"), "rlimits[0].hard"),
        ("/capabilities/1", json!("CAP_FLY"), "capabilities"),
        ("/mounts/1/flags", json!(-1), "mounts[1].flags"),
        ("/mounts/1/propagation_flags/0", json!(3), "mounts[1].propagation_flags[0]"),
        ("/mounts/0/destination", json!("/a/../b"), "mounts[0].destination"),
        ("/rootPropagation", json!(5), "rootPropagation"),
        ("/devices/0/type", json!(120), "devices[0].type"),
        ("/cgroups/freezer", json!("FROZEN"), "cgroups.freezer"),
        ("/cgroups/parent", json!("../.."), "cgroups.path"),
        ("/cgroups/memory", json!("much"), "cgroups.memory"),
        ("/labels/0", json!("blue"), "labels[0]"),
        ("/Hooks/prestart/0/timeout", json!(-1), "Hooks.prestart[0].timeout"),
        ("/Hooks/prestart/0/path", json!("true"), "Hooks.prestart[0].path"),
        ("/sysctl", json!({"kernel.panic": "1"}), "sysctl"),
    ];
    for (pointer, value, key) in cases {
        let mut spec = whole();
        *spec.pointer_mut(pointer).unwrap() = value.clone();
        let error = read(&spec).map(drop).unwrap_err();
        let named = match &error {
            Error::BadConfig { key, .. } | Error::Unsupported { key, .. } => key.clone(),
            other => panic!("{pointer} = {value}: {other}"),
        };
        assert!(named.starts_with(key), "{pointer} = {value}: {named}: {error}");
    }
}

#[test]
fn what_nobody_knows_is_refused_unless_it_says_nothing() {
    for (place, key) in [
        ("", "seccompp"),
        ("/cgroups", "cgroups.seccompp"),
        ("/mounts/0", "mounts[0].seccompp"),
        ("/Hooks", "Hooks.seccompp"),
        ("/devices/0", "devices[0].seccompp"),
        ("/namespaces/0", "namespaces[0].seccompp"),
    ] {
        let mut spec = whole();
        spec.pointer_mut(place).unwrap()["seccompp"] = json!({"a": 1});
        let error = read(&spec).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { key: named, .. } if named == key), "{place}: {error}");
        spec.pointer_mut(place).unwrap()["seccompp"] = json!({"a": null, "b": [], "c": false});
        read(&spec).unwrap();
    }
}

#[test]
fn the_process_is_the_callers_before_the_files() {
    let place = Place::new();
    let mut spec = whole();
    spec["process"] =
        json!({"args": ["one"], "env": ["A=1", "B=1"], "cwd": "/srv", "user": {"uid": 5, "gid": 6}});
    let file = place.0.path().join("container.json");
    let read = |process: &ProcessArguments| {
        from_json(spec.to_string().as_bytes(), &file, process).unwrap().1.process
    };
    let own = read(&ProcessArguments::default());
    assert_eq!((own.args, own.user.uid), (vec!["one".to_owned()], 5));
    assert_eq!(own.cwd, Path::new("/srv"));
    let given = read(&ProcessArguments {
        args: vec!["two".into()],
        env: vec!["B=2".into()],
        cwd: Some("/tmp".into()),
        user: Some("7:8".into()),
        terminal: true,
    });
    assert_eq!(given.args, ["two"]);
    assert!(given.env.contains(&"A=1".to_owned()) && given.env.contains(&"B=2".to_owned()));
    assert!(!given.env.contains(&"B=1".to_owned()) && given.env[0].starts_with("PATH="));
    assert_eq!((given.user.uid, given.user.gid, given.terminal), (7, 8, true));
    assert_eq!(given.cwd, Path::new("/tmp"));
}

#[test]
fn the_two_forms_are_told_apart() {
    assert!(is_native(whole().to_string().as_bytes()));
    assert!(is_native(br#"{"Rootfs": "/x"}"#));
    assert!(!is_native(br#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}}"#));
    assert!(!is_native(b"[]") && !is_native(b"{}"));
}

#[test]
fn memory_is_looked_at_before_it_is_limited() {
    let checks = |spec: &Value| read(spec).unwrap().resources.memory.check_before_update;
    let mut spec = whole();
    assert!(!checks(&spec));
    spec["cgroups"]["memory_check_before_update"] = json!(true);
    assert!(checks(&spec));
}

#[test]
fn what_shows_by_itself_is_passed_over() {
    let place = Place::new();
    let plain = place.read(&whole()).unwrap();
    for key in ["rootless", "rootless_euid", "rootless_cgroups"] {
        let mut spec = whole();
        spec[key] = json!(true);
        assert_eq!(place.read(&spec).unwrap(), plain, "{key}");
    }
    let mut spec = whole();
    spec["cgroups"]["rootless"] = json!(true);
    spec["version"] = json!("something else");
    assert_eq!(place.read(&spec).unwrap(), plain);
}

#[test]
fn the_driver_of_systemd_makes_a_scope_of_its_parts() {
    let read = |cgroups: Value| {
        let mut spec = whole();
        spec["cgroups"] = cgroups;
        read(&spec).map(|config| (config.systemd_cgroup, config.cgroup_path))
    };
    let scope = |path: &str| (true, Some(std::path::PathBuf::from(path)));
    let parts = json!({"systemd": true, "parent": "machine.slice", "scope_prefix": "floe", "name": "web"});
    assert_eq!(read(parts).unwrap(), scope("machine.slice:floe:web"));
    assert_eq!(read(json!({"systemd": true, "name": "web"})).unwrap(), scope("::web"));
    assert_eq!(read(json!({"systemd": true})).unwrap(), (true, None));
    assert_eq!(read(json!({"systemd": false, "name": "web"})).unwrap(), (false, Some("/web".into())));
    for (cgroups, key) in [
        (json!({"systemd": true, "path": "/web"}), "cgroups.path"),
        (json!({"systemd": true, "parent": "machine.slice"}), "cgroups.name"),
        (json!({"Paths": {"memory": "/sys/fs/cgroup/memory/web"}}), "cgroups.paths"),
    ] {
        match read(cgroups).unwrap_err() {
            Error::BadConfig { key: named, .. } | Error::Unsupported { key: named, .. } => {
                assert_eq!(named, key)
            }
            other => panic!("{key}: {other}"),
        }
    }
}
