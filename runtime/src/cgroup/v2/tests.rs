use std::fs;

use super::*;
use crate::config::{Cpu, Memory, Resources};

fn fake(files: &[&str]) -> (tempfile::TempDir, V2) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web");
    fs::create_dir(&path).unwrap();
    files.iter().for_each(|file| fs::write(path.join(file), "").unwrap());
    let cgroup = V2::new(dir.path().to_owned(), path);
    (dir, cgroup)
}

#[test]
fn limits_are_converted_to_this_versions_units() {
    let (dir, cgroup) =
        fake(&["memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max", "memory.high"]);
    let resources = Resources {
        memory: Memory { limit: Some(64 << 20), swap: Some(96 << 20), ..Memory::default() },
        cpu: Cpu { shares: Some(1024), quota: Some(50_000), ..Cpu::default() },
        pids: Some(-1),
        unified: [("memory.high".to_owned(), "1048576".to_owned())].into(),
        ..Resources::default()
    };
    cgroup.apply_limits(&resources).unwrap();
    let content = |file: &str| fs::read_to_string(dir.path().join("web").join(file)).unwrap();
    assert_eq!(content("memory.max"), "67108864");
    assert_eq!(content("memory.swap.max"), "33554432");
    assert_eq!(content("cpu.weight"), "100");
    assert_eq!(content("cpu.max"), "50000");
    assert_eq!(content("pids.max"), "max");
    assert_eq!(content("memory.high"), "1048576");
}

#[test]
fn what_only_version_1_has_is_refused() {
    let (_dir, cgroup) = fake(&[]);
    let memory = Memory { swappiness: Some(10), ..Memory::default() };
    let error = cgroup.apply_limits(&Resources { memory, ..Resources::default() }).unwrap_err();
    assert!(error.to_string().contains("swappiness") && error.hint().is_some(), "{error}");
    let unified = [("../x".to_owned(), "1".to_owned())].into();
    assert!(cgroup.apply_limits(&Resources { unified, ..Resources::default() }).is_err());
}

#[test]
fn a_limit_without_its_controller_names_it() {
    let (_dir, cgroup) = fake(&[]);
    let error = cgroup.apply_limits(&Resources { pids: Some(5), ..Resources::default() }).unwrap_err();
    assert!(matches!(&error, Error::NoController { controller, .. } if controller == "pids"), "{error}");
}

#[test]
fn controllers_are_handed_down_level_by_level() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    for level in [dir.path().to_owned(), dir.path().join("a")] {
        fs::write(level.join("cgroup.controllers"), "memory pids").unwrap();
        fs::write(level.join("cgroup.subtree_control"), "memory").unwrap();
    }
    let cgroup = V2::new(dir.path().to_owned(), dir.path().join("a/b"));
    cgroup.claim().unwrap();
    // In a temporary directory the value stays as written, over the front of what was there.
    assert_eq!(fs::read_to_string(dir.path().join("a/cgroup.subtree_control")).unwrap(), "+pidsy");
    assert!(dir.path().join("a/b").is_dir());
}
