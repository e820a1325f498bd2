//! The cgroup that a container comes back in, with its limits and with those that it had made below it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Place;
use crate::support::leaks::Picture;
use crate::support::program::Bundle;

/// The cgroups of a process of version 1, by hierarchy; the root is a host's hierarchy that it has no place of its own in.
fn cgroups(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let fields = text.lines().map(|line| line.splitn(3, ':').skip(1).map(str::to_owned).collect::<Vec<_>>());
    fields.map(|fields| (fields[0].clone(), fields[1].clone())).collect()
}

/// The folder of a cgroup.
fn folder(hierarchy: &str, path: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(hierarchy).join(path.trim_start_matches('/'))
}

/// The process of the container with this number in it, on the host.
fn process(place: &Place, name: &str, number: &str) -> i32 {
    let all = place.ok(["ps", "--format", "json", name]);
    let all: Vec<i32> = serde_json::from_str(&all).unwrap();
    let has = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap().to_owned();
        line.split_whitespace().last() == Some(number)
    };
    all.into_iter().find(has).unwrap_or_else(|| panic!("no process {number} in {name}"))
}

fn program(place: &Place) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["clock"]);
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    (bundle, name)
}

#[test]
fn it_is_in_its_own_cgroup_under_every_name_with_the_limits_that_it_had() {
    let place = Place::new("cgroup");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, mut name) = program(&place);
    let child = bundle.ask_ok("child");
    place.ok(["update", "--pids-limit", "77", "--memory", "123457536", "--cpu-share", "512", &name]);
    let limits = |name: &str| {
        let own = cgroups(place.pid(name));
        let files = [("pids", "pids.max"), ("memory", "memory.limit_in_bytes"), ("cpu", "cpu.shares")];
        files.map(|(hierarchy, file)| {
            let (names, path) =
                own.iter().find(|(names, _)| names.split(',').any(|one| one == hierarchy)).unwrap();
            fs::read_to_string(folder(names, path).join(file)).unwrap().trim().to_owned()
        })
    };
    assert_eq!(limits(&name), ["77", "123457536", "512"]);
    let shape = |name: &str, pid: i32| -> BTreeMap<String, String> {
        cgroups(pid).into_iter().map(|(hierarchy, path)| (hierarchy, path.replace(name, "NAME"))).collect()
    };
    let had = shape(&name, place.pid(&name));
    assert!(had.values().filter(|path| path.ends_with("/NAME")).count() > 3, "{had:?}");
    for round in ["again", "more", "last"] {
        name = place.there_and_back(&name, round, &[]);
        for pid in [place.pid(&name), process(&place, &name, &child)] {
            assert_eq!(shape(&name, pid), had, "{round}");
        }
        assert_eq!(limits(&name), ["77", "123457536", "512"], "{round}");
        bundle.ask_ok("clock");
    }
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

#[test]
fn cgroups_that_it_made_are_there_again_with_their_processes_and_limits() {
    let place = Place::new("inner");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, mut name) = program(&place);
    let child = bundle.ask_ok("child");
    let pid = process(&place, &name, &child);
    let own = cgroups(place.pid(&name));
    let inner = |own: &BTreeMap<String, String>, hierarchy: &str| {
        folder(hierarchy, &own[hierarchy]).join("inner/deep")
    };
    for hierarchy in ["memory", "pids", "cpuset"] {
        let deep = inner(&own, hierarchy);
        fs::create_dir_all(&deep).unwrap();
        if hierarchy == "cpuset" {
            for folder in [deep.parent().unwrap(), &deep] {
                fs::write(folder.join("cpuset.cpus"), "0").unwrap();
                fs::write(folder.join("cpuset.mems"), "0").unwrap();
            }
        }
        fs::write(deep.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    fs::write(inner(&own, "memory").join("memory.limit_in_bytes"), "67108864").unwrap();
    fs::write(inner(&own, "pids").parent().unwrap().join("pids.max"), "9").unwrap();
    for round in ["again", "more"] {
        name = place.there_and_back(&name, round, &[]);
        let (first, second) = (cgroups(place.pid(&name)), cgroups(process(&place, &name, &child)));
        for (hierarchy, path) in &first {
            let below = ["memory", "pids", "cpuset"].contains(&hierarchy.as_str());
            let expected = if below { format!("{path}/inner/deep") } else { path.clone() };
            assert_eq!(second[hierarchy], expected, "{round}: {hierarchy}");
        }
        let read = |path: PathBuf| fs::read_to_string(path).unwrap().trim().to_owned();
        assert_eq!(read(inner(&first, "memory").join("memory.limit_in_bytes")), "67108864");
        assert_eq!(read(inner(&first, "pids").parent().unwrap().join("pids.max")), "9");
        assert_eq!(read(inner(&first, "cpuset").join("cpuset.cpus")), "0");
        bundle.ask_ok("clock");
    }
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}
