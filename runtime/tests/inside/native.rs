//! A native configuration: each of its fields, under its JSON name, by what a process in the container sees of it.

mod root;

use std::fs;
use std::path::Path;

use floe_runtime::config::native::ProcessArguments;
use floe_runtime::{Blueprint, CreateOptions, Error};
use serde_json::{Value, json};

use crate::support::{Bundle, Running, next_id};

pub const TESTS: &[(&str, fn())] = &[
    ("native_rootfs_is_the_root", root::rootfs),
    ("native_readonlyfs_leaves_mounts_writable", root::readonlyfs),
    ("native_root_propagation_lets_mounts_through", root::root_propagation),
    ("native_no_pivot_root_leaves_no_way_to_the_host", root::no_pivot_root),
    ("native_mounts_have_their_flags_and_data", root::mounts),
    ("native_mounts_lose_the_flags_that_are_cleared", root::cleared_flags),
    ("native_mounts_are_copied_up", root::copy_up),
    ("native_mounts_have_commands_around_them", root::mount_commands),
    ("native_devices_are_made", devices),
    ("native_device_rules_are_the_cgroups", device_rules),
    ("native_denied_devices_are_the_rest", denied_devices),
    ("native_hostname_is_set", hostname),
    ("native_namespaces_are_new_or_joined", namespaces),
    ("native_capabilities_fill_all_sets_or_each", capabilities),
    ("native_networks_and_routes_are_seen_inside", networks),
    ("native_cgroups_limit_it", cgroups),
    ("native_rlimits_are_set", rlimits),
    ("native_oom_score_adj_is_set", oom_score),
    ("native_id_mappings_are_written", mappings),
    ("native_mask_paths_hide", root::mask_paths),
    ("native_readonly_paths_cannot_be_written", root::readonly_paths),
    ("native_sysctl_is_set", sysctl),
    ("native_no_new_privileges_is_set", no_new_privileges),
    ("native_hooks_run_with_their_time_limit", hooks),
    ("native_labels_are_annotations", labels),
    ("native_no_new_keyring_keeps_the_callers", no_new_keyring),
    ("native_additional_groups_and_umask_are_the_processes", groups),
    ("native_pivot_dir_is_where_the_old_root_was", root::pivot_dir),
    ("native_parent_death_signal_is_kept_for_the_process", parent_death_signal),
    ("native_seccomp_answers_calls", seccomp),
    ("native_labels_without_a_module_are_refused", security_labels),
    ("native_network_devices_and_gateways_are_checked", bad_networks),
];

/// What each test begins with.
fn base(bundle: &Bundle) -> Value {
    let out = bundle.out();
    json!({
        "rootfs": "rootfs",
        "namespaces": [{"type": "NEWNS"}, {"type": "NEWUTS"}, {"type": "NEWIPC"}, {"type": "NEWPID"}, {"type": "NEWNET"},
            {"type": "NEWCGROUP"}],
        "mounts": [
            {"source": "proc", "destination": "/proc", "device": "proc", "flags": 14},
            {"source": "tmpfs", "destination": "/dev", "device": "tmpfs", "flags": 2, "data": "mode=755"},
            {"source": "sysfs", "destination": "/sys", "device": "sysfs", "flags": 15},
            {"source": out, "destination": "/out", "device": "bind", "flags": 4096}
        ],
        "capabilities": ["CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_SYS_ADMIN"]
    })
}

fn create(bundle: &Bundle, config: &Value, process: &ProcessArguments) -> Result<Running, Error> {
    let file = bundle.path().join("container.json");
    fs::write(&file, config.to_string()).unwrap();
    let blueprint = Blueprint::native(&file, process)?;
    let container = bundle.store().create_of(&next_id(), || Ok(blueprint), CreateOptions::default())?;
    Ok(Running::of(container, bundle.path()))
}

fn script(text: &str) -> ProcessArguments {
    let args = ["sh".to_owned(), "-c".to_owned(), format!("exec >/out/log 2>&1\n{text}")];
    ProcessArguments { args: args.to_vec(), ..ProcessArguments::default() }
}

/// Runs a script in a container of the changed configuration to its end, and returns what it printed.
fn seen(text: &str, change: impl FnOnce(&mut Value)) -> String {
    seen_in(&Bundle::new(), text, change)
}

fn seen_in(bundle: &Bundle, text: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut config = base(bundle);
    change(&mut config);
    let running = create(bundle, &config, &script(text)).unwrap();
    running.container.start().unwrap();
    running.wait();
    bundle.log()
}

fn add(config: &mut Value, list: &str, entry: Value) {
    config[list].as_array_mut().unwrap().push(entry);
}

fn devices() {
    let log = seen("stat -c '%F %a %u %g %t,%T' /dev/odd /dev/null", |config| {
        config["devices"] = json!([{"type": 99, "path": "/dev/odd", "major": 1, "minor": 5, "permissions": "rwm",
            "file_mode": 416, "uid": 3, "gid": 4}]);
    });
    assert_eq!(log, "character special file 640 3 4 1,5\ncharacter special file 666 0 0 1,3\n");
}

fn device_rules() {
    let rules = |config: &mut Value| {
        config["cgroups"] = json!({"allow_all_devices": false, "allowed_devices": [
            {"type": 99, "major": 1, "minor": 3, "permissions": "rwm"}, {"type": "c", "major": 5, "minor": -1,
            "permissions": "rwm"}]});
        config["devices"] =
            json!([{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "file_mode": 438}]);
    };
    // Whether this kernel has such a device or not: it is the cgroup that refuses.
    let look = "echo x > /dev/null && echo null; cat /dev/fuse";
    let log = seen(look, rules);
    let refused = "can't open '/dev/fuse': Operation not permitted";
    assert!(log.contains("null\n") && log.contains(refused), "{log}");
    let allowed = seen(look, |config| {
        rules(config);
        add(
            &mut config["cgroups"],
            "allowed_devices",
            json!({"type": "c", "major": 10, "minor": 229, "permissions": "r"}),
        );
    });
    assert!(!allowed.contains(refused), "{allowed}");
}

fn denied_devices() {
    let rules = |denied: Value| {
        move |config: &mut Value| {
            config["cgroups"] = json!({"allow_all_devices": true, "denied_devices": denied});
            config["devices"] = json!([{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "file_mode": 438},
                {"type": "c", "path": "/dev/kmsg", "major": 1, "minor": 11, "file_mode": 438}]);
        }
    };
    let look = "cat /dev/fuse; echo >> /dev/kmsg";
    let refused = |name: &str| format!("{name}': Operation not permitted");
    let fuse = json!({"type": "c", "major": 10, "minor": 229, "permissions": "rwm"});
    let log = seen(look, rules(json!([fuse])));
    assert!(log.contains(&refused("/dev/fuse")), "{log}");
    let log = seen(look, rules(json!([])));
    assert!(!log.contains(&refused("/dev/fuse")), "{log}");
    // Where none is allowed, what is denied beside that says nothing.
    let log = seen("echo x > /dev/null && echo null; cat /dev/fuse", |config| {
        rules(json!([{"type": "c", "major": 1, "minor": 3, "permissions": "rwm"}]))(config);
        config["cgroups"]["allow_all_devices"] = json!(false);
    });
    assert!(log.contains("null\n") && log.contains(&refused("/dev/fuse")), "{log}");
}

fn hostname() {
    assert_eq!(seen("hostname", |config| config["hostname"] = json!("kahn")), "kahn\n");
}

fn namespaces() {
    let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let look = "for kind in net uts ipc pid mnt cgroup; do readlink /proc/self/ns/$kind; done";
    let log = seen(look, |config| {
        config["namespaces"] = json!([{"type": "NEWNS", "path": ""}, {"type": "NEWPID"}, {"type": "NEWUTS"},
            {"type": "NEWNET", "path": "/proc/self/ns/net"}]);
    });
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], own("net"), "joined by its path");
    assert_ne!(lines[1], own("uts"));
    assert_eq!(lines[2], own("ipc"), "not named, so shared");
    assert_ne!(lines[3], own("pid"));
    assert_ne!(lines[4], own("mnt"));
    assert_eq!(lines[5], own("cgroup"));
}

fn capabilities() {
    let look = "grep ^Cap /proc/self/status";
    let all = seen(look, |config| config["capabilities"] = json!(["CAP_CHOWN", "CAP_KILL"]));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(all.contains(&format!("{set}:\t0000000000000021\n")), "{set}: {all}");
    }
    let each = seen(look, |config| {
        config["capabilities"] = json!({"Bounding": ["CAP_CHOWN", "CAP_KILL"], "Effective": ["CAP_KILL"],
            "Inheritable": [], "Permitted": ["CAP_KILL"], "Ambient": null});
    });
    assert!(
        each.contains("CapBnd:\t0000000000000021\n") && each.contains("CapAmb:\t0000000000000000\n"),
        "{each}"
    );
    let none = seen(look, |config| config["capabilities"] = json!([]));
    assert!(
        none.contains("CapEff:\t0000000000000000\n") && none.contains("CapBnd:\t0000000000000000\n"),
        "{none}"
    );
}

fn networks() {
    let look = "ip -o addr show lo; ip route show table all | grep 10.9";
    let log = seen(look, |config| {
        config["networks"] = json!([{"type": "loopback", "address": "10.9.0.1/24"}]);
        config["routes"] =
            json!([{"destination": "10.9.7.0/24", "source": "10.9.0.1", "interface_name": "lo"}]);
    });
    assert!(log.contains("inet 10.9.0.1/24") && log.contains("10.9.7.0/24"), "{log}");
}

fn cgroups() {
    let bundle = Bundle::new();
    let mut config = base(&bundle);
    let name = format!("floe-native-{}", std::process::id());
    config["cgroups"] = json!({"name": name, "parent": "floe-native", "memory": 64 << 20, "pids_limit": 3, "cpu_shares": 512});
    let process =
        script("cat /proc/self/cgroup; sleep 30 & sleep 30 & sleep 30 & sleep 30 & echo not limited");
    let running = create(&bundle, &config, &process).unwrap();
    let paths = running.container.cgroup().directories();
    assert!(paths.values().all(|path| path.ends_with(Path::new("floe-native").join(&name))), "{paths:?}");
    let read = |hierarchy: &str, file: &str| {
        let dir =
            paths.iter().find(|(name, _)| name.split(',').any(|one| one == hierarchy)).map(|(_, dir)| dir);
        fs::read_to_string(dir.unwrap_or_else(|| &paths[""]).join(file)).unwrap().trim().to_owned()
    };
    match paths.contains_key("memory") {
        true => assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string()),
        false => assert_eq!(read("", "memory.max"), (64 << 20).to_string()),
    }
    running.container.start().unwrap();
    running.wait();
    let log = bundle.log();
    assert!(log.contains("can't fork") && !log.contains("not limited"), "{log}");
    // The parent is left, as the container did not make it its own.
    running.container.delete(true).unwrap();
    for path in paths.values() {
        let _ = fs::remove_dir(path.parent().unwrap());
    }
}

fn rlimits() {
    let log = seen("ulimit -Sn; ulimit -Hn", |config| {
        config["rlimits"] = json!([{"type": 7, "hard": 512, "soft": 256}]);
    });
    assert_eq!(log, "256\n512\n");
}

fn oom_score() {
    assert_eq!(seen("cat /proc/self/oom_score_adj", |config| config["oom_score_adj"] = json!(321)), "321\n");
}

fn mappings() {
    let mut bundle = Bundle::new();
    bundle.map_ids();
    let log = seen_in(&bundle, "cat /proc/self/uid_map /proc/self/gid_map; id -u", |config| {
        add(config, "namespaces", json!({"type": "NEWUSER"}));
        let ids = json!([{"container_id": 0, "host_id": 100_000, "size": 65_536}]);
        (config["uid_mappings"], config["gid_mappings"]) = (ids.clone(), ids);
    });
    let words: Vec<&str> = log.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "100000", "65536", "0"], "{log}");
}

fn sysctl() {
    let log = seen("cat /proc/sys/net/ipv4/ip_forward", |config| {
        config["sysctl"] = json!({"net.ipv4.ip_forward": "1"})
    });
    assert_eq!(log, "1\n");
}

fn no_new_privileges() {
    let look = "grep NoNewPrivs /proc/self/status";
    assert_eq!(seen(look, |config| config["no_new_privileges"] = json!(true)), "NoNewPrivs:\t1\n");
    assert_eq!(seen(look, |_| {}), "NoNewPrivs:\t0\n");
}

fn hooks() {
    let bundle = Bundle::new();
    let out = bundle.out();
    let hook = |point: &str| {
        json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}/{point}; echo $A >> {0}/{point}",
        out.display())], "env": ["A=b"], "timeout": 5_000_000_000_i64}])
    };
    let all =
        json!({"prestart": hook("prestart"), "Poststart": hook("poststart"), "poststop": hook("poststop")});
    let mut config = base(&bundle);
    config["Hooks"] = all;
    let running = create(&bundle, &config, &script("true")).unwrap();
    running.container.start().unwrap();
    running.wait();
    running.container.delete(true).unwrap();
    for point in ["prestart", "poststart", "poststop"] {
        let text = fs::read_to_string(out.join(point)).unwrap_or_else(|_| panic!("{point} did not run"));
        assert!(text.contains("\"ociVersion\"") && text.ends_with("b\n"), "{point}: {text}");
    }
    // To the nanosecond: a tenth of a second is no whole second.
    let mut config = base(&bundle);
    config["Hooks"] =
        json!({"prestart": [{"path": "/bin/sleep", "args": ["sleep", "20"], "timeout": 100_000_000}]});
    let begun = std::time::Instant::now();
    let error = create(&bundle, &config, &script("true")).map(drop).unwrap_err();
    assert!(error.to_string().contains("prestart"), "{error}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

fn labels() {
    let bundle = Bundle::new();
    let mut config = base(&bundle);
    config["labels"] = json!(["color=blue=green", "size=4"]);
    let running = create(&bundle, &config, &script("true")).unwrap();
    let state = running.container.oci_state();
    assert_eq!(state["annotations"], json!({"color": "blue=green", "size": "4"}));
}

fn no_new_keyring() {
    let own = |kept: bool| {
        let bundle = Bundle::new();
        let mut config = base(&bundle);
        config["no_new_keyring"] = json!(kept);
        let running = create(&bundle, &config, &script("cat /proc/keys")).unwrap();
        let name = format!(" _ses.{}", running.container.id());
        running.container.start().unwrap();
        running.wait();
        bundle.log().contains(&name)
    };
    // A kernel without keyrings has no such file.
    assert_eq!(own(false), Path::new("/proc/keys").exists());
    assert!(!own(true));
}

fn parent_death_signal() {
    let bundle = Bundle::new();
    let mut config = base(&bundle);
    config["parent_death_signal"] = json!(nix::libc::SIGUSR1);
    let file = bundle.path().join("container.json");
    fs::write(&file, config.to_string()).unwrap();
    let blueprint = Blueprint::native(&file, &script("true")).unwrap();
    // What becomes of it when the parent dies is shown by parent_death_signal_is_sent.
    assert_eq!(blueprint.config.parent_death_signal, Some(nix::libc::SIGUSR1));
    config["parent_death_signal"] = json!(4711);
    let error = create(&bundle, &config, &script("true")).map(drop).unwrap_err();
    assert!(matches!(&error, Error::BadConfig { key, .. } if key == "parent_death_signal"), "{error}");
}

fn seccomp() {
    // 2 is "errno", 4 is "allow"; the comparison 1 is "equal".
    let filter = json!({"default_action": 4, "architectures": ["amd64", "arm64"], "syscalls": [
        {"name": "mkdir", "action": 2, "args": []}, {"name": "mkdirat", "action": 2, "args": []},
        {"name": "kill", "action": 2, "args": [{"index": 1, "value": 10, "value_two": 0, "op": 1}]}]});
    let look = "mkdir /tmp/x; kill -10 $$ || echo refused; kill -0 $$ && echo asked; grep ^Seccomp: /proc/self/status";
    let log = seen(look, |config| config["seccomp"] = filter);
    assert!(log.contains("can't create directory") && log.contains("refused\nasked\nSeccomp:\t2\n"), "{log}");
}

/// On a host that has none of these modules; one that has them is in `tests/vm`.
fn security_labels() {
    let bundle = Bundle::new();
    let apparmor = Path::new("/sys/module/apparmor/parameters/enabled").exists();
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    for (field, value, there) in [
        ("apparmor_profile", "floe-nowhere", apparmor),
        ("process_label", "system_u:system_r:container_t:s0", selinux),
        ("mount_label", "system_u:object_r:container_file_t:s0", selinux),
    ] {
        let mut config = base(&bundle);
        config[field] = json!(value);
        match create(&bundle, &config, &script("true")).map(drop) {
            Err(error) => assert!(
                error.to_string().contains(field) || error.to_string().contains(value),
                "{field}: {error}"
            ),
            Ok(()) => assert!(there, "{field} was passed over"),
        }
    }
}

fn bad_networks() {
    let bundle = Bundle::new();
    for (field, value) in [
        ("type", "carrier-pigeon"),
        ("address", "10.9.8.2"),
        ("gateway", "somewhere"),
        ("mac_address", "01"),
        ("name", "a/b"),
    ] {
        let mut config = base(&bundle);
        let veth = json!({"type": "veth", "name": "eth0", "address": "10.9.8.2/24"});
        config["networks"] = json!([{"type": "loopback"}, veth]);
        config["networks"][1][field] = json!(value);
        let wanted = format!("networks[1].{field}");
        let error = create(&bundle, &config, &script("true")).map(drop).unwrap_err();
        assert!(matches!(&error, Error::BadConfig { key, .. } if *key == wanted), "{wanted}: {error}");
    }
}

fn groups() {
    let bundle = Bundle::new();
    fs::write(bundle.rootfs().join("etc/group"), "root:x:0:\nwheel:x:10:\n").unwrap();
    let log = seen_in(&bundle, "id -G; umask; ", |config| {
        config["additional_groups"] = json!(["wheel", "77"]);
        config["umask"] = json!(0o27);
    });
    assert_eq!(log, "0 10 77\n0027\n");
}
