//! Containers in a user namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[
    ("ids_are_mapped", ids_are_mapped),
    ("everything_is_mounted_in_a_user_namespace", everything_is_mounted_in_a_user_namespace),
    ("devices_are_made_or_bound_in_a_user_namespace", devices_are_made_or_bound_in_a_user_namespace),
    ("another_user_inside_is_another_one_outside", another_user_inside_is_another_one_outside),
    ("limits_are_set_in_a_user_namespace", limits_are_set_in_a_user_namespace),
    ("a_user_that_is_not_mapped_is_refused", a_user_that_is_not_mapped_is_refused),
    ("a_process_joins_a_user_namespace", a_process_joins_a_user_namespace),
    (
        "a_network_of_the_host_is_joined_from_a_user_namespace",
        a_network_of_the_host_is_joined_from_a_user_namespace,
    ),
    ("maps_that_the_kernel_refuses_are_shown", maps_that_the_kernel_refuses_are_shown),
];

fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::with_script(script);
    bundle.map_ids();
    bundle
}

fn ids_are_mapped() {
    let bundle = bundle(
        "id -u; cat /proc/self/uid_map; touch /out/mine; stat -c %u / /out/mine; cat /proc/self/status; echo ready; sleep 20",
    );
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let log = running.log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "0");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(lines[2..4], ["0", "0"]);
    assert!(running.proc("status").contains("Uid:\t100000\t100000\t100000\t100000"), "as seen from the host");
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(bundle.out().join("mine")).unwrap()),
        100_000
    );
}

fn everything_is_mounted_in_a_user_namespace() {
    let log = bundle(
        "echo x > /dev/null && head -c 3 /dev/zero | wc -c; ls /dev/pts; ls /sys | wc -l; cat /proc/keys; ls /sys/firmware | wc -l; \
         touch /proc/sys/kernel/hostname 2>/dev/null; ip -o addr show lo | wc -l; stat -c %t:%T /dev/null; cat /proc/self/mountinfo",
    );
    let mut log = log;
    log.applet("head");
    let text = log.run();
    assert!(text.starts_with("3\nptmx\n"), "{text}");
    assert!(text.contains("\n1:3\n"), "{text}");
    for place in ["/dev/mqueue", "/dev/shm", "/sys/fs/cgroup", "/dev/tty"] {
        assert!(text.contains(&format!(" {place} ")), "{place}: {text}");
    }
}

fn devices_are_made_or_bound_in_a_user_namespace() {
    let mut bundle = bundle(
        "stat -c '%F %a %u' /dev/pipe; stat -c %t:%T /dev/elsewhere; head -c 2 /dev/elsewhere | wc -c",
    );
    bundle.applet("head");
    bundle.spec["linux"]["devices"] = json!([
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 9},
        // By its number: the host has it under another name.
        {"path": "/dev/elsewhere", "type": "c", "major": 1, "minor": 5},
    ]);
    if !std::path::Path::new("/dev/char/1:5").exists() {
        // Without udev there is no such list, and only the host's own names can be bound.
        let error = bundle.refused();
        assert!(error.contains("/dev/elsewhere") && error.contains("linux.devices"), "{error}");
        bundle.spec["linux"]["devices"][1]["path"] = json!("/dev/zero");
        bundle.spec["process"]["args"][2] =
            json!(bundle.spec["process"]["args"][2].as_str().unwrap().replace("elsewhere", "zero"));
    }
    assert_eq!(bundle.run(), "fifo 640 9\n1:5\n2\n");
}

fn another_user_inside_is_another_one_outside() {
    let mut bundle = bundle("id -u; id -g; id -G; touch /out/mine; cat /proc/self/status");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [2000]});
    let log = bundle.run();
    assert!(log.starts_with("1000\n1000\n1000 2000\n"), "{log}");
    assert!(log.contains("CapEff:\t0000000000000000"), "{log}");
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(bundle.out().join("mine")).unwrap()),
        101_000
    );
}

fn limits_are_set_in_a_user_namespace() {
    let mut bundle = bundle("cat /proc/self/limits /proc/self/oom_score_adj");
    bundle.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]);
    bundle.spec["process"]["oomScoreAdj"] = json!(100);
    let log = bundle.run();
    let line = log.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["77", "99"]);
    assert!(log.ends_with("100\n"), "{log}");
}

fn a_user_that_is_not_mapped_is_refused() {
    let mut bundle = bundle("id");
    bundle.spec["process"]["user"] = json!({"uid": 70_000, "gid": 0});
    let error = bundle.refused();
    assert!(error.contains("uid 70000 is not mapped"), "{error}");
}

fn a_process_joins_a_user_namespace() {
    let bundle = bundle("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let (status, log) =
        running.exec("id -u; readlink /proc/self/ns/user; readlink /proc/1/ns/user; ls /; touch /out/joined");
    assert_eq!(status, 0, "{log}");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "0");
    assert_eq!(lines[1], lines[2]);
    assert_eq!(lines[3], "bin");
    let (status, log) =
        running.exec_as("id -u; id -g", |process| (process.user.uid, process.user.gid) = (1000, 1000));
    assert_eq!((status, log.as_str()), (0, "1000\n1000\n"));
}

/// The network namespace belongs to the host's user namespace: it can be joined with the caller's rights only.
fn a_network_of_the_host_is_joined_from_a_user_namespace() {
    let mut bundle = bundle("readlink /proc/self/ns/net");
    let network = Network::new();
    bundle.share("network");
    // A sysfs of a network that isn't its own may not be mounted.
    bundle.unmount("/sys/fs/cgroup");
    bundle.unmount("/sys");
    bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "network", "path": network.path()}));
    assert_eq!(bundle.run().trim(), fs::read_link(network.path()).unwrap().to_str().unwrap());
}

/// A network namespace that lives as long as a process in it.
struct Network(std::process::Child);

impl Network {
    fn new() -> Self {
        use std::os::unix::process::CommandExt;
        let mut command = std::process::Command::new("unshare");
        let child = command.args(["--net", "sleep", "60"]).process_group(0).spawn().unwrap();
        let network = Self(child);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        crate::support::eventually("a new network", || {
            fs::read_link(network.path()).is_ok_and(|other| other != own)
        });
        network
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn maps_that_the_kernel_refuses_are_shown() {
    let mut bundle = bundle("id");
    let overlapping = json!([
        {"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 5, "hostID": 200_000, "size": 10},
    ]);
    bundle.spec["linux"]["uidMappings"] = overlapping;
    let error = bundle.refused();
    assert!(error.contains("uid_map") && error.contains("5 200000 10"), "{error}");
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
