//! A host of one's own, as far as the network goes.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use floe_runtime::config::Config;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

/// The calling thread is in a network namespace of its own while this is there.
pub struct Host {
    before: File,
}

impl Host {
    /// With nothing but its loopback interface.
    pub fn new() -> Self {
        let before = File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        Self { before }
    }

    /// With the bridge `br0`, which has the addresses 10.7.0.1/24 and fd07::1/64.
    pub fn with_bridge() -> Self {
        let host = Self::new();
        // With an address of its own: it would take that of a port, and lose it again.
        ip("link add br0 address 02:00:00:00:07:00 type bridge");
        ip("link set br0 up");
        ip("addr add 10.7.0.1/24 dev br0");
        ip("addr add fd07::1/64 dev br0 nodad");
        host
    }

    /// Adds a device that can be moved; `far` is its other end, and stays.
    pub fn device(&self, name: &str) {
        ip(&format!(
            "link add {name} address 02:00:00:00:07:01 mtu 1450 txqueuelen 70 type veth peer name far-{name}"
        ));
        ip(&format!("link set far-{name} up"));
        ip(&format!("addr add 10.8.0.2/24 dev {name}"));
        ip(&format!("addr add fd08::2/64 dev {name} nodad"));
        ip(&format!("link set {name} up"));
    }

    /// What tells whether it has changed.
    pub fn portrait(&self) -> String {
        portrait(ip)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        setns(self.before.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
    }
}

/// A namespace that a container can join by a path, with nothing but its loopback interface.
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
        Self(file)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What tells whether it has changed.
    pub fn portrait(&self) -> String {
        portrait(|arguments| self.ip(arguments))
    }

    /// Runs `ip` in it.
    pub fn ip(&self, arguments: &str) -> String {
        let namespace = File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let there = || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                ip(arguments)
            };
            scope.spawn(there).join().unwrap()
        })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        umount2(self.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// Runs `ip` on the thread's host.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("these tests need ip: apt-get install -y iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Interfaces, addresses and routes, as `ip` tells them.
fn portrait(ip: impl Fn(&str) -> String) -> String {
    // Without the state of the line, which follows what is plugged in a little later.
    let links = ip("-brief link").replace(",LOWER_UP", "").replace("NO-CARRIER,", "");
    let links = links.lines().map(|line| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}\n", parts[0], parts[2], parts[3])
    });
    // A link-local address comes by itself, a little after its interface.
    let addresses = ip("-brief addr show scope global");
    let addresses = addresses.lines().filter(|line| line.contains('/')).map(|line| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        format!("{} {:?}\n", parts[0], &parts[2..])
    });
    let (links, addresses): (String, String) = (links.collect(), addresses.collect());
    format!("{links}{addresses}{}", ip("route").replace("linkdown ", ""))
}

/// Whether there is such an interface.
pub fn exists(name: &str) -> bool {
    Command::new("ip").args(["link", "show", name]).output().unwrap().status.success()
}

/// Sets the networks and routes of a configuration.
pub fn set(networks: Value, routes: Value) -> impl FnOnce(&mut Config) {
    move |config| {
        config.networks = serde_json::from_value(networks).unwrap();
        config.routes = serde_json::from_value(routes).unwrap();
    }
}
