//! Ten thousand malformed configurations: each ends in a configuration or in an error that says where, never in a panic.
//!
//! Half of them are valid JSON in which values were exchanged, removed and doubled, the others are the bytes of a
//! valid one after an accident. The seed is fixed, so that a failure comes again; it is printed with the case.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use floe_runtime::Error;
use floe_runtime::config::{Config, oci};
use serde_json::{Value, json};

const CASES: u64 = 10_000;

/// SplitMix64 (Steele, Lea, Flood 2014): numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

#[test]
fn no_malformed_configuration_ends_in_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rootfs")).unwrap();
    let valid = valid();
    let read = |text: &[u8]| oci::from_json(text, Path::new("/b/config.json"), dir.path());
    read(valid.to_string().as_bytes()).unwrap();
    let start = busy();
    let (mut good, mut bad) = (0, 0);
    for seed in 0..CASES {
        let mut random = Random(seed);
        let is_json = seed.is_multiple_of(2);
        let text = if is_json { exchanged(&valid, &mut random) } else { damaged(&valid, &mut random) };
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&text)));
        let shown = || format!("seed {seed}: {}", String::from_utf8_lossy(&text));
        match outcome {
            Err(_) => panic!("{}", shown()),
            Ok(Ok(config)) => {
                assert_eq!(again(&config), config, "{}", shown());
                good += 1;
            }
            Ok(Err(error)) => {
                check(&error, is_json, &shown);
                bad += 1;
            }
        }
    }
    let needed = busy() - start;
    assert!(needed < Duration::from_secs(60), "{needed:?}");
    assert!(good > CASES / 20 && bad > CASES / 5, "{good} good, {bad} bad: this tries nothing");
}

/// How long this thread has run: a test machine may have other things to do.
fn busy() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// As the process that becomes the container's receives it.
fn again(config: &Config) -> Config {
    serde_json::from_slice(&serde_json::to_vec(config).unwrap()).unwrap()
}

/// What is wrong in valid JSON has a key.
fn check(error: &Error, is_json: bool, shown: &dyn Fn() -> String) {
    match error {
        Error::BadConfig { key, problem, .. } => {
            assert!(!key.is_empty() && !problem.is_empty(), "{}", shown())
        }
        Error::Unsupported { key, reason, .. } => {
            assert!(!key.is_empty() && !reason.is_empty(), "{}", shown())
        }
        Error::Missing { what: "root file system", .. } => {}
        Error::Json { .. } if !is_json => {}
        other => panic!("{other}: {}", shown()),
    }
}

/// One to four values of `valid` are others, or gone, or there twice, or have another name.
fn exchanged(valid: &Value, random: &mut Random) -> Vec<u8> {
    let mut value = valid.clone();
    for _ in 0..=random.below(4) {
        let mut places = Vec::new();
        list(&value, String::new(), &mut places);
        if places.is_empty() {
            break;
        }
        let place = places[random.below(places.len())].clone();
        let donor = value.pointer(&places[random.below(places.len())]).cloned().unwrap();
        let (parent, name) = place.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/").replace("~0", "~");
        let what = random.below(6);
        let new = if what == 0 { donor } else { odd(random) };
        match (value.pointer_mut(parent).unwrap(), what) {
            (Value::Object(map), 1) => drop(map.remove(&name)),
            (Value::Object(map), 2) => {
                let old = map.remove(&name).unwrap();
                map.insert(format!("{name}{}", random.below(3)), old);
            }
            (Value::Object(map), _) => drop(map.insert(name, new)),
            (Value::Array(all), 1) => drop(all.remove(name.parse().unwrap())),
            (Value::Array(all), 2) => all.push(all[name.parse::<usize>().unwrap()].clone()),
            (Value::Array(all), _) => all[name.parse::<usize>().unwrap()] = new,
            _ => unreachable!("a place lies in a list or in a map"),
        }
    }
    serde_json::to_vec(&value).unwrap()
}

/// The JSON pointers (RFC 6901) of everything in `value`.
fn list(value: &Value, at: String, places: &mut Vec<String>) {
    if !at.is_empty() {
        places.push(at.clone());
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(name, one)| {
            list(one, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), places)
        }),
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(number, one)| list(one, format!("{at}/{number}"), places));
        }
        _ => {}
    }
}

fn odd(random: &mut Random) -> Value {
    let numbers = [
        json!(0),
        json!(-1),
        json!(1),
        json!(255),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(i32::MIN),
        json!(4096),
        json!(1e308),
        json!(-0.5),
    ];
    let texts = [
        "",
        "/",
        ".",
        "..",
        "../..",
        "/..",
        "//",
        "/proc/self/ns/mnt",
        "/proc/self/fd/0",
        "rbind",
        "idmap",
        "remount",
        "size=",
        "=",
        ",",
        ":",
        "a:b:c",
        "\u{0}",
        "/\u{0}",
        "ä\u{10ffff}",
        "net.",
        "net..x",
        "kernel/..",
        "CAP_",
        "shared",
        "RLIMIT_CPU",
        "user",
        "tmpfs",
        "cgroup",
        "bind",
        "\"",
        "{}",
        "0",
        "-1",
        "default",
    ];
    match random.below(10) {
        0 => Value::Null,
        1 => json!(random.next().is_multiple_of(2)),
        2..4 => numbers[random.below(numbers.len())].clone(),
        4 => json!(random.next()),
        5 => json!([]),
        6 => json!({}),
        7 => json!("x".repeat(random.below(10_000))),
        8 => (0..random.below(200)).fold(Value::Null, |inner, _| json!([inner])),
        _ => json!(texts[random.below(texts.len())]),
    }
}

/// The bytes of `valid` after up to eight accidents.
fn damaged(valid: &Value, random: &mut Random) -> Vec<u8> {
    let mut text = valid.to_string().into_bytes();
    for _ in 0..=random.below(8) {
        let at = random.below(text.len());
        let length = (1 + random.below(40)).min(text.len() - at);
        match random.below(5) {
            0 => text[at] ^= 1 << random.below(8),
            1 => drop(text.drain(at..at + length)),
            2 => {
                let part = text[at..at + length].to_vec();
                let to = random.below(text.len());
                text.splice(to..to, part);
            }
            3 => text[at] = b"{}[],:\"\\0-.e"[random.below(12)],
            _ => text.truncate(text.len() - length.min(text.len() - 1)),
        }
        if text.is_empty() {
            text.push(b'{');
        }
    }
    text
}

/// With a value for everything that is converted.
fn valid() -> Value {
    let hook = json!([{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let names = json!(["CAP_KILL", "CAP_CHOWN"]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true, "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
            "args": ["sh", "-c", "true"], "env": ["PATH=/bin", "A="], "cwd": "/",
            "capabilities": {"bounding": names, "effective": names, "inheritable": names, "permitted": names, "ambient": names},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
            "noNewPrivileges": true, "oomScoreAdj": 5,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "host", "domainname": "domain",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "tmpcopyup"]},
            {"destination": "/data", "source": "data", "options": ["rbind", "ro", "rro", "rprivate", "idmap"],
             "uidMappings": map, "gidMappings": map},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "relatime"]},
            {"destination": "/dev", "type": "none", "source": "none", "options": ["remount", "bind", "noexec"]},
            {"destination": "/link", "type": "bind", "source": "link", "options": ["copy-symlink"]},
        ],
        "hooks": {
            "prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook, "poststart": hook,
            "poststop": hook,
        },
        "annotations": {"a": "b", "c.d/e": ""},
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"}, {"type": "user"}, {"type": "time"},
            ],
            "uidMappings": map, "gidMappings": map,
            "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}, "boottime": {"secs": -1}},
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
                {"path": "/dev/pipe", "type": "p"}],
            "cgroupsPath": "/a/b",
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}],
                "memory": {"limit": 1_000_000, "reservation": 1, "swap": 2_000_000, "swappiness": 10, "disableOOMKiller": true},
                "cpu": {"shares": 10, "quota": 1000, "period": 10_000, "cpus": "0-1", "mems": "0", "realtimeRuntime": 1},
                "pids": {"limit": 9},
                "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
                "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 5}]},
                "unified": {"memory.high": "100"},
            },
            "sysctl": {"net.ipv4.ip_forward": "1", "kernel/shmmax": "9"},
            "rootfsPropagation": "rslave",
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
        },
    })
}
