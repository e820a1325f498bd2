//! Mounts, the root, devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use floe_runtime::CreateOptions;
use serde_json::json;

use crate::support::{Bundle, Mounted, mount_at, options};

pub const TESTS: &[(&str, fn())] = &[
    ("mounts_have_their_options", mounts_have_their_options),
    ("a_file_is_bound_onto_a_file", a_file_is_bound_onto_a_file),
    ("flags_for_everything_below_reach_it", flags_for_everything_below_reach_it),
    ("a_tmpfs_takes_over_what_it_covers", a_tmpfs_takes_over_what_it_covers),
    ("a_tmpfs_has_the_mode_of_what_it_covers", a_tmpfs_has_the_mode_of_what_it_covers),
    ("links_of_an_image_lead_nowhere_on_the_host", links_of_an_image_lead_nowhere_on_the_host),
    ("mounts_that_fail_are_explained", mounts_that_fail_are_explained),
    ("devices_are_made", devices_are_made),
    ("devices_have_their_mode_whatever_the_folder_says", devices_have_their_mode_whatever_the_folder_says),
    ("what_stands_in_a_devices_place_is_replaced", what_stands_in_a_devices_place_is_replaced),
    ("the_hosts_dev_is_not_changed", the_hosts_dev_is_not_changed),
    ("a_root_can_be_moved_instead_of_pivoted", a_root_can_be_moved_instead_of_pivoted),
    ("a_root_alone_needs_no_mounts", a_root_alone_needs_no_mounts),
    ("cgroups_are_shown_with_and_without_a_namespace", cgroups_are_shown_with_and_without_a_namespace),
    ("nothing_of_the_host_is_mounted", nothing_of_the_host_is_mounted),
    ("propagation_is_as_configured", propagation_is_as_configured),
];

fn mounts_have_their_options() {
    let mut bundle =
        Bundle::with_script("cat /proc/self/mountinfo; touch /ro/file || echo readonly; touch /rw/file");
    let (ro, rw) = (bundle.path().join("ro"), bundle.path().join("rw"));
    fs::create_dir(&ro).unwrap();
    fs::create_dir(&rw).unwrap();
    bundle.mount(json!({"destination": "/ro", "type": "none", "source": ro,
        "options": ["rbind", "ro", "nosuid", "nodev", "noexec", "noatime"]}));
    // Relative to the bundle.
    bundle.mount(json!({"destination": "/rw", "type": "bind", "source": "rw", "options": ["rbind", "rw", "nodiratime"]}));
    bundle.mount(json!({"destination": "/fast", "type": "tmpfs", "source": "my label",
        "options": ["nosuid", "strictatime", "sync", "mode=0711", "size=64k"]}));
    let log = bundle.run();
    assert_eq!(options(&log, "/ro"), "ro,nosuid,nodev,noexec,noatime");
    assert_eq!(options(&log, "/rw"), "rw,nodiratime,relatime");
    let (flags, fast) = mount_at(&log, "/fast").unwrap();
    assert_eq!(flags, "rw,nosuid");
    // Kernels whose tmpfs has inode numbers of 64 bits say so, whoever asks (CONFIG_TMPFS_INODE64).
    assert_eq!(fast.trim_end_matches(",inode64"), "tmpfs my\\040label rw,sync,size=64k,mode=711");
    assert!(log.ends_with("readonly\n"), "{log}");
    assert!(rw.join("file").exists());
    assert_eq!(options(&log, "/dev/shm"), "rw,nosuid,nodev,noexec,relatime");
    assert_eq!(options(&log, "/sys"), "ro,nosuid,nodev,noexec,relatime");
}

fn a_file_is_bound_onto_a_file() {
    let mut bundle =
        Bundle::with_script("cat /deep/in/resolv.conf; echo changed > /deep/in/resolv.conf || echo readonly");
    let file = bundle.path().join("file");
    fs::write(&file, "from the host\n").unwrap();
    bundle.mount(json!({"destination": "/deep/in/resolv.conf", "type": "bind", "source": file, "options": ["bind", "ro"]}));
    let log = bundle.run();
    assert!(log.starts_with("from the host\n") && log.ends_with("readonly\n"), "{log}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "from the host\n");
}

fn flags_for_everything_below_reach_it() {
    let mut bundle = Bundle::with_script(
        "touch /outer/file || echo outer; touch /outer/inner/file || echo inner; cat /proc/self/mountinfo",
    );
    let outer = bundle.path().join("outer");
    fs::create_dir_all(outer.join("inner")).unwrap();
    let _inner = Mounted::tmpfs(&outer.join("inner"));
    bundle.mount(
        json!({"destination": "/outer", "type": "bind", "source": outer, "options": ["rbind", "rro"]}),
    );
    let log = bundle.run();
    assert!(log.contains("outer\n") && log.contains("inner\n"), "{log}");
    assert!(options(&log, "/outer/inner").starts_with("ro"), "{log}");
}

fn a_tmpfs_takes_over_what_it_covers() {
    let mut bundle = Bundle::with_script(
        "cat /data/sub/file; readlink /data/link; stat -c '%a %u' /data/sub; touch /data/new || echo readonly",
    );
    fs::create_dir_all(bundle.rootfs().join("data/sub")).unwrap();
    fs::write(bundle.rootfs().join("data/sub/file"), "kept\n").unwrap();
    symlink("/etc/passwd", bundle.rootfs().join("data/link")).unwrap();
    std::os::unix::fs::chown(bundle.rootfs().join("data/sub"), Some(1000), Some(1000)).unwrap();
    bundle.mount(
        json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]}),
    );
    let log = bundle.run();
    assert!(log.starts_with("kept\n/etc/passwd\n755 1000\n") && log.ends_with("readonly\n"), "{log}");
}

fn a_tmpfs_has_the_mode_of_what_it_covers() {
    let mut bundle = Bundle::with_script("stat -c %a /tmp /new");
    fs::set_permissions(bundle.rootfs().join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .unwrap();
    for place in ["/tmp", "/new"] {
        bundle.mount(json!({"destination": place, "type": "tmpfs", "source": "tmpfs"}));
    }
    assert_eq!(bundle.run(), "1777\n1777\n");
}

fn links_of_an_image_lead_nowhere_on_the_host() {
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo; ls /trap");
    let trap = tempfile::tempdir().unwrap();
    // An absolute link to the host, one that climbs, and a directory that is missing behind a link.
    symlink(trap.path(), bundle.rootfs().join("absolute")).unwrap();
    symlink("../../../../../../../tmp", bundle.rootfs().join("climbing")).unwrap();
    fs::create_dir(bundle.rootfs().join("var")).unwrap();
    symlink("/run-later", bundle.rootfs().join("var/run")).unwrap();
    for place in ["/absolute/a", "/climbing/floe-inside-beyond", "/var/run/secrets"] {
        bundle.mount(json!({"destination": place, "type": "tmpfs", "source": "tmpfs"}));
    }
    bundle.script("cat /proc/self/mountinfo");
    let log = bundle.run();
    assert!(mount_at(&log, &format!("{}/a", trap.path().display())).is_some(), "beneath the root: {log}");
    assert!(
        mount_at(&log, "/tmp/floe-inside-beyond").is_some() && mount_at(&log, "/run-later/secrets").is_some(),
        "{log}"
    );
    assert_eq!(fs::read_dir(trap.path()).unwrap().count(), 0, "on the host nothing was made");
    assert!(!Path::new("/tmp/floe-inside-beyond").exists());
}

fn mounts_that_fail_are_explained() {
    let cases = [
        (json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["size=many"]}), "size"),
        (json!({"destination": "/x", "type": "nosuchfs", "source": "x"}), "nosuchfs"),
        (
            json!({"destination": "/x", "type": "bind", "source": "/not/there", "options": ["bind"]}),
            "/not/there",
        ),
        (json!({"destination": "/etc/passwd", "type": "tmpfs", "source": "x"}), "/etc/passwd"),
        (json!({"destination": "/proc/sys/kernel", "type": "tmpfs", "source": "x"}), "inside /proc"),
        (json!({"destination": "/proc", "type": "tmpfs", "source": "x"}), "only a proc file system"),
    ];
    for (mount, words) in cases {
        let mut bundle = Bundle::new();
        bundle.mount(mount);
        let number = bundle.spec["mounts"].as_array().unwrap().len() - 1;
        let error = bundle.refused();
        assert!(error.contains(words) && error.contains(&format!("mounts[{number}]")), "{words:?}: {error}");
    }
    // CVE-2019-19921: an image whose /proc leads elsewhere.
    let bundle = Bundle::new();
    fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
    symlink("/tmp", bundle.rootfs().join("proc")).unwrap();
    let error = bundle.refused();
    assert!(error.contains("/proc") && error.contains("ordinary directory"), "{error}");
}

fn devices_are_made() {
    let mut bundle = Bundle::with_script(
        "for d in null zero full random urandom tty; do stat -c '%n %a %t:%T' /dev/$d; done; \
         for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; stat -c '%a %u %t:%T %F' /dev/deep/mine; echo x > /dev/null",
    );
    bundle.spec["linux"]["devices"] = json!([{"path": "/dev/deep/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8}]);
    let log = bundle.run();
    let expected = "/dev/null 666 1:3\n/dev/zero 666 1:5\n/dev/full 666 1:7\n/dev/random 666 1:8\n\
        /dev/urandom 666 1:9\n/dev/tty 666 5:0\nfd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\n\
        stderr /proc/self/fd/2\nptmx pts/ptmx\n640 7 1:5 character special file\n";
    assert_eq!(log, expected);
}

/// A default ACL (acl(5)) takes bits of the mode away.
fn devices_have_their_mode_whatever_the_folder_says() {
    let mut bundle = Bundle::with_script("stat -c '%a %u' /dev/null /dev/pipe; stat -c %F /dev/pipe");
    for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.unmount(place);
    }
    // Version 2, and for owner, group and others: tag, permissions, no id (`include/uapi/linux/posix_acl_xattr.h`).
    let entry = |tag: u16, permissions: u16| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &u32::MAX.to_le_bytes()].concat()
    };
    let list = [2u32.to_le_bytes().to_vec(), entry(1, 7), entry(4, 0), entry(0x20, 0)].concat();
    let dev = bundle.rootfs().join("dev");
    rustix::fs::setxattr(&dev, "system.posix_acl_default", &list, rustix::fs::XattrFlags::empty()).unwrap();
    bundle.spec["linux"]["devices"] =
        json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 9}]);
    assert_eq!(bundle.run(), "666 0\n640 9\nfifo\n");
}

fn what_stands_in_a_devices_place_is_replaced() {
    let mut bundle = Bundle::with_script("stat -c %F /dev/null; echo text > /dev/null");
    for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.unmount(place);
    }
    // Images hold empty files there.
    fs::write(bundle.rootfs().join("dev/null"), "").unwrap();
    fs::write(bundle.rootfs().join("dev/ptmx"), "").unwrap();
    assert_eq!(bundle.run(), "character special file\n");
}

fn the_hosts_dev_is_not_changed() {
    let mut bundle = Bundle::with_script("readlink /dev/fd; ls /dev | wc -l; echo x > /dev/null");
    for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.unmount(place);
    }
    bundle.mount(json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}));
    bundle.spec["linux"]["maskedPaths"] = json!([]);
    let names = || {
        fs::read_dir("/dev")
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    bundle.run();
    assert_eq!(names(), before);
}

fn a_root_can_be_moved_instead_of_pivoted() {
    let bundle =
        Bundle::with_script("ls /; cat /proc/self/mountinfo | grep -v /rootfs; ls /proc/1/root/ | wc -l");
    let options = CreateOptions { no_pivot: true, ..CreateOptions::default() };
    let running = bundle.create_with(options).unwrap();
    running.container.start().unwrap();
    assert_eq!(running.wait(), 0, "{}", running.log());
    assert!(running.log().starts_with("bin\ndev\n"), "{}", running.log());
    assert!(Path::new("/proc").read_dir().unwrap().next().is_some(), "the host's /proc is still there");
}

fn a_root_alone_needs_no_mounts() {
    let mut bundle = Bundle::new();
    bundle.share("mount");
    bundle.spec["mounts"] = json!([]);
    bundle.spec["linux"]["maskedPaths"] = json!([]);
    bundle.spec["linux"]["readonlyPaths"] = json!([]);
    bundle.spec["linux"]["resources"] = json!({});
    fs::create_dir(bundle.rootfs().join("out")).unwrap();
    bundle.script("ls /; sleep 30");
    let running = bundle.create().unwrap();
    running.container.start().unwrap();
    let log = bundle.rootfs().join("out/log");
    crate::support::eventually("it has listed its root", || {
        fs::read_to_string(&log).is_ok_and(|text| text.starts_with("bin\ndev\n"))
    });
    // Who joins it gets the same root, which no mount namespace says.
    assert_eq!(running.exec_in("ls / > /out/joined"), 0);
    assert_eq!(
        fs::read_to_string(bundle.rootfs().join("out/joined")).unwrap(),
        fs::read_to_string(log).unwrap()
    );
}

fn cgroups_are_shown_with_and_without_a_namespace() {
    let mut bundle = Bundle::with_script(
        "cat /proc/self/cgroup; cat /proc/self/mountinfo; ls /sys/fs/cgroup; cat /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/*/new && echo writable",
    );
    let log = bundle.run_to_end().1;
    assert!(
        log.lines().filter(|line| line.contains(':') && !line.contains(' ')).all(|line| line.ends_with(":/")),
        "{log}"
    );
    assert!(log.lines().any(|line| line == "1"), "its own process is in its root cgroup: {log}");
    assert!(!log.contains("writable"), "{log}");
    bundle.share("cgroup");
    let log = bundle.run_to_end().1;
    assert!(log.contains("floe-inside-"), "without a namespace its place is seen: {log}");
    assert!(log.lines().any(|line| line == "1"), "what is bound is its own: {log}");
}

fn nothing_of_the_host_is_mounted() {
    let bundle = Bundle::with_script("cat /proc/1/mountinfo; echo; cat /proc/1/mounts");
    let log = bundle.run();
    let places: Vec<&str> =
        log.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split(' ').nth(4)).collect();
    for place in &places {
        let known = ["/", "/out"].contains(place)
            || ["/proc", "/dev", "/sys"].iter().any(|top| place.starts_with(top));
        assert!(known, "{place} in {log}");
    }
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !host.contains(bundle.path().to_str().unwrap()),
        "and nothing of the container on the host: {host}"
    );
}

fn propagation_is_as_configured() {
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    let shared = bundle.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let mounted = Mounted::tmpfs(&shared);
    nix::mount::mount(None::<&str>, &mounted.0, None::<&str>, nix::mount::MsFlags::MS_SHARED, None::<&str>)
        .unwrap();
    for (place, option) in [("/s", "rslave"), ("/p", "rprivate"), ("/both", "rshared")] {
        bundle.mount(
            json!({"destination": place, "type": "bind", "source": shared, "options": ["rbind", option]}),
        );
    }
    let log = bundle.run();
    let line = |place: &str| log.lines().find(|line| line.split(' ').nth(4) == Some(place)).unwrap();
    assert!(line("/s").contains(" master:") && !line("/s").contains(" shared:"), "{}", line("/s"));
    assert!(!line("/p").contains(" master:") && !line("/p").contains(" shared:"), "{}", line("/p"));
    assert!(line("/both").contains(" shared:"), "{}", line("/both"));
}
