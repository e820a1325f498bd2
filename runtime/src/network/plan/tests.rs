use super::*;
use crate::config::network::NetDevice;

fn config(networks: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rootfs")).unwrap();
    let spec = crate::config::oci::template(None).to_string();
    let mut config = crate::config::oci::from_json(spec.as_bytes(), Path::new("/b"), dir.path()).unwrap();
    config.networks = serde_json::from_str(networks).unwrap();
    config
}

fn plan(config: &Config, there: &[&str]) -> Result<Plan> {
    let there = there.iter().map(|name| (*name).to_owned()).collect();
    Plan::new(config, Path::new("/run/floe/web"), &there)
}

#[test]
fn names_are_derived_where_none_is_given() {
    let config = config(r#"[{"type":"veth"},{"type":"veth","name":"eth0"},{"type":"veth"}]"#);
    let first = plan(&config, &["lo"]).unwrap();
    let inside: Vec<&str> = first.veths.iter().map(|veth| veth.inside.as_str()).collect();
    assert_eq!(inside, ["eth1", "eth0", "eth2"], "the one that has a name keeps it");
    let host: BTreeSet<&str> = first.veths.iter().map(|veth| veth.host.as_str()).collect();
    assert_eq!(host.len(), 3);
    assert!(host.iter().all(|name| name.starts_with("veth") && name.len() == 14), "{host:?}");
    assert_eq!(first, plan(&config, &["lo"]).unwrap(), "the same each time");
    let other = Plan::new(&config, Path::new("/run/floe/web2"), &BTreeSet::new()).unwrap();
    assert!(
        other.veths.iter().all(|veth| !host.contains(veth.host.as_str())),
        "another container has others"
    );
    let macs: BTreeSet<[u8; 6]> = first.veths.iter().map(|veth| veth.host_mac.bytes()).collect();
    assert!(macs.len() == 3 && macs.iter().all(|mac| mac[0] == 0xfe));
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let veth = config(r#"[{"type":"veth","name":"eth0"}]"#);
    let error = plan(&veth, &["lo", "eth0"]).unwrap_err().to_string();
    assert!(error.starts_with("interface eth0 exists already in the container"), "{error}");
    let mut device = config("[]");
    device.net_devices = [("eth1".parse().unwrap(), NetDevice::default())].into();
    assert!(plan(&device, &["eth1"]).is_err());
    assert_eq!(plan(&device, &["eth0"]).unwrap().devices[0].inside.as_str(), "eth1");
}

#[test]
fn a_template_avoids_names_that_are_there_and_that_are_wanted() {
    let mut config = config(r#"[{"type":"veth","name":"eth1"}]"#);
    let template = || NetDevice { name: Some("eth%d".parse().unwrap()) };
    config.net_devices = [("a".parse().unwrap(), template()), ("b".parse().unwrap(), template())].into();
    let plan = plan(&config, &["eth0"]).unwrap();
    let inside: Vec<&str> = plan.devices.iter().map(|device| device.inside.as_str()).collect();
    assert_eq!(inside, ["eth2", "eth3"]);
    assert!(plan.devices.iter().all(|device| !device.on_loan));
}

#[test]
fn the_loopback_interface_of_a_new_namespace_is_left_to_the_child() {
    let alone = config(r#"[{"type":"loopback"}]"#);
    assert!(!Plan::is_needed(&alone));
    let more = config(r#"[{"type":"loopback","address":"10.9.9.9/32"}]"#);
    assert!(Plan::is_needed(&more));
    assert_eq!(plan(&more, &["lo"]).unwrap().loopback.unwrap().len(), 1);
    let mut joined = alone;
    for namespace in &mut joined.namespaces {
        if namespace.kind == NamespaceKind::Network {
            namespace.path = Some("/run/netns/x".into());
        }
    }
    assert!(Plan::is_needed(&joined) && plan(&joined, &["lo"]).unwrap().joined);
    assert!(!Plan::is_needed(&config("[]")));
}
