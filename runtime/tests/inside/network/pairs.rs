//! Pairs of virtual interfaces, the loopback interface, and routes.

use std::io::Write;
use std::net::TcpListener;

use serde_json::json;

use super::host::{Host, Named, exists, ip, set};
use crate::support::{Bundle, eventually};

/// Prints what a container has.
const SHOW: &str = "ip link; ip addr; echo ROUTES; ip route; echo ROUTES6; ip -6 route; echo ready; sleep 20";

pub fn a_pair_has_everything_that_is_configured() {
    let host = Host::with_bridge();
    let before = host.portrait();
    let bundle = Bundle::with_script(SHOW);
    let networks = json!([{
        "type": "veth", "name": "web0", "bridge": "br0", "mac_address": "02:42:ac:11:00:02",
        "address": "10.7.0.2/24", "gateway": "10.7.0.1", "ipv6_address": "fd07::2/64", "ipv6_gateway": "fd07::1",
        "mtu": 1400, "txqueuelen": 77, "host_interface_name": "vweb", "hairpin_mode": true,
    }]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.start_until_ready();
    let log = running.log();
    assert!(log.contains("web0@"), "name: {log}");
    assert!(log.contains("link/ether 02:42:ac:11:00:02"), "mac_address: {log}");
    assert!(log.contains("inet 10.7.0.2/24 brd 10.7.0.255 scope global web0"), "address: {log}");
    assert!(log.contains("inet6 fd07::2/64 scope global"), "ipv6_address: {log}");
    assert!(!log.contains("scope global tentative"), "and it can be used at once: {log}");
    assert!(log.contains("default via 10.7.0.1 dev web0"), "gateway: {log}");
    assert!(log.contains("default via fd07::1 dev web0"), "ipv6_gateway: {log}");
    let own = log.lines().find(|line| line.contains("web0@")).unwrap();
    assert!(own.contains("mtu 1400") && own.contains("qlen 77"), "mtu, txqueuelen: {own}");
    assert!(own.contains(",UP"), "{own}");
    assert!(log.contains("lo: <LOOPBACK,UP"), "and the loopback interface is up: {log}");

    let port = ip("-details link show vweb");
    assert!(port.contains("master br0"), "bridge: {port}");
    assert!(port.contains("hairpin on"), "hairpin_mode: {port}");
    assert!(port.contains("mtu 1400") && port.contains("qlen 77"), "both ends: {port}");
    assert!(port.contains("link/ether fe:"), "an address that the bridge does not take for its own: {port}");
    assert!(port.contains("alias web0 of "), "{port}");

    drop(running);
    assert!(!exists("vweb"), "deleted, it is gone at once");
    assert_eq!(host.portrait(), before);
}

pub fn a_pair_carries_data_through_its_bridge() {
    let _host = Host::with_bridge();
    let mut bundle = Bundle::with_script("nc 10.7.0.1 7007; nc fd07::1 7007");
    bundle.applet("nc");
    let listeners = ["10.7.0.1:7007", "[fd07::1]:7007"].map(|address| TcpListener::bind(address).unwrap());
    let networks =
        json!([{"type": "veth", "bridge": "br0", "address": "10.7.0.2/24", "ipv6_address": "fd07::2/64"}]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.container.start().unwrap();
    for (listener, word) in listeners.iter().zip(["four\n", "six\n"]) {
        let (mut stream, from) = listener.accept().unwrap();
        assert!(["10.7.0.2", "fd07::2"].contains(&from.ip().to_string().as_str()), "{from}");
        stream.write_all(word.as_bytes()).unwrap();
    }
    assert_eq!((running.wait(), running.log().as_str()), (0, "four\nsix\n"));
}

pub fn what_goes_through_a_pair_is_counted() {
    let _host = Host::with_bridge();
    let mut bundle = Bundle::with_script("echo ready; nc 10.7.0.1 7007 | wc -c; sleep 20");
    bundle.applet("nc");
    let listener = TcpListener::bind("10.7.0.1:7007").unwrap();
    let networks = json!([{"type": "veth", "bridge": "br0", "address": "10.7.0.2/24", "host_interface_name": "vone"},
        {"type": "veth", "host_interface_name": "vtwo"}]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.start_until_ready();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&[b'x'; 100_000]).unwrap();
    drop(stream);
    eventually("all has come", || running.log().contains("100000\n"));
    let all = running.container.network_use().unwrap();
    assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["vone", "vtwo"]);
    assert!(all[0].rx_bytes > 100_000 && all[0].rx_packets > 1, "as the container sees it: {all:?}");
    assert!((1..100_000).contains(&all[0].tx_bytes), "{all:?}");
    assert!(all[1].rx_bytes < 100_000, "{all:?}");
    // One that is gone, or that somebody else has the name of by now, is not the container's.
    ip("link del vtwo");
    ip("link add vtwo type bridge");
    assert_eq!(running.container.network_use().unwrap().len(), 1);
}

pub fn a_pair_of_which_nothing_is_said_is_the_kernels() {
    let _host = Host::new();
    let bundle = Bundle::with_script(SHOW);
    let two = json!([{"type": "veth"}, {"type": "veth"}]);
    let running = bundle.create_changed(set(two, json!([]))).unwrap();
    running.start_until_ready();
    let log = running.log();
    for name in ["eth0@", "eth1@"] {
        let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains("mtu 1500") && line.contains(",UP"), "{line}");
    }
    assert!(!log.contains("scope global"), "{log}");
    let ports = ip("-brief link show type veth up");
    assert_eq!(ports.lines().count(), 2, "the host's ends are up too: {ports}");
    drop(running);
    assert_eq!(ip("-brief link show type veth"), "");
}

pub fn a_router_that_no_address_leads_to_is_reached() {
    let _host = Host::with_bridge();
    let bundle = Bundle::with_script(SHOW);
    let networks = json!([{"type": "veth", "bridge": "br0", "address": "10.9.0.2/32", "gateway": "10.7.0.1",
        "ipv6_address": "fd09::2/128", "ipv6_gateway": "fe80::1"}]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.start_until_ready();
    let log = running.log();
    assert!(log.contains("default via 10.7.0.1 dev eth0"), "{log}");
    assert!(log.contains("default via fe80::1 dev eth0"), "{log}");
    assert!(!log.contains("brd 10."), "a network of one has no broadcast address: {log}");
}

pub fn the_loopback_interface_has_further_addresses() {
    let _host = Host::new();
    let bundle = Bundle::with_script(SHOW);
    let networks = json!([
        {"type": "loopback", "address": "127.0.0.1/0", "gateway": "localhost"},
    ]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.start_until_ready();
    assert!(running.log().contains("inet 127.0.0.1/8") && running.log().contains("inet6 ::1/128"));
    assert!(!bundle.path().join("state").join(running.container.id().as_str()).join("network.json").exists());
    drop(running);
    let bundle = Bundle::with_script(SHOW);
    let more = json!([{"type": "loopback", "address": "10.9.9.9/32", "ipv6_address": "fd09::9/128"}]);
    let running = bundle.create_changed(set(more, json!([]))).unwrap();
    running.start_until_ready();
    let log = running.log();
    for address in ["inet 127.0.0.1/8", "inet6 ::1/128", "inet 10.9.9.9/32", "inet6 fd09::9/128"] {
        assert!(log.contains(address), "{address}: {log}");
    }
}

pub fn routes_lead_where_they_are_to_lead() {
    let _host = Host::with_bridge();
    let bundle = Bundle::with_script(SHOW);
    let networks = json!([
        {"type": "veth", "name": "web0", "bridge": "br0", "address": "10.7.0.2/24", "ipv6_address": "fd07::2/64"},
        {"type": "veth", "name": "db0", "address": "10.6.0.2/24"},
    ]);
    let routes = json!([
        {"destination": "10.1.0.0/16", "gateway": "10.7.0.1", "source": "10.6.0.2", "interface_name": "web0"},
        {"destination": "10.2.0.0/16", "interface_name": "db0"},
        {"destination": "10.3.3.3", "gateway": "10.6.0.9"},
        {"gateway": "10.7.0.1", "interface_name": "web0"},
        {"destination": "fd01::/32", "gateway": "fd07::1"},
        {"gateway": "fd07::9", "interface_name": "web0"},
    ]);
    let running = bundle.create_changed(set(networks, routes)).unwrap();
    running.start_until_ready();
    let log = running.log();
    for (key, route) in [
        ("source", "10.1.0.0/16 via 10.7.0.1 dev web0  src 10.6.0.2"),
        ("interface_name", "10.2.0.0/16 dev db0 scope link"),
        ("destination", "10.3.3.3 via 10.6.0.9 dev db0"),
        ("gateway", "default via 10.7.0.1 dev web0"),
        ("destination", "fd01::/32 via fd07::1 dev web0"),
        ("gateway", "default via fd07::9 dev web0"),
    ] {
        assert!(log.contains(route), "{key}, {route}: {log}");
    }
}

pub fn a_user_namespace_has_a_network_too() {
    let _host = Host::with_bridge();
    let mut bundle = Bundle::with_script(SHOW);
    bundle.map_ids();
    let networks =
        json!([{"type": "veth", "bridge": "br0", "address": "10.7.0.2/24", "gateway": "10.7.0.1"}]);
    let running = bundle.create_changed(set(networks, json!([]))).unwrap();
    running.start_until_ready();
    assert!(running.log().contains("default via 10.7.0.1 dev eth0"), "{}", running.log());
}

pub fn a_joined_network_is_left_as_it_was() {
    let _host = Host::with_bridge();
    let named = Named::new();
    named.ip("link set lo up");
    named.ip("addr add 10.5.0.5/32 dev lo");
    named.ip("link add there0 type veth peer name there1");
    named.ip("addr add 10.4.0.2/24 dev there0");
    named.ip("link set there0 up");
    named.ip("link set there1 up");
    let before = named.portrait();
    let mut bundle = Bundle::with_script(SHOW);
    bundle.share("network");
    bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "network", "path": named.path()}));
    let networks = json!([
        {"type": "loopback", "address": "10.5.0.5/32", "ipv6_address": "fd09::9/128"},
        {"type": "veth", "bridge": "br0", "address": "10.7.0.2/24"},
    ]);
    let routes = json!([{"destination": "10.1.0.0/16", "gateway": "10.4.0.1", "interface_name": "there0"}]);
    let running = bundle.create_changed(set(networks, routes)).unwrap();
    running.start_until_ready();
    let log = running.log();
    for part in ["inet6 fd09::9/128", "inet 10.7.0.2/24", "10.1.0.0/16 via 10.4.0.1 dev there0"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    drop(running);
    assert_eq!(named.portrait(), before);
}

pub fn a_container_without_networks_has_no_notes() {
    let bundle = Bundle::with_script("sleep 20");
    let running = bundle.create().unwrap();
    let folder = bundle.path().join("state").join(running.container.id().as_str());
    assert!(folder.join("state.json").exists());
    assert!(!folder.join("network.json").exists() && !folder.join("netns").exists());
}
