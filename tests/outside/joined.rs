//! Namespaces that a container shares with others.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command};

use serde_json::json;

use crate::host::{Host, Named, join, native, start_native};
use crate::support::Place;
use crate::support::calls::eventually;
use crate::support::leaks::Picture;
use crate::support::program::Bundle;

#[test]
fn a_network_that_others_made_is_joined_again() {
    let place = Place::with_newest_criu("joined");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let named = Named::new();
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["listen", "0.0.0.0:7007"]);
    join(&bundle, "network", named.path());
    let mut name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    for round in ["again", "more"] {
        name = place.there_and_back(&name, round, &[]);
        let own = fs::read_link(format!("/proc/{}/ns/net", place.pid(&name))).unwrap();
        let shared = named.run("readlink /proc/self/ns/net");
        assert_eq!(own.to_str().unwrap(), shared.trim());
        let _peer = TcpStream::connect("10.7.0.9:7007").unwrap();
        bundle.ask_ok("accept");
        bundle.ask_ok("close");
    }
    // Somewhere else, as another bundle says.
    let archive = place.join("elsewhere.tar.zst");
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
    place.ok(["delete", &name]);
    named.run("ip link del net0");
    let other = Named::new();
    join(&bundle, "network", other.path());
    let moved = place.name("moved");
    place.ok([
        "restore",
        &moved,
        "--detach",
        "--from",
        archive.to_str().unwrap(),
        "--bundle",
        bundle.path().to_str().unwrap(),
    ]);
    let own = fs::read_link(format!("/proc/{}/ns/net", place.pid(&moved))).unwrap();
    assert_eq!(own.to_str().unwrap(), other.run("readlink /proc/self/ns/net").trim());
    let _peer = TcpStream::connect("10.7.0.9:7007").unwrap();
    bundle.ask_ok("accept");
    place.ok(["delete", "--force", &moved]);
    drop((named, other));
    before.assert_unchanged();
}

#[test]
fn what_it_added_to_a_network_of_others_is_there_again() {
    let place = Place::new("added");
    let _host = Host::new();
    let named = Named::new();
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "1", "--random", "50"]);
    let file = native(&place, &bundle, json!([{"type": "loopback", "address": "10.9.0.1/32"}]));
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["routes"] = json!([{"destination": "10.10.0.0/16", "gateway": "10.7.0.1"}]);
    for namespace in config["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "NEWNET" {
            namespace["path"] = json!(named.path());
        }
    }
    fs::write(&file, config.to_string()).unwrap();
    let look = || named.run("ip -oneline -4 addr show") + &named.run("ip route");
    let alone = look();
    let mut name = place.name("first");
    start_native(&place, &bundle, &file, &name);
    let had = look();
    assert!(had.contains("10.9.0.1/32") && had.contains("10.10.0.0/16 via 10.7.0.1"), "{had}");
    let archive = place.join("added.tar.zst");
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
    assert_eq!(look(), alone, "frozen, it has taken its own out");
    place.ok(["delete", &name]);
    name = place.name("again");
    place.ok(["restore", &name, "--detach", "--from", archive.to_str().unwrap()]);
    assert_eq!(look(), had);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
    assert_eq!(look(), alone);
}

/// A pid namespace with a first process that takes notice of those that end, as a pod's does.
struct Pids(Child);

impl Pids {
    fn new() -> Self {
        let first = "trap : CHLD; sleep 1000 & while :; do wait; done";
        let child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "bash", "-c", first])
            .spawn()
            .unwrap();
        let pids = Self(child);
        eventually("the first process of the namespace is there", || pids.path().exists());
        pids
    }

    /// The namespace of the child's children, which is there with the first of them.
    fn path(&self) -> std::path::PathBuf {
        format!("/proc/{}/ns/pid_for_children", self.0.id()).into()
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pid_namespace_of_others_is_joined_again() {
    let place = Place::new("pids");
    let before = Picture::without_criu(&place, &[]);
    let pids = Pids::new();
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "1", "--random", "50"]);
    join(&bundle, "pid", &pids.path());
    let mut name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    let number = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", place.pid(name))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap().to_owned();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let had = number(&name);
    assert_ne!(had, "1");
    for round in ["again", "more"] {
        name = place.there_and_back(&name, round, &[]);
        bundle.ask_ok("");
        assert_eq!(number(&name), had);
        let own = fs::read_link(format!("/proc/{}/ns/pid", place.pid(&name))).unwrap();
        assert_eq!(own, fs::read_link(pids.path()).unwrap());
    }
    // A clone beside it would need the same number.
    let archive = place.join("clone.tar.zst");
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running"]);
    let said = place.run(["restore", &place.name("clone"), "--detach", "--from", archive.to_str().unwrap()]);
    assert!(said.code == Some(3) && said.stderr.contains("process id"), "{said:?}");
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
    drop(pids);
    before.assert_unchanged();
}
