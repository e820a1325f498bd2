//! The configuration that `floe spec` writes: a shell in a folder `rootfs`, as careful as OCI runtimes make it.

use serde_json::{Value, json};

/// A `config.json` to start from. With `rootless`, the ids of the user who will run it: the container gets a user
/// namespace in which that user is root, and nothing that only the host's root could set up.
#[must_use]
pub fn template(rootless: Option<(u32, u32)>) -> Value {
    let kept = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let mut spec = json!({
        "ociVersion": "1.2.1",
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": kept, "effective": kept, "permitted": kept },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "floe",
        "mounts": mounts(rootless.is_some()),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    if let Some((uid, gid)) = rootless {
        make_rootless(&mut spec["linux"], uid, gid);
    }
    spec
}

fn mounts(rootless: bool) -> Value {
    let mut devpts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        // Group 5 (tty) isn't mapped in a user namespace with one id.
        devpts.push("gid=5");
    }
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let sys = if rootless {
        // A new sysfs needs the host's rights over the network namespace; what the host has is bound instead.
        mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &devpts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
    ];
    if !rootless {
        mounts.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ));
    }
    Value::Array(mounts)
}

fn make_rootless(linux: &mut Value, uid: u32, gid: u32) {
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        // Without a network namespace of its own it uses the host's network, since nobody could connect another.
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NamespaceKind, oci};

    #[test]
    fn what_is_written_is_understood() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::create_dir(bundle.path().join("rootfs")).unwrap();
        for rootless in [None, Some((1000, 1000))] {
            let text = template(rootless).to_string();
            let config =
                oci::from_json(text.as_bytes(), &bundle.path().join("config.json"), bundle.path()).unwrap();
            assert_eq!(config.process.args, ["sh"]);
            assert_eq!(config.creates(NamespaceKind::User), rootless.is_some());
            assert_eq!(config.host_uid(0), Some(rootless.map_or(0, |(uid, _)| uid)));
        }
    }
}
