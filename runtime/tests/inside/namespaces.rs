//! All eight kinds of namespaces, new ones and those of others, and the clocks of a new one.

use std::fs;

use serde_json::json;

use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[
    ("all_eight_kinds_are_new", all_eight_kinds_are_new),
    ("all_eight_kinds_are_those_of_others", all_eight_kinds_are_those_of_others),
    ("a_group_that_is_not_mapped_owns_no_terminals", a_group_that_is_not_mapped_owns_no_terminals),
    ("mounts_are_made_in_a_mount_namespace_of_others", mounts_are_made_in_a_mount_namespace_of_others),
    ("a_namespace_of_another_kind_is_refused", a_namespace_of_another_kind_is_refused),
    ("what_no_namespace_can_be_is_not_waited_for", what_no_namespace_can_be_is_not_waited_for),
    ("clocks_are_ahead", clocks_are_ahead),
    ("clocks_are_ahead_in_a_user_namespace", clocks_are_ahead_in_a_user_namespace),
    ("offsets_that_the_kernel_refuses_are_shown", offsets_that_the_kernel_refuses_are_shown),
    ("names_and_parameters_of_a_namespace_are_set", names_and_parameters_of_a_namespace_are_set),
    ("groups_and_the_mask_are_the_configured_ones", groups_and_the_mask_are_the_configured_ones),
];

/// Names of the specification and of /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

/// A script that prints which namespaces it is in, in the order of [`KINDS`].
fn list() -> String {
    KINDS.map(|(_, name)| format!("readlink /proc/self/ns/{name};")).concat()
}

fn in_eight(script: &str) -> Bundle {
    let mut bundle = Bundle::with_script(script);
    bundle.map_ids();
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    bundle
}

fn all_eight_kinds_are_new() {
    let log = in_eight(&list()).run();
    for (line, (_, name)) in log.lines().zip(KINDS) {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(
            line.starts_with(&format!("{name}:[")) && own.to_str() != Some(line),
            "{line} against {own:?}"
        );
    }
    assert_eq!(log.lines().count(), 8);
}

/// The user namespace of the first one is what gives the right to join its others.
fn all_eight_kinds_are_those_of_others() {
    let first = in_eight("echo ready; sleep 20");
    let first_running = first.create().unwrap();
    first_running.start_until_ready();
    let pid = first_running.pid();
    let mut second = in_eight(&format!("{} ps; cat /proc/self/uid_map", list()));
    for (kind, name) in KINDS {
        if kind != "mount" {
            second.join(kind, format!("/proc/{pid}/ns/{name}"));
        }
    }
    second.spec["linux"].as_object_mut().unwrap().remove("uidMappings");
    second.spec["linux"].as_object_mut().unwrap().remove("gidMappings");
    let log = second.run();
    for (line, (kind, name)) in log.lines().zip(KINDS) {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(theirs.to_str() == Some(line), kind != "mount", "{line} against {theirs:?}");
    }
    assert!(log.contains("sleep 20") && log.contains("100000"), "{log}");
}

/// devpts is to belong to group 5, which neither this container nor the one that joins it has.
fn a_group_that_is_not_mapped_owns_no_terminals() {
    let mut first = in_eight("grep ' /dev/pts ' /proc/self/mountinfo; echo ready; sleep 20");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 3}]);
    first.spec["linux"]["gidMappings"] = map;
    let first_running = first.create().unwrap();
    first_running.start_until_ready();
    let mut second = in_eight("cat /proc/self/mountinfo");
    for (kind, name) in [("user", "user"), ("network", "net")] {
        second.join(kind, format!("/proc/{}/ns/{name}", first_running.pid()));
    }
    second.spec["linux"].as_object_mut().unwrap().remove("uidMappings");
    second.spec["linux"].as_object_mut().unwrap().remove("gidMappings");
    for log in [first_running.log(), second.run()] {
        let (_, devpts) = crate::support::mount_at(&log, "/dev/pts").unwrap();
        assert!(!devpts.contains("gid="), "{devpts}");
    }
}

fn mounts_are_made_in_a_mount_namespace_of_others() {
    let holder = in_namespace_of_another("mnt");
    let mut bundle = Bundle::with_script("readlink /proc/self/ns/mnt; ls /; cat /proc/self/mountinfo");
    bundle.join("mount", holder.path());
    let log = bundle.run();
    assert!(log.starts_with(fs::read_link(holder.path()).unwrap().to_str().unwrap()), "{log}");
    assert!(log.contains("\nbin\ndev\n") && log.contains(" /dev/shm "), "{log}");
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(bundle.path().to_str().unwrap()), "{host}");
}

fn a_namespace_of_another_kind_is_refused() {
    for (kind, name) in KINDS {
        let other = if name == "uts" { "ipc" } else { "uts" };
        let mut bundle = in_eight("true");
        if kind == "user" {
            bundle.spec["linux"].as_object_mut().unwrap().remove("uidMappings");
            bundle.spec["linux"].as_object_mut().unwrap().remove("gidMappings");
        }
        // One of another kind than the process has already: its own would be left as it is.
        let path = in_namespace_of_another(other);
        bundle.join(kind, path.path());
        let error = bundle.refused();
        assert!(
            error.contains(&format!("linux.namespaces: {} is no {kind} namespace", path.path())),
            "{error}"
        );
    }
}

/// A process with a namespace of its own.
struct Holder(std::process::Child, &'static str);

fn in_namespace_of_another(name: &'static str) -> Holder {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("unshare");
    let option = if name == "mnt" { "--mount".to_owned() } else { format!("--{name}") };
    let child = command.args([&option, "sleep", "60"]).process_group(0).spawn().unwrap();
    let holder = Holder(child, name);
    let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    crate::support::eventually("a new namespace", || {
        fs::read_link(holder.path()).is_ok_and(|other| other != own)
    });
    holder
}

impl Holder {
    fn path(&self) -> String {
        format!("/proc/{}/ns/{}", self.0.id(), self.1)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn what_no_namespace_can_be_is_not_waited_for() {
    let mut bundle = Bundle::new();
    let fifo = bundle.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle.join("network", &fifo);
    let error = bundle.refused();
    assert!(error.contains("fifo is no network namespace"), "{error}");
}

/// Seconds since the boot.
fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn check_clocks(bundle: &mut Bundle) {
    bundle.spec["linux"]["timeOffsets"] =
        json!({"boottime": {"secs": 86_400, "nanosecs": 5}, "monotonic": {"secs": 3600}});
    bundle.script("cat /proc/uptime; cat /proc/self/timens_offsets; echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let log = running.log();
    let host = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    let ahead = uptime(&log) - host;
    assert!((86_390.0..86_401.0).contains(&ahead), "{ahead}: {log}");
    let fields: Vec<&str> = log.split_whitespace().skip(2).take(6).collect();
    assert_eq!(fields, ["monotonic", "3600", "0", "boottime", "86400", "5"]);
    let (status, joined) = running.exec("cat /proc/uptime");
    assert_eq!(status, 0);
    assert!(uptime(&joined) - host > 86_390.0, "who joins has the same clocks: {joined}");
}

fn clocks_are_ahead() {
    let mut bundle = Bundle::new();
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    check_clocks(&mut bundle);
}

fn clocks_are_ahead_in_a_user_namespace() {
    check_clocks(&mut in_eight(""));
}

fn offsets_that_the_kernel_refuses_are_shown() {
    let mut bundle = in_eight("true");
    bundle.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": i64::MIN}});
    let error = bundle.refused();
    assert!(error.contains("boottime -9223372036854775808 0"), "{error}");
}

fn names_and_parameters_of_a_namespace_are_set() {
    let mut bundle = Bundle::with_script(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/conf/lo/forwarding \
         /proc/sys/fs/mqueue/msg_max",
    );
    let host = || fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let before = (host(), fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
    bundle.spec["hostname"] = json!("a-host");
    bundle.spec["domainname"] = json!("a.domain");
    bundle.spec["linux"]["sysctl"] =
        json!({"kernel.shm_rmid_forced": "1", "net/ipv4/conf/lo/forwarding": "1", "fs.mqueue.msg_max": "17"});
    assert_eq!(bundle.run(), "a-host\na.domain\n1\n1\n17\n");
    assert_eq!(before, (host(), fs::read_to_string("/proc/sys/kernel/hostname").unwrap()));
}

fn groups_and_the_mask_are_the_configured_ones() {
    let mut bundle = Bundle::with_script(
        "id -u; id -g; id -G; umask; touch /out/made; stat -c %a /out/made; grep NoNewPrivs /proc/self/status",
    );
    bundle.spec["process"]["user"] =
        json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 4_000_000_000u32], "umask": 0o027});
    assert_eq!(bundle.run(), "1000\n1001\n1001 5 4000000000\n0027\n640\nNoNewPrivs:\t1\n");
}
