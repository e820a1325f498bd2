//! On the host's real cgroups, version 1 and 2 as far as it has them.

use std::process::{Child, Command};
use std::time::Duration;

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
    let own = open(Path::new(&name)).unwrap();
    let mut found = Vec::new();
    if own.version() == CgroupVersion::V1 {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let unified = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
        });
        found.extend(unified.map(|root| Real(Box::new(V2::new(root.clone(), root.join(&name))))));
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
        assert!(matches!(cgroup.join(pid(&child)).unwrap_err(), Error::Call { .. }));
        assert!(cgroup.paths().iter().all(|path| !path.exists()));
        cgroup.claim().unwrap();
        cgroup.join(pid(&child)).unwrap();
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
        assert!(inner_path(Path::new(bad)).is_err(), "{bad:?}");
    }
    assert_eq!(inner_path(Path::new("/a/./b")).unwrap(), Path::new("a/b"));
    assert_eq!(inner_path(Path::new("web")).unwrap(), Path::new("web"));
}
