//! Mounts: whose their files are, flags of whole trees, links, remounts, and what a user namespace keeps locked.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use floe_runtime::CreateOptions;
use nix::mount::MsFlags;
use serde_json::json;

use crate::support::{Bundle, Mounted, full, mount_at, options};

pub const TESTS: &[(&str, fn())] = &[
    ("the_ids_of_a_mount_are_mapped", the_ids_of_a_mount_are_mapped),
    ("a_mount_takes_the_containers_own_map", a_mount_takes_the_containers_own_map),
    ("the_ids_of_a_whole_tree_are_mapped", the_ids_of_a_whole_tree_are_mapped),
    ("a_file_system_that_maps_no_ids_is_named", a_file_system_that_maps_no_ids_is_named),
    (
        "a_source_that_only_the_hosts_root_reaches_is_bound",
        a_source_that_only_the_hosts_root_reaches_is_bound,
    ),
    ("a_bind_mount_has_the_flags_that_it_asks_for", a_bind_mount_has_the_flags_that_it_asks_for),
    ("locked_flags_stay_in_a_user_namespace", locked_flags_stay_in_a_user_namespace),
    ("every_flag_reaches_what_is_mounted_below", every_flag_reaches_what_is_mounted_below),
    ("links_on_a_mount_can_be_left_unfollowed", links_on_a_mount_can_be_left_unfollowed),
    ("what_is_mounted_can_be_mounted_again", what_is_mounted_can_be_mounted_again),
    ("links_are_copied_bound_and_covered", links_are_copied_bound_and_covered),
    ("every_propagation_is_set", every_propagation_is_set),
    ("the_roots_propagation_is_set", the_roots_propagation_is_set),
    ("queues_and_terminals_are_the_containers_own", queues_and_terminals_are_the_containers_own),
    ("named_hierarchies_are_shown", named_hierarchies_are_shown),
    ("a_root_on_ramfs_works", a_root_on_ramfs_works),
    ("a_folder_can_hold_the_old_root", a_folder_can_hold_the_old_root),
];

/// A folder of the bundle with a file `file` in it that belongs to 5 and 6.
fn volume(bundle: &Bundle) -> PathBuf {
    let volume = bundle.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "text\n").unwrap();
    chown(volume.join("file"), Some(5), Some(6)).unwrap();
    volume
}

fn the_ids_of_a_mount_are_mapped() {
    let mut bundle = Bundle::with_script("stat -c '%u %g' /v/file; touch /v/new; stat -c '%u %g' /v/new");
    let volume = volume(&bundle);
    let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 100}]);
    bundle.mount(json!({"destination": "/v", "type": "bind", "source": volume, "options": ["bind"],
        "uidMappings": map(1000), "gidMappings": map(2000)}));
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    bundle.spec["process"]["user"] = json!({"uid": 1007, "gid": 2008});
    fs::set_permissions(bundle.out(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(bundle.run(), "1005 2006\n1007 2008\n");
    let new = fs::metadata(volume.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (7, 8), "as it is on the file system");
}

fn a_mount_takes_the_containers_own_map() {
    for (options, inside) in [(json!(["bind", "idmap"]), "5 6\n"), (json!(["bind"]), "65534 65534\n")] {
        let mut bundle = Bundle::with_script("stat -c '%u %g' /v/file");
        bundle.map_ids();
        let volume = volume(&bundle);
        bundle.mount(json!({"destination": "/v", "type": "bind", "source": volume, "options": options}));
        assert_eq!(bundle.run(), inside);
    }
}

fn the_ids_of_a_whole_tree_are_mapped() {
    for (option, below) in [("ridmap", "1005"), ("idmap", "5")] {
        let mut bundle = Bundle::with_script("stat -c %u /v/file /v/inner/file");
        let volume = volume(&bundle);
        fs::create_dir(volume.join("inner")).unwrap();
        let _inner = Mounted::tmpfs(&volume.join("inner"));
        fs::write(volume.join("inner/file"), "").unwrap();
        chown(volume.join("inner/file"), Some(5), Some(6)).unwrap();
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
        bundle.mount(
            json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", option],
            "uidMappings": map, "gidMappings": map}),
        );
        assert_eq!(bundle.run(), format!("1005\n{below}\n"), "{option}");
    }
}

fn a_file_system_that_maps_no_ids_is_named() {
    let mut bundle = Bundle::new();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    bundle.mount(json!({"destination": "/v", "type": "bind", "source": "/sys/kernel", "options": ["bind"],
        "uidMappings": map, "gidMappings": map}));
    let error = bundle.refused();
    assert!(error.contains("cannot map the ids of /sys/kernel"), "{error}");
    let overlapping =
        json!([{"containerID": 0, "hostID": 0, "size": 9}, {"containerID": 5, "hostID": 9, "size": 9}]);
    bundle.unmount("/v");
    bundle.mount(json!({"destination": "/v", "type": "bind", "source": "/tmp", "options": ["bind"],
        "uidMappings": overlapping, "gidMappings": map}));
    let error = bundle.refused();
    assert!(error.contains("uid_map") && error.contains("5 9 9"), "{error}");
}

fn a_source_that_only_the_hosts_root_reaches_is_bound() {
    let mut bundle = Bundle::with_script("cat /v/file; cat /f; touch /v/file 2>/dev/null || echo locked");
    bundle.map_ids();
    let volume = volume(&bundle);
    let closed = bundle.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::rename(&volume, closed.join("volume")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    bundle.mount(
        json!({"destination": "/v", "type": "bind", "source": "closed/volume", "options": ["rbind", "ro"]}),
    );
    bundle.mount(
        json!({"destination": "/f", "type": "bind", "source": "closed/volume/file", "options": ["bind"]}),
    );
    assert_eq!(bundle.run(), "text\ntext\nlocked\n");
}

fn a_bind_mount_has_the_flags_that_it_asks_for() {
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    let strict = bundle.path().join("strict");
    fs::create_dir(&strict).unwrap();
    let _strict = Mounted::of("tmpfs", &strict, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV);
    for (place, options) in
        [("/kept", json!(["bind"])), ("/own", json!(["bind", "ro"])), ("/loose", json!(["bind", "exec"]))]
    {
        bundle.mount(json!({"destination": place, "type": "bind", "source": strict, "options": options}));
    }
    let log = bundle.run();
    assert_eq!(options(&log, "/kept"), "rw,nosuid,nodev,noexec,relatime", "without any, those of the source");
    assert_eq!(options(&log, "/own"), "ro,relatime");
    assert_eq!(options(&log, "/loose"), "rw,relatime");
}

fn locked_flags_stay_in_a_user_namespace() {
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    bundle.map_ids();
    let strict = bundle.path().join("strict");
    fs::create_dir(&strict).unwrap();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let mounted = Mounted::of("tmpfs", &strict, flags);
    bundle.mount(json!({"destination": "/v", "type": "bind", "source": strict, "options": ["bind", "ro"]}));
    assert_eq!(options(&bundle.run(), "/v"), "ro,nosuid,nodev,noexec,relatime");
    bundle.unmount("/v");
    bundle.mount(json!({"destination": "/v", "type": "bind", "source": strict, "options": ["bind", "exec"]}));
    let error = bundle.refused();
    assert!(
        error.contains("set the flags of the mount at /v"),
        "what is asked for is not passed over: {error}"
    );
    drop(mounted);
}

fn every_flag_reaches_what_is_mounted_below() {
    let cases = [
        ("rro", "ro,relatime"),
        ("rnosuid", "rw,nosuid,relatime"),
        ("rnodev", "rw,nodev,relatime"),
        ("rnoexec", "rw,noexec,relatime"),
        ("rnodiratime", "rw,nodiratime,relatime"),
        ("rnoatime", "rw,noatime"),
        ("rstrictatime", "rw"),
        ("rrelatime", "rw,relatime"),
        ("rnosymfollow", "rw,relatime,nosymfollow"),
    ];
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    let outer = bundle.path().join("outer");
    fs::create_dir_all(outer.join("inner")).unwrap();
    let plain = Mounted::tmpfs(&outer.join("inner"));
    for (option, _) in cases {
        bundle.mount(json!({"destination": format!("/{option}"), "type": "bind", "source": outer, "options": ["rbind", option]}));
    }
    let log = bundle.run();
    for (option, expected) in cases {
        assert_eq!(options(&log, &format!("/{option}/inner")), expected, "{option}");
    }
    drop(plain);
    let flags = MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC
        | MsFlags::MS_NOATIME;
    let _strict = Mounted::of("tmpfs", &outer.join("inner"), flags | MsFlags::MS_NODIRATIME);
    bundle.mount(json!({"destination": "/loose", "type": "bind", "source": outer,
        "options": ["rbind", "rrw", "rsuid", "rdev", "rexec", "ratime", "rdiratime"]}));
    assert_eq!(options(&bundle.run(), "/loose/inner"), "rw,relatime");
}

fn links_on_a_mount_can_be_left_unfollowed() {
    let mut bundle = Bundle::with_script("cat /v/link || echo not followed; cat /followed/link");
    let volume = volume(&bundle);
    symlink("file", volume.join("link")).unwrap();
    bundle.mount(
        json!({"destination": "/v", "type": "bind", "source": volume, "options": ["bind", "nosymfollow"]}),
    );
    bundle.mount(json!({"destination": "/followed", "type": "bind", "source": volume, "options": ["bind"]}));
    let log = bundle.run();
    assert!(log.ends_with("not followed\ntext\n"), "{log}");
}

fn what_is_mounted_can_be_mounted_again() {
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    bundle.mount(json!({"destination": "/dev/shm", "type": "none", "source": "none", "options": ["remount", "bind", "ro", "noexec"]}));
    bundle.mount(json!({"destination": "/t", "type": "tmpfs", "source": "t", "options": ["size=64k"]}));
    bundle.mount(json!({"destination": "/t", "type": "tmpfs", "source": "t", "options": ["remount", "ro", "size=128k"]}));
    let log = bundle.run();
    assert_eq!(options(&log, "/dev/shm"), "ro,noexec,relatime");
    let (flags, rest) = mount_at(&log, "/t").unwrap();
    assert!(flags == "ro,relatime" && rest.starts_with("tmpfs t ro,size=128k"), "{flags} {rest}");
    for place in ["/home", "/nothing"] {
        let mut bundle = Bundle::new();
        bundle.mount(
            json!({"destination": place, "type": "none", "source": "none", "options": ["remount", "ro"]}),
        );
        let error = bundle.refused();
        assert!(error.contains(&format!("cannot mount at {place}: nothing is mounted there")), "{error}");
    }
}

fn links_are_copied_bound_and_covered() {
    let mut bundle = Bundle::with_script(
        "readlink /copied; test -L /copied && echo link; readlink /bound; cat /covered; readlink /etc/target || cat /etc/target",
    );
    let file = bundle.path().join("file");
    fs::write(&file, "from the host\n").unwrap();
    symlink("/somewhere/else", bundle.path().join("link")).unwrap();
    symlink("etc/target", bundle.rootfs().join("covered")).unwrap();
    fs::write(bundle.rootfs().join("etc/target"), "untouched\n").unwrap();
    let bind = |place: &str, source: &str, option: &str| json!({"destination": place, "type": "bind", "source": source, "options": ["bind", option]});
    bundle.mount(bind("/copied", "link", "copy-symlink"));
    bundle.mount(bind("/bound", "link", "src-nofollow"));
    bundle.mount(bind("/covered", "file", "dest-nofollow"));
    assert_eq!(bundle.run(), "/somewhere/else\nlink\n/somewhere/else\nfrom the host\nuntouched\n");
    assert_eq!(
        bundle.run(),
        "/somewhere/else\nlink\n/somewhere/else\nfrom the host\nuntouched\n",
        "a second time too"
    );
    fs::remove_file(bundle.rootfs().join("copied")).unwrap();
    fs::write(bundle.rootfs().join("copied"), "mine").unwrap();
    let error = bundle.refused();
    assert!(error.contains("something else is in the place of the link"), "{error}");
}

/// The optional fields of mountinfo.
fn peers(log: &str, place: &str) -> String {
    let line = log.lines().rfind(|line| line.split(' ').nth(4) == Some(place)).unwrap();
    let fields: Vec<&str> = line.split(' ').skip(6).take_while(|field| *field != "-").collect();
    fields.iter().map(|field| field.split(':').next().unwrap()).collect::<Vec<_>>().join(" ")
}

fn every_propagation_is_set() {
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    let outer = bundle.path().join("outer");
    fs::create_dir(&outer).unwrap();
    let outer_mount = Mounted::tmpfs(&outer);
    fs::create_dir(outer.join("inner")).unwrap();
    let inner_mount = Mounted::tmpfs(&outer.join("inner"));
    for mount in [&outer_mount, &inner_mount] {
        nix::mount::mount(None::<&str>, &mount.0, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    }
    // What the mount itself and the one below it are then; both are slaves before.
    let cases = [
        ("shared", "shared master", "master"),
        ("rshared", "shared master", "shared master"),
        ("slave", "master", "master"),
        ("rslave", "master", "master"),
        ("private", "", "master"),
        ("rprivate", "", ""),
        ("unbindable", "unbindable", "master"),
        ("runbindable", "unbindable", "unbindable"),
    ];
    for (option, _, _) in cases {
        bundle.mount(json!({"destination": format!("/{option}"), "type": "bind", "source": outer, "options": ["rbind", option]}));
    }
    let log = bundle.run();
    for (option, own, below) in cases {
        assert_eq!(peers(&log, &format!("/{option}")), own, "{option}: {log}");
        assert_eq!(peers(&log, &format!("/{option}/inner")), below, "{option}: {log}");
    }
}

fn the_roots_propagation_is_set() {
    for (value, expected) in [
        ("shared", "shared"),
        ("rshared", "shared"),
        ("slave", ""),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
    ] {
        let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
        bundle.spec["linux"]["rootfsPropagation"] = json!(value);
        assert_eq!(peers(&bundle.run(), "/"), expected, "{value}");
    }
}

fn queues_and_terminals_are_the_containers_own() {
    let log = Bundle::with_script(
        "touch /dev/mqueue/mine; ls /dev/mqueue; ls /dev/pts; stat -c '%a' /dev/pts/ptmx; cat /proc/self/mountinfo",
    )
    .run();
    assert!(log.starts_with("mine\nptmx\n666\n"), "{log}");
    let (flags, rest) = mount_at(&log, "/dev/pts").unwrap();
    assert_eq!((flags, rest), ("rw,nosuid,noexec,relatime", "devpts devpts rw,gid=5,mode=620,ptmxmode=666"));
    assert_eq!(
        mount_at(&log, "/dev/mqueue").unwrap(),
        ("rw,nosuid,nodev,noexec,relatime", "mqueue mqueue rw")
    );
}

/// Those of version 1 that the host has. One without them shows its single hierarchy.
fn named_hierarchies_are_shown() {
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let names: Vec<&str> = host
        .lines()
        .filter_map(|line| line.split_once(" - ").filter(|(_, right)| right.starts_with("cgroup ")))
        .filter_map(|(left, _)| left.split(' ').nth(4)?.strip_prefix("/sys/fs/cgroup/"))
        .collect();
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    for namespace in [true, false] {
        if !namespace {
            bundle.share("cgroup");
        }
        let log = bundle.run();
        for name in &names {
            let place = format!("/sys/fs/cgroup/{name}");
            assert_eq!(options(&log, &place), "ro,nosuid,nodev,noexec,relatime", "{namespace}: {log}");
        }
        assert_eq!(options(&log, "/sys/fs/cgroup"), "ro,nosuid,nodev,noexec,relatime");
    }
}

/// On such a host the root cannot be pivoted, so it is moved; a root file system on ramfs can be both.
fn a_root_on_ramfs_works() {
    for no_pivot in [true, false] {
        let bundle = Bundle::with_script("ls /; cat /proc/self/mountinfo; touch /mine");
        let copy = bundle.path().join("copy");
        fs::rename(bundle.rootfs(), &copy).unwrap();
        fs::create_dir(bundle.rootfs()).unwrap();
        let _ramfs = Mounted::of("ramfs", &bundle.rootfs(), MsFlags::empty());
        let copied =
            std::process::Command::new("cp").arg("-a").arg(copy.join(".")).arg(bundle.rootfs()).status();
        assert!(copied.unwrap().success());
        let running = bundle.create_with(CreateOptions { no_pivot, ..CreateOptions::default() }).unwrap();
        running.container.start().unwrap();
        assert_eq!(running.wait(), 0, "{}", running.log());
        let log = running.log();
        assert!(log.starts_with("bin\ndev\n"), "{log}");
        assert!(mount_at(&log, "/").unwrap().1.starts_with("ramfs "), "{log}");
        assert!(bundle.rootfs().join("mine").exists());
    }
}

fn a_folder_can_hold_the_old_root() {
    let mut bundle =
        Bundle::with_script("ls -A /; ls -A /run; cat /proc/self/mountinfo; touch /file || echo readonly");
    bundle.spec["root"]["readonly"] = json!(true);
    fs::create_dir(bundle.rootfs().join("out")).unwrap();
    bundle.mount(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs"}));
    let pivot_dir = |folder: &str| {
        let folder = PathBuf::from(folder);
        bundle.create_changed(|config| config.pivot_dir = Some(folder))
    };
    let running = pivot_dir("/run").unwrap_or_else(|error| panic!("{}", full(&error)));
    running.container.start().unwrap();
    assert_eq!(running.wait(), 0, "{}", running.log());
    let log = running.log();
    assert!(log.starts_with("bin\ndev\netc\nhome\nout\nproc\nrun\nsys\ntmp\n"), "{log}");
    assert!(!log.contains("pivot") && log.ends_with("readonly\n"), "{log}");
    // Where nothing can be made.
    let error = full(&pivot_dir("/proc").map(|_| ()).unwrap_err());
    assert!(error.contains("mkdir in the container /proc/.pivot_root"), "{error}");
}
