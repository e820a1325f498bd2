//! Interfaces that floe has made, and makes again.

use std::fs;
use std::net::TcpStream;

use serde_json::json;

use crate::host::{Host, exists, inside, ip, native, start_native};
use crate::support::Place;
use crate::support::leaks::Picture;
use crate::support::program::Bundle;

/// The interfaces of the thread's host.
fn names() -> Vec<String> {
    let all = ip("-oneline link");
    all.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
}

#[test]
fn a_pair_is_there_again_with_all_that_it_had() {
    let place = Place::with_newest_criu("made");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let links = names();
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["listen", "[::]:7007"]);
    let networks = json!([{"type": "loopback"}, {
        "type": "veth", "name": "web0", "bridge": "br0", "mac_address": "02:42:ac:11:00:02",
        "address": "10.7.0.2/24", "gateway": "10.7.0.1", "ipv6_address": "fd07::2/64", "ipv6_gateway": "fd07::1",
        "mtu": 1400, "txqueuelen": 77, "host_interface_name": "vweb", "hairpin_mode": true,
    }]);
    let file = native(&place, &bundle, networks);
    let name = place.name("first");
    start_native(&place, &bundle, &file, &name);
    // The line's state follows a little later; numbers of interfaces are the kernel's.
    let look = |name: &str| {
        let pid = place.pid(name);
        let mut all = inside(pid, "ip -oneline link show web0") + &inside(pid, "ip -oneline addr show");
        all += &(inside(pid, "ip route") + &inside(pid, "ip -6 route"));
        let words = all.split_whitespace().filter(|word| {
            let number = word.trim_end_matches(':').parse::<u32>().is_ok() && word.ends_with(':');
            !(number || word.starts_with("web0@if") || word.contains("LOWER_UP"))
        });
        words.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let port = || ip("-details link show vweb");
    let had = look(&name);
    assert!(
        had.contains("02:42:ac:11:00:02") && had.contains("10.7.0.2/24") && had.contains("mtu 1400"),
        "{had}"
    );
    assert!(had.contains("default via 10.7.0.1") && had.contains("default via fd07::1"), "{had}");

    let again = place.there_and_back(&name, "again", &[]);
    crate::support::calls::eventually("the interface is as it was", || look(&again) == had);
    assert!(port().contains("master br0") && port().contains("hairpin on"), "{}", port());
    // Packets go through it, in both directions.
    for address in ["10.7.0.2:7007", "[fd07::2]:7007"] {
        let _peer = TcpStream::connect(address).unwrap();
        bundle.ask_ok("accept");
        bundle.ask_ok("close");
    }
    // And once more, under the name that it has now.
    let more = place.there_and_back(&again, "more", &[]);
    crate::support::calls::eventually("the interface is as it was", || look(&more) == had);
    place.ok(["delete", "--force", &more]);
    assert!(!exists("vweb"));
    assert_eq!(names(), links);
    before.assert_unchanged();
}

#[test]
fn a_device_of_the_host_is_back_between_and_with_the_container_again() {
    let place = Place::new("devices");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    ip("link add dev0 address 02:00:00:00:07:01 mtu 1450 type veth peer name far-dev0");
    ip("link set far-dev0 up");
    ip("addr add 10.8.0.2/24 dev dev0");
    ip("link set dev0 up");
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "1", "--random", "50"]);
    bundle.change(|config| config["linux"]["netDevices"] = json!({"dev0": {"name": "data0"}}));
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    assert!(!exists("dev0"), "it is the container's");
    let look = |name: &str| inside(place.pid(name), "ip -oneline -4 addr show data0");
    let had = look(&name);
    assert!(had.contains("10.8.0.2/24"), "{had}");

    // A checkpoint after which it runs on leaves it where it is.
    let archive = place.join("runs-on.tar.zst");
    place.ok(["checkpoint", "--leave-running", &name, "--to", archive.to_str().unwrap()]);
    assert_eq!((look(&name), exists("dev0")), (had.clone(), false));
    let taken = place.run(["restore", "clone", "--detach", "--from", archive.to_str().unwrap()]);
    assert!(taken.code == Some(1) && taken.stderr.contains("network device dev0"), "{taken:?}");
    assert_eq!(look(&name), had, "and a clone that cannot have it changes nothing");

    let archive = place.join("ended.tar.zst");
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
    let back = ip("-oneline addr show dev0");
    assert!(back.contains("10.8.0.2/24"), "the host has it as soon as the container is frozen: {back}");
    let again = place.name("again");
    place.ok(["restore", &again, "--detach", "--from", archive.to_str().unwrap()]);
    assert!(!exists("dev0"));
    assert!(look(&again).contains("10.8.0.2/24"), "{}", look(&again));
    bundle.ask_ok("");
    place.ok(["delete", &name]);
    assert!(look(&again).contains("10.8.0.2/24"), "deleting the one that was frozen takes nothing away");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

#[test]
fn a_network_that_cannot_be_made_leaves_nothing() {
    let place = Place::new("unmade");
    let _host = Host::new();
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "1", "--random", "50"]);
    let networks = json!([
        {"type": "veth", "bridge": "br0", "address": "10.7.0.2/24", "host_interface_name": "vone"},
        {"type": "veth", "bridge": "br0", "address": "10.7.1.2/24", "host_interface_name": "vtwo"},
    ]);
    let file = native(&place, &bundle, networks);
    let name = place.name("first");
    start_native(&place, &bundle, &file, &name);
    let archive = place.join("made.tar.zst");
    let archive = archive.to_str().unwrap();
    place.ok(["checkpoint", &name, "--to", archive]);
    assert!(!exists("vone") && !exists("vtwo"), "its pairs end with it");
    place.ok(["delete", &name]);
    ip("link add vtwo type bridge");
    let before = (Picture::without_criu(&place, &[&place.root()]), names());
    let again = place.name("again");
    let said = place.run(["restore", &again, "--detach", "--from", archive]);
    assert!(
        said.code == Some(1) && said.stderr.contains("vtwo") && said.stderr.contains("on the host"),
        "{said:?}"
    );
    assert_eq!((place.state(&again), names()), (None, before.1));
    before.0.assert_unchanged();
    ip("link del vtwo");
    place.ok(["restore", &again, "--detach", "--from", archive]);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &again]);
    // A bridge that is gone is named, too.
    ip("link del br0");
    let said = place.run(["restore", &again, "--detach", "--from", archive]);
    assert!(said.code == Some(1) && said.stderr.contains("br0"), "{said:?}");
    assert_eq!((place.state(&again), exists("vone")), (None, false));
}

#[test]
fn a_clone_does_not_get_an_address_that_another_one_has() {
    let place = Place::new("clone");
    let _host = Host::new();
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "1", "--random", "50"]);
    let networks =
        |address: &str| json!([{"type": "veth", "name": "web0", "bridge": "br0", "address": address}]);
    let file = native(&place, &bundle, networks("10.7.0.2/24"));
    // The name of a cgroup would be the same for both, too.
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["cgroups"].as_object_mut().unwrap().remove("name");
    fs::write(&file, config.to_string()).unwrap();
    let name = place.name("first");
    start_native(&place, &bundle, &file, &name);
    let mac = |name: &str| {
        let all = inside(place.pid(name), "ip -oneline link show web0");
        all.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
    };
    let had = mac(&name);
    let archive = place.join("clone.tar.zst");
    let archive = archive.to_str().unwrap();
    place.ok(["checkpoint", &name, "--to", archive, "--leave-running"]);
    let before = (Picture::without_criu(&place, &[&place.root()]), names());
    let clone = place.name("clone");
    let said = place.run(["restore", &clone, "--detach", "--from", archive]);
    let words = [name.as_str(), "10.7.0.2", "br0", "--bundle"];
    assert!(said.code == Some(3) && words.iter().all(|word| said.stderr.contains(word)), "{said:?}");
    assert_eq!(names(), before.1);
    before.0.assert_unchanged();
    bundle.ask_ok("");
    // The first one is gone: the second has its address, and the hardware address that the kernel had chosen for it, so
    // that its peers find it at once.
    place.ok(["delete", "--force", &name]);
    place.ok(["restore", &clone, "--detach", "--from", archive]);
    assert_eq!(mac(&clone), had);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &clone]);
}
