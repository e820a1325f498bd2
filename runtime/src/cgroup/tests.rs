//! On the host's real cgroups, version 1 and 2 as far as it has them.

use std::process::{Child, Command};
use std::time::Duration;

use std::path::Path;

use super::*;
use crate::config::Memory;

/// A cgroup that is removed with what is in it.
struct Real(Box<dyn Cgroup>);

impl Drop for Real {
    fn drop(&mut self) {
        self.0.kill_all().and_then(|()| self.0.destroy()).expect("the test's cgroup can be removed");
    }
}

/// The version that containers of this host use and, on a hybrid host, the unified one beside it.
fn each_version(name: &str) -> Vec<Real> {
    assert!(nix::unistd::geteuid().is_root(), "cgroups are made by root only: run the tests as root");
    let name = format!("floe-test-{name}-{}", std::process::id());
    let own = place::open_path(Path::new(&name)).unwrap();
    let mut found = Vec::new();
    if own.version() == CgroupVersion::V1 {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let unified = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
        });
        found.extend(
            unified.map(|root| Real(Box::new(V2::new(root.clone(), root.join(format!("{name}-v2")))))),
        );
    }
    found.push(Real(own));
    found
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Processor time that a process has used, in clock ticks: field 14 of `/proc/PID/stat`.
fn ticks(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(11).unwrap().parse().unwrap()
}

/// Whether a process that never sleeps gets on.
fn gets_on(pid: Pid) -> bool {
    let before = ticks(pid);
    (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(2));
        ticks(pid) > before + 2
    })
}

#[test]
fn a_process_is_added_frozen_thawed_and_ended() {
    for Real(cgroup) in &each_version("life") {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        cgroup.claim().unwrap();
        cgroup.add(pid(&child)).unwrap();
        assert_eq!(cgroup.processes().unwrap(), [pid(&child)]);
        assert!(matches!(cgroup.claim().unwrap_err(), Error::CgroupInUse { .. }));

        assert!(!cgroup.is_frozen().unwrap());
        cgroup.freeze().unwrap();
        assert!(cgroup.is_frozen().unwrap());
        assert!(!gets_on(pid(&child)));
        cgroup.thaw().unwrap();
        assert!(!cgroup.is_frozen().unwrap());
        assert!(gets_on(pid(&child)));

        cgroup.freeze().unwrap();
        cgroup.kill_all().unwrap();
        child.wait().unwrap();
        assert!(cgroup.processes().unwrap().is_empty());
        assert!(!cgroup.is_frozen().unwrap());
        cgroup.destroy().unwrap();
        assert!(cgroup.paths().iter().all(|path| !path.exists()));
    }
}

#[test]
fn joining_makes_no_cgroup() {
    for Real(cgroup) in &each_version("join") {
        let mut child = sleeper();
        assert!(matches!(cgroup.join(pid(&child), pid(&child)).unwrap_err(), Error::Call { .. }));
        assert!(cgroup.paths().iter().all(|path| !path.exists()));
        cgroup.claim().unwrap();
        cgroup.join(pid(&child), pid(&child)).unwrap();
        assert_eq!(cgroup.processes().unwrap(), [pid(&child)]);
        cgroup.kill_all().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn what_forks_without_end_is_ended_too() {
    for Real(cgroup) in &each_version("fork") {
        let mut bomb = Command::new("sh")
            .args(["-c", "sleep 0.1; f() { while :; do (sleep 1000 & f) & sleep 0.01; done; }; f"])
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        cgroup.claim().unwrap();
        // Without a bound the bomb would take the host with it before it is ended.
        let bounded = cgroup.apply_limits(&Resources { pids: Some(60), ..Resources::default() });
        if bounded.is_err() {
            bomb.kill().unwrap();
        } else {
            cgroup.add(pid(&bomb)).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            assert!(cgroup.processes().unwrap().len() > 5);
            cgroup.kill_all().unwrap();
        }
        bomb.wait().unwrap();
        assert!(cgroup.processes().unwrap().is_empty());
    }
}

#[test]
fn limits_are_in_the_kernel() {
    let Real(cgroup) = &each_version("limits").pop().unwrap();
    cgroup.claim().unwrap();
    let mut resources = Resources {
        memory: Memory { limit: Some(64 << 20), ..Memory::default() },
        pids: Some(17),
        ..Resources::default()
    };
    cgroup.apply_limits(&resources).unwrap();
    let value = |names: [&str; 2]| {
        let file = cgroup
            .paths()
            .into_iter()
            .flat_map(|path| names.map(|name| path.join(name)))
            .find(|path| path.exists());
        std::fs::read_to_string(file.unwrap()).unwrap().trim().to_owned()
    };
    assert_eq!(value(["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(value(["pids.max", "pids.max"]), "17");
    // Up and down again, where version 1 wants the right order of memory and swap.
    for limit in [256_i64 << 20, 32 << 20] {
        resources.memory = Memory { limit: Some(limit), swap: Some(limit * 2), ..Memory::default() };
        cgroup.apply_limits(&resources).unwrap();
        assert_eq!(value(["memory.limit_in_bytes", "memory.max"]), limit.to_string());
    }
    resources.memory = Memory { limit: Some(-1), ..Memory::default() };
    cgroup.apply_limits(&resources).unwrap();
    assert_ne!(value(["memory.limit_in_bytes", "memory.max"]), (32 << 20).to_string());
}

#[test]
fn nested_groups_belong_to_it() {
    for Real(cgroup) in &each_version("nested") {
        cgroup.claim().unwrap();
        let below = cgroup.freezer_path().unwrap().join("inner/most");
        std::fs::create_dir_all(&below).unwrap();
        let mut child = sleeper();
        std::fs::write(below.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert_eq!(cgroup.processes().unwrap(), [pid(&child)]);
        assert!(cgroup.destroy().is_err(), "it is busy");
        cgroup.kill_all().unwrap();
        child.wait().unwrap();
        cgroup.destroy().unwrap();
        assert!(!below.exists());
    }
}

#[test]
fn a_path_that_is_a_root_or_leads_upwards_is_refused() {
    for bad in ["", "/", "..", "/a/..", "/a/../../b", "."] {
        assert!(place::inner_path(Path::new(bad)).is_err(), "{bad:?}");
    }
    assert_eq!(place::inner_path(Path::new("/a/./b")).unwrap(), Path::new("a/b"));
    assert_eq!(place::inner_path(Path::new("web")).unwrap(), Path::new("web"));
}

#[test]
fn former_limits_come_back() {
    let Real(cgroup) = &each_version("former").pop().unwrap();
    cgroup.claim().unwrap();
    let pids = |limit| Resources { pids: Some(limit), ..Resources::default() };
    cgroup.apply_limits(&pids(17)).unwrap();
    let former = cgroup.apply_limits(&pids(33)).unwrap();
    let limit = || cgroup.stats().unwrap().pids.limit;
    assert_eq!(limit(), 33);
    former.set_again().unwrap();
    assert_eq!(limit(), 17);
    // Of two, the second is refused.
    let bad = Resources {
        cpu: crate::config::Cpu { cpus: Some("4095".to_owned()), ..Default::default() },
        ..pids(5)
    };
    assert!(matches!(cgroup.apply_limits(&bad).unwrap_err(), Error::Limit { .. }));
    assert_eq!(limit(), 17);
}

/// Writes a file that is larger than its cgroup again and again, so that the page cache is always full.
fn writer(dir: &Path) -> Child {
    let script = "while :; do dd if=/dev/zero of=\"$0\" bs=1M count=24 2>/dev/null; done";
    Command::new("sh").args(["-c", script]).arg(dir.join("big")).spawn().unwrap()
}

#[test]
fn memory_pressure_is_told() {
    let dir = tempfile::Builder::new().tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let Real(cgroup) = &each_version("pressure").pop().unwrap();
    cgroup.claim().unwrap();
    let memory = Memory { limit: Some(8 << 20), ..Memory::default() };
    cgroup.apply_limits(&Resources { memory, ..Resources::default() }).unwrap();
    let pressure = match cgroup.version() {
        CgroupVersion::V1 => Pressure::Level(PressureLevel::Low),
        CgroupVersion::V2 => {
            let (time, window) = (Duration::from_millis(1), Duration::from_secs(2));
            Pressure::Stall { stall: Stall::Some, time, window }
        }
    };
    let mut watch = cgroup.watch_memory_pressure(pressure).unwrap();
    assert_eq!(watch.wait(Some(Duration::from_millis(50))).unwrap(), None);
    let mut child = writer(dir.path());
    cgroup.add(pid(&child)).unwrap();
    let told = watch.wait(Some(Duration::from_secs(30)));
    cgroup.kill_all().unwrap();
    child.wait().unwrap();
    assert_eq!(told.unwrap(), Some(Notice::Pressure));
}

#[test]
fn a_trigger_of_the_unified_hierarchy_is_taken() {
    let found = each_version("trigger");
    let Real(cgroup) = found
        .iter()
        .find(|Real(one)| one.version() == CgroupVersion::V2)
        .expect("this test needs cgroup version 2: mount -t cgroup2 none /sys/fs/cgroup/unified, as root");
    cgroup.claim().unwrap();
    let stall = |time| Pressure::Stall { stall: Stall::Full, time, window: Duration::from_secs(2) };
    let mut watch = cgroup.watch_memory_pressure(stall(Duration::from_millis(100))).unwrap();
    assert_eq!(watch.wait(Some(Duration::from_millis(20))).unwrap(), None);
    let error = cgroup.watch_memory_pressure(stall(Duration::from_secs(3))).unwrap_err();
    assert!(error.to_string().contains("memory.pressure"), "longer than its window: {error}");
    cgroup.destroy().unwrap();
    assert_eq!(watch.wait(None).unwrap(), Some(Notice::Gone));
}

#[test]
fn the_end_of_a_cgroup_is_told() {
    let Real(cgroup) = &each_version("end").pop().unwrap();
    cgroup.claim().unwrap();
    let mut watch = cgroup.watch_out_of_memory().unwrap();
    assert_eq!(watch.wait(Some(Duration::from_millis(20))).unwrap(), None);
    cgroup.destroy().unwrap();
    assert_eq!(watch.wait(None).unwrap(), Some(Notice::Gone));
}

#[test]
fn an_unprivileged_owner_may_manage_a_delegated_cgroup() {
    for Real(cgroup) in &each_version("delegated") {
        cgroup.claim().unwrap();
        cgroup.delegate(4321).unwrap();
        let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
        let path = cgroup.freezer_path().unwrap();
        match cgroup.version() {
            CgroupVersion::V1 => assert_eq!(owner(&path), 0, "there an owner could lift limits"),
            CgroupVersion::V2 => {
                for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                    assert_eq!(owner(&path.join(file)), 4321, "{file}");
                }
                assert_eq!(owner(&path.join("cgroup.freeze")), 0, "what is the runtime's stays so");
            }
        }
    }
}
