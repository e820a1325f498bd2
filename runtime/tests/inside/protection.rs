//! What a container must not see or change.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[
    ("masked_paths_show_nothing", masked_paths_show_nothing),
    ("readonly_paths_take_nothing", readonly_paths_take_nothing),
    ("a_readonly_root_takes_nothing_but_mounts_do", a_readonly_root_takes_nothing_but_mounts_do),
    ("a_false_null_device_masks_nothing", a_false_null_device_masks_nothing),
    ("a_container_without_proc_starts", a_container_without_proc_starts),
    ("new_privileges_can_be_forbidden", new_privileges_can_be_forbidden),
    ("the_root_cannot_be_left", the_root_cannot_be_left),
];

fn masked_paths_show_nothing() {
    let mut bundle = Bundle::with_script(
        "cat /secret; ls /private | wc -l; touch /private/file || echo readonly; cat /link; stat -c %t:%T /secret",
    );
    fs::write(bundle.rootfs().join("secret"), "secret\n").unwrap();
    fs::create_dir(bundle.rootfs().join("private")).unwrap();
    fs::write(bundle.rootfs().join("private/file"), "secret\n").unwrap();
    fs::write(bundle.rootfs().join("behind"), "secret\n").unwrap();
    symlink("behind", bundle.rootfs().join("link")).unwrap();
    bundle.spec["linux"]["maskedPaths"] =
        json!(["/secret", "/private", "/link", "/not/there", "/secret/below"]);
    let log = bundle.run();
    assert!(!log.contains("secret\n"), "{log}");
    assert!(log.starts_with("0\n") && log.ends_with("readonly\n1:3\n"), "{log}");
}

fn readonly_paths_take_nothing() {
    let mut bundle = Bundle::with_script(
        "touch /fixed/file || echo one; touch /fixed/below/file || echo two; echo 1 > /proc/sys/net/ipv4/ip_forward || echo three; cat /proc/self/mountinfo",
    );
    fs::create_dir_all(bundle.rootfs().join("fixed/below")).unwrap();
    // What is mounted below is covered too.
    bundle.mount(json!({"destination": "/fixed/below", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec"]}));
    bundle.spec["linux"]["readonlyPaths"] = json!(["/fixed", "/proc/sys", "/not/there"]);
    let log = bundle.run();
    for word in ["one", "two", "three"] {
        assert!(log.lines().any(|line| line == word), "{word}: {log}");
    }
    let below = log.lines().rfind(|line| line.contains(" /fixed/below ")).unwrap();
    assert!(below.contains(" ro,nosuid,noexec,"), "the other flags are kept: {below}");
}

fn a_readonly_root_takes_nothing_but_mounts_do() {
    let mut bundle = Bundle::with_script(
        "touch /file || echo readonly; touch /dev/shm/file && echo writable; grep ' / / ' /proc/self/mountinfo | wc -l",
    );
    bundle.spec["root"]["readonly"] = json!(true);
    let log = bundle.run();
    assert!(log.contains("readonly\nwritable\n"), "{log}");
    assert!(!bundle.rootfs().join("file").exists());
    fs::write(bundle.rootfs().join("from-the-host"), "").unwrap();
}

/// CVE-2025-31133: if what is at /dev/null were something else, that would be bound over the secret.
fn a_false_null_device_masks_nothing() {
    let mut bundle = Bundle::with_script("cat /secret");
    fs::write(bundle.rootfs().join("secret"), "secret\n").unwrap();
    fs::write(bundle.rootfs().join("false"), "something else\n").unwrap();
    for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.unmount(place);
    }
    // /dev comes from outside, so its nodes aren't made.
    let dev = bundle.path().join("dev");
    fs::create_dir(&dev).unwrap();
    symlink("/false", dev.join("null")).unwrap();
    bundle.mount(json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]}));
    bundle.spec["linux"]["maskedPaths"] = json!(["/secret"]);
    let error = bundle.refused();
    assert!(error.contains("/dev/null"), "{error}");
}

fn a_container_without_proc_starts() {
    let mut bundle = Bundle::new();
    bundle.unmount("/proc");
    // Something that looks like it, put there by an image.
    fs::create_dir_all(bundle.rootfs().join("proc/self/fd")).unwrap();
    for number in 0..20 {
        fs::write(bundle.rootfs().join(format!("proc/self/fd/{number}")), "").unwrap();
    }
    bundle.script("echo runs; cat /proc/self/fd/3");
    assert_eq!(bundle.run(), "runs\n");
    for number in 0..20 {
        let path = bundle.rootfs().join(format!("proc/self/fd/{number}"));
        assert_eq!(fs::read(path).unwrap(), b"", "nothing was written into it");
    }
}

fn new_privileges_can_be_forbidden() {
    let mut bundle = Bundle::with_script("grep NoNewPrivs /proc/self/status");
    assert_eq!(bundle.run(), "NoNewPrivs:\t1\n");
    bundle.spec["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(bundle.run(), "NoNewPrivs:\t0\n");
}

fn the_root_cannot_be_left() {
    let mut bundle = Bundle::with_script(
        "ls /..; ls /proc/1/root/..; readlink /proc/1/cwd; ls /proc/1/cwd/../..; chroot /tmp /bin/true || echo no",
    );
    bundle.applet("chroot");
    bundle.unmount("/out");
    bundle.mount(json!({"destination": "/out", "type": "bind", "source": bundle.out(), "options": ["bind"]}));
    let log = bundle.run();
    let roots = log.matches("bin\ndev\netc\nhome\nout\nproc\nrun\nsys\ntmp\n").count();
    assert_eq!(roots, 3, "{log}");
    assert!(log.ends_with("no\n"), "{log}");
}
