use std::fs;

use super::*;
use crate::config::{BlockIo, Cpu, Memory, Rdma, Resources, ThrottleDevice, WeightDevice};

/// A directory that looks like a set of hierarchies. The files have to exist, as they do in a cgroup.
struct Fake {
    dir: tempfile::TempDir,
    cgroup: V1,
}

impl Fake {
    fn new(hierarchies: &[(&str, &[&str])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut directories = CgroupPaths::new();
        for (name, files) in hierarchies {
            let path = dir.path().join(name).join("web");
            fs::create_dir_all(&path).unwrap();
            files.iter().for_each(|file| fs::write(path.join(file), "").unwrap());
            directories.insert((*name).to_owned(), path);
        }
        Self { cgroup: V1::new(directories), dir }
    }

    fn content(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).unwrap()
    }
}

#[test]
fn limits_go_to_the_files_of_their_controllers() {
    let fake = Fake::new(&[
        ("memory", &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"]),
        ("cpu,cpuacct", &["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"]),
        ("cpuset", &["cpuset.cpus", "cpuset.mems"]),
        ("pids", &["pids.max"]),
        ("blkio", &["blkio.throttle.read_bps_device"]),
    ]);
    let resources = Resources {
        memory: Memory {
            limit: Some(64 << 20),
            swap: Some(128 << 20),
            reservation: Some(1 << 20),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            cpus: Some("0-1".to_owned()),
            mems: Some(String::new()),
            ..Cpu::default()
        },
        pids: Some(42),
        block_io: BlockIo {
            read_bps: vec![ThrottleDevice { major: 8, minor: 16, rate: 1024 }],
            ..BlockIo::default()
        },
        ..Resources::default()
    };
    fake.cgroup.apply_limits(&resources).unwrap();
    assert_eq!(fake.content("memory/web/memory.limit_in_bytes"), "67108864");
    assert_eq!(fake.content("memory/web/memory.memsw.limit_in_bytes"), "134217728");
    assert_eq!(fake.content("memory/web/memory.soft_limit_in_bytes"), "1048576");
    assert_eq!(fake.content("cpu,cpuacct/web/cpu.shares"), "512");
    assert_eq!(fake.content("cpu,cpuacct/web/cpu.cfs_quota_us"), "50000");
    assert_eq!(fake.content("cpuset/web/cpuset.cpus"), "0-1");
    assert_eq!(fake.content("cpuset/web/cpuset.mems"), "", "an empty list is not said");
    assert_eq!(fake.content("pids/web/pids.max"), "42");
    assert_eq!(fake.content("blkio/web/blkio.throttle.read_bps_device"), "8:16 1024");
}

#[test]
fn no_limit_touches_nothing() {
    let fake = Fake::new(&[("memory", &["memory.limit_in_bytes"])]);
    fake.cgroup.apply_limits(&Resources::default()).unwrap();
    assert_eq!(fake.content("memory/web/memory.limit_in_bytes"), "");
}

#[test]
fn a_limit_without_its_controller_names_it() {
    let fake = Fake::new(&[("freezer", &["freezer.state"])]);
    let resources = Resources { pids: Some(1), ..Resources::default() };
    match fake.cgroup.apply_limits(&resources).unwrap_err() {
        Error::NoController { controller, needed_for, .. } => {
            assert_eq!((controller.as_str(), needed_for.as_str()), ("pids", "linux.resources.pids.limit"));
        }
        other => panic!("{other}"),
    }
    let memory = Fake::new(&[("memory", &["memory.limit_in_bytes"])]);
    let resources = Resources {
        memory: Memory { limit: Some(1 << 20), swap: Some(2 << 20), ..Memory::default() },
        ..Resources::default()
    };
    assert!(matches!(memory.cgroup.apply_limits(&resources).unwrap_err(), Error::NoController { .. }));
    assert!(!memory.dir.path().join("memory/web/memory.memsw.limit_in_bytes").exists(), "no file is made");
}

#[test]
fn a_new_cpuset_gets_what_its_parent_has() {
    let dir = tempfile::tempdir().unwrap();
    let child = dir.path().join("web");
    fs::create_dir(&child).unwrap();
    for (path, cpus) in [(dir.path(), "0-3"), (child.as_path(), "")] {
        fs::write(path.join("cpuset.cpus"), cpus).unwrap();
        fs::write(path.join("cpuset.mems"), cpus).unwrap();
    }
    cpuset::inherit(&child).unwrap();
    assert_eq!(fs::read_to_string(child.join("cpuset.cpus")).unwrap(), "0-3");
    fs::write(child.join("cpuset.cpus"), "1").unwrap();
    cpuset::inherit(&child).unwrap();
    assert_eq!(fs::read_to_string(child.join("cpuset.cpus")).unwrap(), "1", "what was chosen stays");
}

#[test]
fn what_does_not_exist_is_empty_and_thawed() {
    let cgroup = V1::new(CgroupPaths::from([("freezer".to_owned(), PathBuf::from("/nonexistent/web"))]));
    assert!(cgroup.processes().unwrap().is_empty());
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.thaw().unwrap();
    cgroup.kill_all().unwrap();
    cgroup.destroy().unwrap();
    assert!(matches!(cgroup.freeze().unwrap_err(), Error::Call { .. }));
}

#[test]
fn weights_of_leaves_go_to_the_scheduler_that_has_them() {
    // As CFQ named them, which went with Linux 5.0.
    let files = ["blkio.weight", "blkio.weight_device", "blkio.leaf_weight", "blkio.leaf_weight_device"];
    let fake = Fake::new(&[("blkio", &files)]);
    let device = WeightDevice { major: 8, minor: 16, weight: Some(500), leaf_weight: Some(20) };
    let block_io = BlockIo {
        weight: Some(300),
        leaf_weight: Some(30),
        weight_devices: vec![device],
        ..BlockIo::default()
    };
    fake.cgroup.apply_limits(&Resources { block_io, ..Resources::default() }).unwrap();
    let found = files.map(|file| fake.content(&format!("blkio/web/{file}")));
    assert_eq!(found, ["300", "8:16 500", "30", "8:16 20"]);
}

#[test]
fn a_line_for_each_device_of_rdma() {
    let fake = Fake::new(&[("rdma", &["rdma.max"])]);
    let set = |limit: Rdma| {
        let rdma = [("mlx4_0".to_owned(), limit)].into();
        fake.cgroup.apply_limits(&Resources { rdma, ..Resources::default() }).unwrap();
        fake.content("rdma/web/rdma.max")
    };
    assert_eq!(set(Rdma { hca_handles: Some(3), hca_objects: Some(7) }), "mlx4_0 hca_handle=3 hca_object=7");
    fs::write(fake.dir.path().join("rdma/web/rdma.max"), "").unwrap();
    assert_eq!(set(Rdma { hca_handles: None, hca_objects: Some(9) }), "mlx4_0 hca_object=9");
}
