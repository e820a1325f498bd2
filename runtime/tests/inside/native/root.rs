//! What is mounted, hidden or kept from being written, and how the root is changed.

use std::fs;

use floe_runtime::Error;
use nix::mount::MsFlags;
use serde_json::json;

use super::{add, base, create, script, seen, seen_in};
use crate::support::{Bundle, Mounted};

pub fn rootfs() {
    let bundle = Bundle::new();
    fs::write(bundle.rootfs().join("here"), "").unwrap();
    let elsewhere = bundle.path().join("elsewhere");
    fs::rename(bundle.rootfs(), &elsewhere).unwrap();
    let log = seen_in(&bundle, "ls -d /here", |config| config["rootfs"] = json!(elsewhere));
    assert_eq!(log, "/here\n");
}

pub fn readonlyfs() {
    let look = "touch /new; touch /out/new && echo out; touch /dev/new && echo dev";
    let log = seen(look, |config| config["readonlyfs"] = json!(true));
    assert!(log.contains("Read-only file system") && log.ends_with("out\ndev\n"), "{log}");
}

pub fn root_propagation() {
    let of = |flags: i64| {
        let look =
            "grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo | grep -o shared: || echo none";
        seen(look, |config| config["rootPropagation"] = json!(flags))
    };
    // MS_PRIVATE | MS_REC, and MS_SHARED.
    assert_eq!(of(0x44000), "none\n");
    assert_eq!(of(1 << 20), "shared:\n");
}

pub fn no_pivot_root() {
    let look = "ls /; cd /; cd ..; pwd; ls -d /out; wc -l < /proc/self/mountinfo";
    let log = seen(look, |config| config["no_pivot_root"] = json!(true));
    assert!(log.contains("\nproc\n") && log.contains("\n/\n/out\n"), "{log}");
    assert!(!log.contains("boot") && !log.contains("usr"), "{log}");
}

pub fn mounts() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.path().join("data")).unwrap();
    let look = "grep -E ' /(tmp|data) ' /proc/self/mountinfo; touch /data/x";
    let log = seen_in(&bundle, look, |config| {
        // MS_NOSUID | MS_NODEV | MS_NOEXEC, and a bind that is recursive, read-only and slave.
        let tmp = json!({"source": "tmpfs", "destination": "/tmp", "device": "tmpfs", "flags": 14, "data": "size=64k,mode=700"});
        add(config, "mounts", tmp);
        let data = json!({"source": "data", "destination": "/data", "device": "bind", "flags": 0x5001,
            "propagation_flags": [0x84000]});
        add(config, "mounts", data);
    });
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].contains("nosuid,nodev,noexec") && lines[0].contains("size=64k,mode=700"), "{log}");
    assert!(lines[1].contains(" ro,") || lines[1].contains(" ro "), "{log}");
    assert!(lines[2].contains("Read-only file system"), "{log}");
}

pub fn cleared_flags() {
    let bundle = Bundle::new();
    let strict = bundle.path().join("strict");
    fs::create_dir(&strict).unwrap();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _strict = Mounted::of("tmpfs", &strict, flags);
    let log = seen_in(&bundle, "grep -E ' /(kept|loose) ' /proc/self/mountinfo", |config| {
        let bind = |place: &str, cleared: i64| {
            json!({"source": "strict", "destination": place, "device": "bind", "flags": 0x1000,
                "cleared_flags": cleared})
        };
        add(config, "mounts", bind("/kept", 0));
        // MS_NOEXEC: with one taken away it has the flags that it asks for, and no longer those of its source.
        add(config, "mounts", bind("/loose", 8));
    });
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].contains(" /kept rw,nosuid,nodev,noexec,relatime "), "{log}");
    assert!(lines[1].contains(" /loose rw,relatime "), "{log}");
}

pub fn copy_up() {
    let bundle = Bundle::new();
    fs::write(bundle.rootfs().join("etc/kept"), "yes").unwrap();
    let log = seen_in(
        &bundle,
        "cat /etc/kept; grep -c ' /etc ' /proc/self/mountinfo; touch /etc/new",
        |config| {
            let etc = json!({"source": "tmpfs", "destination": "/etc", "device": "tmpfs", "flags": 0, "extensions": 1});
            add(config, "mounts", etc);
        },
    );
    assert_eq!(log, "yes1\n");
    assert!(!bundle.rootfs().join("etc/new").exists());
}

pub fn mount_commands() {
    let bundle = Bundle::new();
    let (data, out) = (bundle.path().join("data"), bundle.out());
    let target = bundle.rootfs().join("data");
    fs::create_dir(&target).unwrap();
    let shell = |text: String| json!([{"path": "/bin/sh", "args": ["-c", text], "env": ["A=b"], "dir": "/"}]);
    let log = seen_in(&bundle, "cat /data/made", |config| {
        // The source is made by the one, on the host; the other sees it mounted, which the host never does.
        add(
            config,
            "mounts",
            json!({"source": data, "destination": "/data", "device": "bind", "flags": 4096,
            "premount_cmds": shell(format!("mkdir {0} && echo $A > {0}/made", data.display())),
            "postmount_cmds": shell(format!("cp {}/made {}/seen", target.display(), out.display()))}),
        );
    });
    assert_eq!(log, "b\n");
    assert_eq!(fs::read_to_string(out.join("seen")).unwrap(), "b\n");
    assert!(!target.join("made").exists());
    let mut config = base(&bundle);
    config["mounts"][0]["premount_cmds"] = shell("echo no such luck >&2; exit 3".to_owned());
    let error = create(&bundle, &config, &script("true")).map(drop).unwrap_err().to_string();
    assert!(error.contains("premount") && error.contains("no such luck"), "{error}");
}

pub fn mask_paths() {
    let bundle = Bundle::new();
    fs::write(bundle.rootfs().join("etc/secret"), "secret").unwrap();
    let look = "cat /etc/secret; ls /home; echo end";
    let log =
        seen_in(&bundle, look, |config| config["mask_paths"] = json!(["/etc/secret", "/home", "/nowhere"]));
    assert_eq!(log, "end\n");
}

pub fn readonly_paths() {
    let log =
        seen("touch /etc/x; touch /tmp/x && echo tmp", |config| config["readonly_paths"] = json!(["/etc"]));
    assert!(log.contains("Read-only file system") && log.ends_with("tmp\n"), "{log}");
}

pub fn pivot_dir() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.rootfs().join("pivot")).unwrap();
    // A read-only root has no other place that may be written to.
    let log = seen_in(&bundle, "ls -A /pivot; ls /; touch /pivot/x", |config| {
        config["readonlyfs"] = json!(true);
        config["pivot_dir"] = json!("/pivot");
        add(
            config,
            "mounts",
            json!({"source": "tmpfs", "destination": "/pivot", "device": "tmpfs", "flags": 2}),
        );
    });
    assert!(log.starts_with("bin\n") && log.contains("\npivot\n") && !log.contains("boot"), "{log}");
    let mut config = base(&bundle);
    config["pivot_dir"] = json!("/../pivot");
    let error = create(&bundle, &config, &script("true")).map(drop).unwrap_err();
    assert!(matches!(&error, Error::BadConfig { key, .. } if key == "pivot_dir"), "{error}");
}
