//! A host of one's own, as far as the network goes.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::support::program::Bundle;
use crate::support::{Place, said, tool};

/// The calling thread, and what it starts, is in a network namespace of its own while this is there.
pub struct Host {
    before: File,
}

impl Host {
    /// With the bridge `br0`, which has the addresses 10.7.0.1/24 and fd07::1/64.
    pub fn new() -> Self {
        let before = File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        ip("link add br0 address 02:00:00:00:07:00 type bridge");
        ip("link set br0 up");
        ip("addr add 10.7.0.1/24 dev br0");
        ip("addr add fd07::1/64 dev br0 nodad");
        Self { before }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        setns(self.before.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
    }
}

/// Runs `ip` on the thread's host.
#[track_caller]
pub fn ip(arguments: &str) -> String {
    String::from_utf8(tool(Command::new("ip").args(arguments.split_whitespace()))).unwrap()
}

/// Runs a tool in the network namespace of a process.
#[track_caller]
pub fn inside(pid: i32, words: &str) -> String {
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(pid.to_string()).arg("--net").args(words.split_whitespace());
    String::from_utf8(tool(&mut command)).unwrap()
}

/// Whether the thread's host has an interface.
pub fn exists(name: &str) -> bool {
    said(Command::new("ip").args(["link", "show", name])).code == Some(0)
}

/// A native configuration in a bundle's folder, by which its program gets these networks.
pub fn native(place: &Place, bundle: &Bundle, networks: Value) -> PathBuf {
    let oci: Value = serde_json::from_slice(&fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    let config = json!({
        "rootfs": "rootfs",
        "hostname": "frozen",
        "namespaces": [{"type": "NEWNS"}, {"type": "NEWUTS"}, {"type": "NEWPID"}, {"type": "NEWIPC"}, {"type": "NEWNET"}],
        "mounts": [
            {"source": "proc", "destination": "/proc", "device": "proc", "flags": 14},
            {"source": "tmpfs", "destination": "/dev", "device": "tmpfs", "flags": 2, "data": "mode=755"},
        ],
        "cgroups": {"name": place.mark()},
        "networks": networks,
    });
    let file = bundle.path().join("container.json");
    fs::write(&file, config.to_string()).unwrap();
    fs::write(bundle.path().join("words"), oci["process"]["args"].to_string()).unwrap();
    file
}

/// Starts the program of a bundle by the native configuration `file`.
#[track_caller]
pub fn start_native(place: &Place, bundle: &Bundle, file: &Path, name: &str) {
    let words: Vec<String> = serde_json::from_slice(&fs::read(bundle.path().join("words")).unwrap()).unwrap();
    let mut all = vec!["run", "--detach", "--config", file.to_str().unwrap(), name];
    all.extend(words.iter().map(String::as_str));
    place.ok(all);
    bundle.ready();
}
