//! Interfaces of the host that are moved into a container.

use serde_json::json;

use super::host::{Host, Named, exists, ip, set};
use crate::support::{Bundle, full};

const SHOW: &str = "ip link; ip addr; ip route; echo ready; sleep 20";

pub fn a_device_of_the_host_comes_back_as_it_was() {
    let host = Host::new();
    host.device("dev0");
    let before = host.portrait();
    let bundle = Bundle::with_script(SHOW);
    let networks = json!([{
        "type": "host-device", "host_interface_name": "dev0", "name": "data0", "mac_address": "02:00:00:00:07:77",
        "mtu": 1300, "txqueuelen": 33, "address": "10.8.0.9/24", "gateway": "10.8.0.1",
    }]);
    let running = bundle.create_changed(set(networks.clone(), json!([]))).unwrap();
    running.start_until_ready();
    assert!(!exists("dev0"));
    let log = running.log();
    let own = log.lines().find(|line| line.contains("data0@")).unwrap_or_else(|| panic!("name: {log}"));
    assert!(own.contains("mtu 1300") && own.contains("qlen 33") && own.contains(",UP"), "{own}");
    assert!(log.contains("link/ether 02:00:00:00:07:77"), "mac_address: {log}");
    assert!(log.contains("inet 10.8.0.9/24") && !log.contains("10.8.0.2/24"), "address, instead: {log}");
    assert!(log.contains("inet6 fd08::2/64"), "of the other family it has what it had: {log}");
    assert!(log.contains("default via 10.8.0.1 dev data0"), "gateway: {log}");
    drop(running);
    assert_eq!(host.portrait(), before);

    // And when its processes are long gone before it is deleted.
    let mut bundle = Bundle::new();
    bundle.script("true");
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.container.start().unwrap();
    running.wait();
    drop(running);
    assert_eq!(host.portrait(), before);
}

pub fn a_device_that_was_renamed_comes_back() {
    let host = Host::new();
    host.device("dev0");
    let before = host.portrait();
    let mut bundle = Bundle::with_script(
        "ip link set dev0 down && ip link set dev0 name mine && ip link; echo ready; sleep 20",
    );
    let all = json!(["CAP_NET_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.spec["process"]["capabilities"][set] = all.clone();
    }
    let networks = json!([{"type": "host-device", "host_interface_name": "dev0"}]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.start_until_ready();
    assert!(running.log().contains("mine@"), "{}", running.log());
    drop(running);
    assert_eq!(host.portrait(), before);
}

pub fn a_device_waits_when_its_name_is_taken() {
    let host = Host::new();
    host.device("dev0");
    let bundle = Bundle::with_script("true");
    let networks = json!([{"type": "host-device", "host_interface_name": "dev0", "name": "data0"}]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.container.start().unwrap();
    running.wait();
    ip("link add dev0 type veth peer name other");
    let error = running.container.delete(false).unwrap_err();
    assert_eq!(full(&error), "interface dev0 exists already on the host");
    assert!(error.hint().is_some_and(|hint| hint.contains("rename")));
    ip("link del dev0");
    drop(running);
    assert!(ip("addr show dev0").contains("inet 10.8.0.2/24"));
}

/// `linux.netDevices` is `devices`.
fn bundle_with(devices: &serde_json::Value) -> Bundle {
    let mut bundle = Bundle::with_script(SHOW);
    bundle.spec["linux"]["netDevices"] = devices.clone();
    bundle
}

pub fn a_net_device_keeps_its_addresses() {
    let host = Host::new();
    host.device("dev0");
    ip("addr add 10.8.1.2/24 dev dev0 valid_lft 1000 preferred_lft 1000");
    ip("addr add 169.254.1.2/16 scope link dev dev0");
    let bundle = bundle_with(&json!({"dev0": {}}));
    let running = bundle.create().unwrap();
    running.start_until_ready();
    assert!(!exists("dev0"));
    let log = running.log();
    let own = log.lines().find(|line| line.contains("dev0@")).unwrap_or_else(|| panic!("{log}"));
    assert!(own.contains("mtu 1450") && own.contains("qlen 70") && own.contains(",UP"), "{own}");
    for kept in ["link/ether 02:00:00:00:07:01", "inet 10.8.0.2/24", "inet6 fd08::2/64"] {
        assert!(log.contains(kept), "{kept}: {log}");
    }
    assert!(
        !log.contains("10.8.1.2") && !log.contains("169.254"),
        "neither for a while nor for the link: {log}"
    );
    drop(running);

    host.device("dev1");
    let bundle = bundle_with(&json!({"dev1": {"name": "renamed0"}}));
    let running = bundle.create().unwrap();
    running.start_until_ready();
    assert!(running.log().contains("renamed0@") && running.log().contains("inet 10.8.0.2/24"));
}

pub fn a_net_device_gets_a_name_by_a_template() {
    let host = Host::new();
    host.device("dev0");
    host.device("dev1");
    let bundle = bundle_with(&json!({"dev0": {"name": "data%d"}, "dev1": {"name": "data%d"}}));
    let running = bundle.create().unwrap();
    running.start_until_ready();
    assert!(running.log().contains("data0@") && running.log().contains("data1@"), "{}", running.log());
}

/// "The runtime MUST NOT attempt to move the interface out of the namespace before deletion."
pub fn a_net_device_belongs_to_the_namespace() {
    let host = Host::new();
    host.device("dev0");
    let named = Named::new();
    let mut bundle = bundle_with(&json!({"dev0": {"name": "data0"}}));
    bundle.share("network");
    bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "network", "path": named.path()}));
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let folder = bundle.path().join("state").join(running.container.id().as_str());
    assert!(!folder.join("netns").exists(), "and nothing else keeps that alive");
    drop(running);
    assert!(named.ip("addr show data0").contains("inet 10.8.0.2/24"));
    assert!(!exists("dev0"));
}
