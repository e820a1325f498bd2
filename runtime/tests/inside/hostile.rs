//! Images, volumes, bundles and processes that attack, each as somebody has done it. What else belongs here stands with
//! what it attacks: `floes_program_cannot_be_written_to` (CVE-2019-5736) in `joining.rs`, `no_descriptor_leaks_in` in
//! `basics.rs`, `a_false_null_device_masks_nothing` in `protection.rs`, `a_false_multiplexer_is_refused` in `terminal.rs`.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use floe_runtime::{ContainerId, CreateOptions, ExecOptions, console};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::support::{Bundle, full, mount_at};

pub const TESTS: &[(&str, fn())] = &[
    ("a_process_that_joins_cannot_begin_outside", a_process_that_joins_cannot_begin_outside),
    ("a_mount_target_that_is_exchanged_leads_nowhere", a_mount_target_that_is_exchanged_leads_nowhere),
    ("a_proc_that_is_exchanged_is_still_protected", a_proc_that_is_exchanged_is_still_protected),
    ("a_proc_that_is_moved_away_is_noticed", a_proc_that_is_moved_away_is_noticed),
    (
        "a_null_device_that_is_exchanged_masks_all_the_same",
        a_null_device_that_is_exchanged_masks_all_the_same,
    ),
    ("a_console_that_is_a_link_covers_nothing_else", a_console_that_is_a_link_covers_nothing_else),
    ("a_false_proc_takes_no_parameter", a_false_proc_takes_no_parameter),
    ("proc_and_sys_cannot_be_covered", proc_and_sys_cannot_be_covered),
    ("a_bundle_that_is_no_bundle_is_refused_at_once", a_bundle_that_is_no_bundle_is_refused_at_once),
    ("a_million_mounts_are_refused_at_once", a_million_mounts_are_refused_at_once),
    ("names_lead_nowhere", names_lead_nowhere),
    ("the_hosts_null_device_stays_as_it_is", the_hosts_null_device_stays_as_it_is),
];

/// How often a race is tried. Without protection one in ten or twenty would be lost.
const TRIES: usize = 25;

/// Exchanges two names over and over, as a container does that shares the volume.
struct Exchanging {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Exchanging {
    fn of(one: PathBuf, two: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Exchanging {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// CVE-2024-21626, by `exec`: a directory of the host that somebody left open.
fn a_process_that_joins_cannot_begin_outside() {
    let dir = File::open("/").unwrap();
    rustix::io::fcntl_setfd(&dir, rustix::io::FdFlags::empty()).unwrap();
    let bundle = Bundle::with_script("echo ready; sleep 200");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    for number in 3..=dir.as_fd().as_raw_fd().max(12) {
        for folder in ["", "/..", "/../../.."] {
            let mut process = running.container.config().process.clone();
            process.cwd = format!("/proc/self/fd/{number}{folder}").into();
            process.args = ["sh", "-c", "ls / > /out/reached"].map(str::to_owned).to_vec();
            let error = running.container.exec(ExecOptions::new(process)).unwrap_err();
            assert!(full(&error).contains("process.cwd"), "{number}: {}", full(&error));
        }
    }
    assert!(!bundle.out().join("reached").exists());
}

/// CVE-2021-30465: the folder that a mount goes to is exchanged for a link that leads out of the root.
fn a_mount_target_that_is_exchanged_leads_nowhere() {
    let trap = tempfile::tempdir().unwrap();
    fs::create_dir(trap.path().join("inner")).unwrap();
    let mut bundle = Bundle::with_script("cat /proc/self/mountinfo");
    let volume = bundle.path().join("volume");
    fs::create_dir_all(volume.join("folder/inner")).unwrap();
    let climbing = Path::new("../../../../../../../../../..").join(trap.path().strip_prefix("/").unwrap());
    symlink(climbing, volume.join("link")).unwrap();
    bundle.mount(json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["bind"]}));
    bundle.mount(json!({"destination": "/volume/folder/inner", "type": "tmpfs", "source": "trapped"}));
    let exchanging = Exchanging::of(volume.join("folder"), volume.join("link"));
    for _ in 0..TRIES {
        match bundle.create() {
            Ok(running) => {
                // Whichever of the two it was: within the root.
                let info = running.proc("mountinfo");
                let place =
                    info.lines().find(|line| line.contains(" trapped ")).unwrap().split(' ').nth(4).unwrap();
                let within =
                    place.starts_with("/volume/") || place == format!("{}/inner", trap.path().display());
                assert!(within, "{place}");
            }
            // It was exchanged between two looks.
            Err(error) => assert!(full(&error).contains("/volume/folder"), "{}", full(&error)),
        }
        assert_eq!(fs::read_dir(trap.path().join("inner")).unwrap().count(), 0);
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains(" trapped "), "{host}");
    }
    drop(exchanging);
}

/// CVE-2023-27561 and CVE-2019-19921: /proc is a link at the moment when it is mounted or protected.
fn a_proc_that_is_exchanged_is_still_protected() {
    let bundle = Bundle::with_script(
        "cat /proc/self/mountinfo; echo x > /proc/sys/net/ipv4/ip_forward || echo readonly",
    );
    fs::create_dir_all(bundle.rootfs().join("false/sys")).unwrap();
    fs::create_dir_all(bundle.rootfs().join("false/self")).unwrap();
    symlink("/false", bundle.rootfs().join("other")).unwrap();
    let exchanging = Exchanging::of(bundle.rootfs().join("proc"), bundle.rootfs().join("other"));
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..TRIES {
        match bundle.create() {
            Ok(running) => {
                let info = running.proc("mountinfo");
                for place in ["/proc/sys", "/proc/bus", "/proc/irq"] {
                    // Where it lies now, is the attacker's choice; that it is protected isn't.
                    let other = place.replace("/proc", "/other");
                    let found = mount_at(&info, place).or_else(|| mount_at(&info, &other));
                    let (options, _) = found.unwrap_or_else(|| panic!("{place} is not protected: {info}"));
                    assert!(options.starts_with("ro,"), "{place}: {options}");
                }
                ran += 1;
            }
            Err(error) => {
                let error = full(&error);
                assert!(error.contains("/proc"), "{error}");
                refused += 1;
            }
        }
        assert_eq!(fs::read_dir(bundle.rootfs().join("false")).unwrap().count(), 2);
    }
    drop(exchanging);
    assert!(refused > 0, "the race was never there: {ran} ran");
}

/// A folder with a mount on it can be moved by somebody in whose mount namespace nothing is mounted there.
fn a_proc_that_is_moved_away_is_noticed() {
    let mut bundle = Bundle::new();
    fs::create_dir_all(bundle.rootfs().join("false/sys")).unwrap();
    let (proc, away) = (bundle.rootfs().join("proc"), bundle.rootfs().join("away"));
    // The last moment before the root is changed.
    let script = format!(
        "mv {0} {1} && mv {2} {0}",
        proc.display(),
        away.display(),
        bundle.rootfs().join("false").display()
    );
    bundle.spec["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]);
    let error = bundle.refused();
    assert!(error.contains("/proc was moved elsewhere"), "{error}");
}

/// CVE-2025-31133: the null device that is to cover a secret is exchanged for a link to something writable.
fn a_null_device_that_is_exchanged_masks_all_the_same() {
    let mut bundle = Bundle::with_script("stat -c %t:%T /secret; cat /secret");
    fs::write(bundle.rootfs().join("secret"), "secret\n").unwrap();
    fs::write(bundle.rootfs().join("false"), "false\n").unwrap();
    for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.unmount(place);
    }
    let dev = bundle.path().join("dev");
    fs::create_dir(&dev).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(
        &dev.join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        mode,
        nix::sys::stat::makedev(1, 3),
    )
    .unwrap();
    symlink("/false", dev.join("link")).unwrap();
    bundle.mount(json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]}));
    bundle.spec["linux"]["maskedPaths"] = json!(["/secret"]);
    let exchanging = Exchanging::of(dev.join("null"), dev.join("link"));
    let mut masked = 0;
    for _ in 0..TRIES {
        match bundle.create() {
            Ok(running) => {
                let secret = format!("/proc/{}/root/secret", running.pid());
                let about = fs::metadata(secret).unwrap();
                assert_eq!((about.rdev(), about.len()), (nix::sys::stat::makedev(1, 3), 0));
                masked += 1;
            }
            Err(error) => assert!(full(&error).contains("/dev/null"), "{}", full(&error)),
        }
    }
    drop(exchanging);
    assert!(masked > 0);
    assert_eq!(fs::read_to_string(bundle.rootfs().join("false")).unwrap(), "false\n");
}

/// CVE-2025-52565: the terminal would be put over what /dev/console leads to, before that is masked.
fn a_console_that_is_a_link_covers_nothing_else() {
    let mut bundle = Bundle::new();
    fs::write(bundle.rootfs().join("victim"), "untouched\n").unwrap();
    let dev = bundle.rootfs().join("dev");
    symlink("../victim", dev.join("console")).unwrap();
    for place in ["/dev", "/dev/shm", "/dev/mqueue"] {
        bundle.unmount(place);
    }
    fs::create_dir(dev.join("pts")).unwrap();
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["args"] = json!(["sleep", "20"]);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let options = CreateOptions { console: Some(OwnedFd::from(theirs)), ..CreateOptions::default() };
    let running = bundle.create_with(options).unwrap();
    let _terminal = console::receive(ours.as_fd()).unwrap();
    let info = running.proc("mountinfo");
    assert!(mount_at(&info, "/victim").is_none(), "{info}");
    assert!(mount_at(&info, "/dev/console").unwrap().1.starts_with("devpts "), "{info}");
    let root = format!("/proc/{}/root", running.pid());
    assert_eq!(fs::read_to_string(format!("{root}/victim")).unwrap(), "untouched\n");
    let victim = fs::metadata(bundle.rootfs().join("victim")).unwrap();
    assert_eq!((victim.uid(), victim.mode() & 0o777), (0, 0o644));
}

/// CVE-2025-52881: what is written below /proc lands in a file of the image, or in another file of procfs, and what it
/// should have set stays as it was.
fn a_false_proc_takes_no_parameter() {
    let name = "sys/net/ipv4/ip_unprivileged_port_start";
    let bundle = |links: bool| {
        let mut bundle = Bundle::new();
        bundle.unmount("/proc");
        let place = bundle.rootfs().join("proc").join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(bundle.rootfs().join("victim"), "").unwrap();
        if links {
            symlink("/victim", &place).unwrap();
        } else {
            fs::write(&place, "").unwrap();
        }
        bundle.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "80"});
        bundle.spec["process"]["oomScoreAdj"] = json!(123);
        // A second procfs, so that what is set can be seen.
        bundle.mount(json!({"destination": "/real", "type": "proc", "source": "proc"}));
        bundle.script(&format!("cat /real/{name} /real/self/oom_score_adj; cat /victim /proc/{name}"));
        bundle
    };
    for links in [false, true] {
        let bundle = bundle(links);
        assert_eq!(bundle.run(), "80\n123\n", "with links: {links}");
        assert_eq!(fs::read_to_string(bundle.rootfs().join("victim")).unwrap(), "");
    }
    // Another process finds the false one too, and is set from outside.
    let mut bundle = bundle(true);
    bundle.script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let (status, log) =
        running.exec_as("cat /real/self/oom_score_adj", |process| process.oom_score_adj = Some(321));
    assert_eq!((status, log.as_str()), (0, "321\n"));
}

fn proc_and_sys_cannot_be_covered() {
    let source = tempfile::tempdir().unwrap();
    let cases = [
        json!({"destination": "/proc", "type": "bind", "source": source.path(), "options": ["bind"]}),
        json!({"destination": "/proc", "type": "bind", "source": "/proc/sys", "options": ["bind"]}),
        json!({"destination": "/proc/self", "type": "bind", "source": source.path(), "options": ["bind"]}),
        json!({"destination": "/proc/sys/kernel", "type": "tmpfs", "source": "x"}),
        // By other names.
        json!({"destination": "/way/self", "type": "tmpfs", "source": "x"}),
        json!({"destination": "/tmp/../proc/self", "type": "tmpfs", "source": "x"}),
        json!({"destination": "//proc/./self", "type": "tmpfs", "source": "x"}),
    ];
    for mount in cases {
        let mut bundle = Bundle::new();
        symlink("proc", bundle.rootfs().join("way")).unwrap();
        let destination = mount["destination"].clone();
        bundle.mount(mount);
        let error = bundle.refused();
        assert!(error.contains("proc") || error.contains(".."), "{destination}: {error}");
    }
    // What lxcfs and its like do is allowed.
    let mut bundle = Bundle::with_script("cat /proc/uptime");
    fs::write(source.path().join("uptime"), "1.00 2.00\n").unwrap();
    bundle.mount(json!({"destination": "/proc/uptime", "type": "bind", "source": source.path().join("uptime"), "options": ["bind"]}));
    assert_eq!(bundle.run(), "1.00 2.00\n");
}

fn a_bundle_that_is_no_bundle_is_refused_at_once() {
    let start = Instant::now();
    let refused = |bundle: &Bundle| {
        let id = ContainerId::parse("floe-inside-hostile").unwrap();
        full(&bundle.store().create(&id, bundle.path(), CreateOptions::default()).map(|_| ()).unwrap_err())
    };
    let bundle = Bundle::new();
    let file = bundle.path().join("config.json");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refused(&bundle).contains("is no file"));
    for (target, words) in [
        ("/dev/zero", "is no file"),
        ("/not/there", "does not exist"),
        ("rootfs/etc/passwd", "is not a valid OCI configuration"),
    ] {
        fs::remove_file(&file).unwrap();
        symlink(target, &file).unwrap();
        let error = refused(&bundle);
        assert!(error.contains(words), "{target}: {error}");
    }
    fs::remove_file(&file).unwrap();
    fs::write(&file, "[".repeat(1_000_000)).unwrap();
    assert!(refused(&bundle).contains("config.json"));
    // The root: the host's own, by any name, or no folder.
    for (path, words) in [
        ("/", "root.path"),
        ("../../../../../../..", "root.path"),
        ("link", "root.path"),
        ("config.json", "root.path"),
        ("", ""),
    ] {
        let mut bundle = Bundle::new();
        symlink("/", bundle.path().join("link")).unwrap();
        bundle.spec["root"]["path"] = json!(path);
        if path.is_empty() {
            bundle.spec.as_object_mut().unwrap().remove("root");
        }
        let error = bundle.refused();
        assert!(error.contains(words), "{path}: {error}");
        assert!(bundle.store().list().unwrap().is_empty());
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

fn a_million_mounts_are_refused_at_once() {
    let start = Instant::now();
    let bundle = Bundle::new();
    let error = |count: usize| {
        let mounts = r#"{"destination":"/x","type":"tmpfs","source":"x"},"#.repeat(count);
        let mut spec = bundle.spec.clone();
        spec["mounts"] = json!("here");
        let text = spec.to_string().replace(r#""here""#, &format!("[{}]", mounts.trim_end_matches(',')));
        fs::write(bundle.path().join("config.json"), text).unwrap();
        full(&floe_runtime::read_bundle(bundle.path()).map(|_| ()).unwrap_err())
    };
    let many = error(1_000_000);
    assert!(many.contains("is no file of at most 32 MiB"), "{many}");
    let many = error(110_000);
    assert!(many.contains("mounts in") && many.contains("has 110000 entries"), "{many}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

fn names_lead_nowhere() {
    for name in ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "@new-1", &"x".repeat(1025)] {
        assert!(ContainerId::parse(name).is_err(), "{name:?}");
    }
}

/// What a container does with its streams, its user and its devices, it does not do to the host's.
fn the_hosts_null_device_stays_as_it_is() {
    let about = || {
        ["/dev/null", "/dev/zero", "/dev/tty"].map(|path| {
            let about = fs::metadata(path).unwrap();
            (about.uid(), about.gid(), about.mode(), about.rdev(), about.ino())
        })
    };
    let before = about();
    let attack = |mapped: bool, changes: &[&str]| {
        let mut bundle =
            Bundle::with_script("chmod 600 /dev/null; chown 1:1 /dev/null; echo > /dev/null; echo done");
        bundle.applet("chmod");
        bundle.applet("chown");
        if mapped {
            bundle.map_ids();
        }
        for change in changes {
            match *change {
                "user" => bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}),
                // With another owner and mode.
                "device" => {
                    bundle.spec["linux"]["devices"] = json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3,
                        "fileMode": 0o600, "uid": 7, "gid": 7}]);
                }
                _ => bundle.spec["linux"]["maskedPaths"] = json!(["/etc/passwd"]),
            }
        }
        assert!(bundle.run_to_end().1.ends_with("done\n"), "{mapped} {changes:?}: {}", bundle.log());
        assert_eq!(about(), before, "{mapped} {changes:?}");
    };
    for mapped in [false, true] {
        for changes in [&[][..], &["user"], &["device"], &["mask"], &["user", "device", "mask"]] {
            attack(mapped, changes);
        }
    }
    // Where the host's own /dev is the container's, it is only used.
    let mut host = Bundle::with_script("echo > /dev/null; stat -c %a /dev/null");
    for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        host.unmount(place);
    }
    host.mount(json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}));
    host.spec["linux"]["maskedPaths"] = json!(["/etc/passwd"]);
    host.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(host.run(), "666\n");
    assert_eq!(about(), before);
}
