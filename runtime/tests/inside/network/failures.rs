//! What fails, what is said of it, and that nothing is left.

use floe_runtime::Error;
use floe_runtime::config::Config;
use serde_json::{Value, json};

use super::host::{Host, Named, ip, set};
use crate::helper;
use crate::support::{Bundle, full};

fn refused(bundle: &Bundle, change: impl FnOnce(&mut Config)) -> Error {
    match bundle.create_changed(change) {
        Ok(_) => panic!("it was created"),
        Err(error) => error,
    }
}

fn everything() -> Value {
    json!([
        {"type": "veth", "bridge": "br0", "address": "10.7.0.2/24", "gateway": "10.7.0.1"},
        {"type": "host-device", "host_interface_name": "dev0", "name": "data0", "address": "10.8.0.7/24"},
    ])
}

/// The host's `dev1` is in `linux.netDevices`.
fn bundle() -> Bundle {
    let mut bundle = Bundle::with_script("sleep 20");
    bundle.spec["linux"]["netDevices"] = json!({"dev1": {"name": "data1"}});
    bundle
}

fn host() -> Host {
    let host = Host::with_bridge();
    host.device("dev0");
    ip("addr flush dev dev0");
    host.device("dev1");
    host
}

pub fn a_hook_that_fails_leaves_the_host_as_it_was() {
    let host = host();
    let before = host.portrait();
    let mut bundle = bundle();
    bundle.spec["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    let error = refused(&bundle, set(everything(), json!([])));
    assert!(matches!(error, Error::Hook { .. }), "{error}");
    assert_eq!(host.portrait(), before);
}

pub fn a_network_that_fails_half_way_is_undone() {
    let host = host();
    let before = host.portrait();
    let bundle = bundle();
    let mut networks = everything();
    let second = json!({"type": "veth", "address": "10.6.0.2/24", "gateway": "10.6.0.1"});
    networks.as_array_mut().unwrap().push(second);
    let error = refused(&bundle, set(networks, json!([])));
    let said = full(&error);
    assert!(
        said.starts_with(
            "interface eth1 in the container: cannot make 10.6.0.1 its default router: File exists"
        ),
        "{said}"
    );
    assert!(error.hint().is_some());
    assert_eq!(host.portrait(), before);

    let routes = json!([{"destination": "10.1.0.0/16", "gateway": "10.77.0.1", "interface_name": "eth0"}]);
    let error = refused(&bundle, set(everything(), routes));
    let said = full(&error);
    assert!(
        said.starts_with("route to 10.1.0.0/16: cannot add it to the container's: Network is unreachable"),
        "{said}"
    );
    assert!(said.contains("the kernel says"), "in its words too: {said}");
    assert!(error.hint().is_some_and(|hint| hint.contains("gateway")), "{:?}", error.hint());
    assert_eq!(host.portrait(), before);

    let routes = json!([{"destination": "10.1.0.0/16", "interface_name": "eth7"}]);
    let error = refused(&bundle, set(everything(), routes));
    assert_eq!(error.to_string(), "the container's interface eth7 does not exist");
    assert_eq!(host.portrait(), before);
}

pub fn a_killed_creation_is_undone_by_delete() {
    let host = host();
    let before = host.portrait();
    let mut bundle = bundle();
    // A hook is a child of the one who creates.
    let kill = json!([{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]);
    bundle.spec["hooks"] = json!({"createRuntime": kill});
    let networks = everything().to_string();
    let output = helper::command("create-with-networks", &bundle).arg(networks).output().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{output:?}");
    assert_ne!(host.portrait(), before);
    let left = bundle.store().list().unwrap();
    assert_eq!(left.len(), 1);
    left[0].delete(true).unwrap();
    assert_eq!(host.portrait(), before);
}

pub fn a_bridge_that_is_missing_is_named() {
    let host = host();
    let before = host.portrait();
    let bundle = bundle();
    let veth = |bridge: &str| json!([{"type": "veth", "bridge": bridge}]);
    let error = refused(&bundle, set(veth("br9"), json!([])));
    assert!(matches!(&error, Error::NoInterface { what: "bridge", name } if name == "br9"), "{error}");
    assert_eq!(error.to_string(), "bridge br9 does not exist");
    assert!(error.hint().is_some_and(|hint| hint.contains("type bridge")));
    let error = refused(&bundle, set(veth("far-dev0"), json!([])));
    assert!(error.to_string().starts_with("interface far-dev0 is no bridge"), "{error}");
    let device = json!([{"type": "host-device", "host_interface_name": "dev9"}]);
    let error = refused(&bundle, set(device, json!([])));
    assert_eq!(error.to_string(), "network device dev9 does not exist");
    assert_eq!(host.portrait(), before);
}

pub fn a_name_that_is_taken_is_named() {
    let host = host();
    let named = Named::new();
    named.ip("link add eth0 type veth peer name eth1");
    let before = host.portrait();
    let mut bundle = bundle();
    let veth = json!([{"type": "veth", "host_interface_name": "far-dev0"}]);
    let error = refused(&bundle, set(veth, json!([])));
    assert_eq!(error.to_string(), "interface far-dev0 exists already on the host");

    bundle.share("network");
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "network", "path": named.path()}));
    bundle.spec["linux"]["netDevices"] = json!({"dev1": {"name": "eth0"}});
    let error = bundle.create().map(drop).unwrap_err();
    assert_eq!(error.to_string(), "interface eth0 exists already in the container's network namespace");
    assert!(matches!(error, Error::InterfaceExists { .. }));
    let veth = json!([{"type": "veth", "name": "eth1"}]);
    let without = |config: &mut Config| {
        config.net_devices.clear();
        set(veth, json!([]))(config);
    };
    assert!(matches!(refused(&bundle, without), Error::InterfaceExists { .. }));
    assert_eq!(host.portrait(), before);

    bundle.spec["linux"]["netDevices"] = json!({"dev1": {"name": "a/b"}});
    assert!(bundle.refused().starts_with("linux.netDevices.dev1.name in "), "{}", bundle.refused());
    bundle.spec["linux"]["netDevices"] = json!({"dev1": {"name": "x"}, "far-dev1": {"name": "x"}});
    assert!(bundle.refused().starts_with("linux.netDevices.far-dev1.name in "), "{}", bundle.refused());
}

pub fn the_hosts_own_network_is_not_changed() {
    let host = host();
    let before = host.portrait();
    let mut bundle = bundle();
    bundle.share("network");
    assert!(bundle.refused().starts_with("linux.netDevices in "), "{}", bundle.refused());
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
    namespaces.push(json!({"type": "network", "path": own}));
    assert!(
        bundle.refused().starts_with("the container is to have floe's own network"),
        "{}",
        bundle.refused()
    );
    assert_eq!(host.portrait(), before);
}
