//! A host of one's own, as far as the network goes.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::support::program::Bundle;
use crate::support::{Place, said, tool};

/// The calling thread, and what it starts, is in a network namespace of its own while this is there.
pub struct Host;

impl Host {
    /// With the bridge `br0`, which has the addresses 10.7.0.1/24 and fd07::1/64.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        ip("link add br0 address 02:00:00:00:07:00 type bridge");
        ip("link set br0 up");
        ip("addr add 10.7.0.1/24 dev br0");
        ip("addr add fd07::1/64 dev br0 nodad");
        Self
    }
}

impl Drop for Host {
    /// Back to where the test was started. A descriptor that is held for that would be seen by tests that run meanwhile and
    /// look for such.
    fn drop(&mut self) {
        let parent = File::open(format!("/proc/{}/ns/net", nix::unistd::getppid())).unwrap();
        setns(parent.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
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
    // Its streams are on /dev/null, not in a file of this call.
    assert!(place.floe(all).status().unwrap().success());
    bundle.ready();
}

/// A network namespace that a container can join by a path, with an interface `net0` (10.7.0.9/24) at the host's bridge.
pub struct Named(tempfile::NamedTempFile);

impl Named {
    pub fn new() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::thread::scope(|scope| {
            let bind = || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                let own = Some("/proc/thread-self/ns/net");
                mount(own, file.path(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            };
            scope.spawn(bind).join().unwrap();
        });
        let named = Self(file);
        // Moved by name of a file: ip(8) takes paths that begin with a slash where it takes names of namespaces.
        ip(&format!("link add vnamed type veth peer name net0 netns {}", named.path().display()));
        ip("link set vnamed master br0 up");
        for words in ["link set lo up", "addr add 10.7.0.9/24 dev net0", "link set net0 up"] {
            named.run(&format!("ip {words}"));
        }
        named
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs a tool in it.
    #[track_caller]
    pub fn run(&self, words: &str) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).args(words.split_whitespace());
        String::from_utf8(tool(&mut command)).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        umount2(self.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// Gives a bundle a namespace that is there, in place of a new one.
pub fn join(bundle: &Bundle, kind: &str, path: &Path) {
    bundle.change(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != kind);
        namespaces.push(json!({"type": kind, "path": path}));
    });
}
