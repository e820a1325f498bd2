use super::*;

fn read(json: &str) -> Result<Network, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn a_veth_is_read_and_written_as_libcontainer_does() {
    let text = concat!(
        r#"{"type":"veth","name":"eth0","bridge":"br0","mac_address":"02:42:ac:11:00:02","address":"172.17.0.2/16","#,
        r#""gateway":"172.17.0.1","ipv6_address":"fd00::2/64","ipv6_gateway":"fd00::1","mtu":1400,"txqueuelen":100,"#,
        r#""host_interface_name":"veth7","hairpin_mode":true}"#
    );
    let network = read(text).unwrap();
    assert_eq!(network.address.unwrap().addr(), Ipv4Addr::new(172, 17, 0, 2));
    assert_eq!(network.mtu.unwrap().get(), 1400);
    let NetworkKind::Veth { hairpin_mode: true, .. } = network.kind else { panic!("{network:?}") };
    assert_eq!(serde_json::to_string(&network).unwrap(), text);
    assert_eq!(read(r#"{"type":"veth"}"#).unwrap().mtu, None, "all that is not said is the kernel's choice");
}

#[test]
fn other_spellings_and_keys_of_others_are_taken() {
    let own =
        read(r#"{"type":"veth","mac_address":"02:42:ac:11:00:02","ipv6_address":"fd00::2/64","mtu":1400}"#);
    let go =
        read(r#"{"Type":"veth","MacAddress":"02:42:ac:11:00:02","IPv6Address":"fd00::2/64","Mtu":1400}"#);
    let camel =
        read(r#"{"type":"veth","macAddress":"02:42:ac:11:00:02","ipv6Address":"fd00::2/64","mtu":1400}"#);
    assert_eq!(own.clone().unwrap(), go.unwrap());
    assert_eq!(own.unwrap(), camel.unwrap());
    read(r#"{"type":"veth","vlan":7}"#).unwrap();
}

/// The example of libcontainer's README.
#[test]
fn the_loopback_interface_of_the_reference_is_understood() {
    let network = read(r#"{"type":"loopback","address":"127.0.0.1/0","gateway":"localhost"}"#).unwrap();
    assert_eq!((network.kind.clone(), network.address, network.gateway), (NetworkKind::Loopback, None, None));
    assert_eq!(serde_json::to_string(&network).unwrap(), r#"{"type":"loopback"}"#);
    let more =
        read(r#"{"type":"loopback","name":"lo","address":"10.9.9.9/32","ipv6_address":"::1/128"}"#).unwrap();
    assert_eq!((more.address.unwrap().to_string(), more.ipv6_address), ("10.9.9.9/32".to_owned(), None));
}

#[test]
fn what_makes_no_sense_is_refused_by_its_key() {
    for (json, said) in [
        (r#"{"name":"eth0"}"#, "type is missing"),
        (r#"{"type":"macvlan"}"#, "type \"macvlan\" is unknown"),
        (r#"{"type":"veth","name":"a/b"}"#, "name \"a/b\": an interface's name has no slash"),
        (r#"{"type":"veth","name":"lo"}"#, "name lo is the loopback"),
        (
            r#"{"type":"veth","name":"a-name-that-is-too-long"}"#,
            "name \"a-name-that-is-too-long\": an interface's name has at most 15",
        ),
        (r#"{"type":"veth","mac_address":"02:42"}"#, "mac_address \"02:42\": not six"),
        (
            r#"{"type":"veth","address":"10.0.0.2"}"#,
            "address \"10.0.0.2\" is not an IPv4 address with a prefix",
        ),
        (r#"{"type":"veth","address":"fd00::2/64"}"#, "address \"fd00::2/64\" is not an IPv4"),
        (r#"{"type":"veth","ipv6_address":"10.0.0.2/8"}"#, "ipv6_address \"10.0.0.2/8\" is not an IPv6"),
        (r#"{"type":"veth","address":"0.0.0.0/8"}"#, "address 0.0.0.0 is no address of one host"),
        (r#"{"type":"veth","address":"224.0.0.1/8"}"#, "address 224.0.0.1 is no address"),
        (r#"{"type":"veth","gateway":"10.0.0.1"}"#, "gateway cannot be reached without"),
        (r#"{"type":"veth","ipv6_gateway":"fd00::1"}"#, "ipv6_gateway cannot be reached without"),
        (r#"{"type":"veth","mtu":-1}"#, "mtu -1 is out of range"),
        (r#"{"type":"veth","txqueuelen":4294967296}"#, "txqueuelen 4294967296 is out of range"),
        (r#"{"type":"veth","hairpin_mode":true}"#, "hairpin_mode is a mode of a bridge"),
        (r#"{"type":"host-device"}"#, "host_interface_name is missing"),
        (r#"{"type":"host-device","host_interface_name":"eth1","bridge":"br0"}"#, "bridge is for a veth"),
        (r#"{"type":"loopback","name":"eth0"}"#, "name \"eth0\" is not the loopback"),
        (r#"{"type":"loopback","bridge":"br0"}"#, "bridge is not for the loopback"),
        (r#"{"type":"loopback","gateway":"10.0.0.1"}"#, "gateway cannot be reached through the loopback"),
        (r#"{"type":"host-device","host_interface_name":"lo"}"#, "host_interface_name lo is the loopback"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.starts_with(said), "{json}: {error}");
    }
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rootfs")).unwrap();
    let spec = crate::config::oci::template(None).to_string();
    let mut config =
        crate::config::oci::from_json(spec.as_bytes(), std::path::Path::new("/b"), dir.path()).unwrap();
    change(&mut config);
    config
}

#[test]
fn what_does_not_fit_together_is_named() {
    let veth = |json: &str| read(json).unwrap();
    let name = |text: &str| text.parse::<InterfaceName>().unwrap();
    let renamed = |text: &str| NetDevice { name: Some(text.parse().unwrap()) };
    let refused = |change: &dyn Fn(&mut Config)| check(&config(change)).unwrap_err().to_string();

    check(&config(|_| {})).unwrap();
    let said = refused(&|config| {
        config.namespaces.retain(|namespace| namespace.kind != NamespaceKind::Network);
        config.networks = vec![veth(r#"{"type":"veth"}"#)];
    });
    assert!(said.starts_with("networks need a network namespace"), "{said}");
    let said = refused(&|config| {
        config.networks =
            vec![veth(r#"{"type":"veth","name":"eth0"}"#), veth(r#"{"type":"veth","name":"eth0"}"#)];
    });
    assert_eq!(said, "networks[1].name is a second eth0");
    let said = refused(&|config| {
        let one = r#"{"type":"veth","host_interface_name":"veth7"}"#;
        config.networks = vec![veth(one), veth(one)];
    });
    assert_eq!(said, "networks[1].host_interface_name is a second veth7");
    let said = refused(&|config| {
        config.net_devices = [(name("a"), renamed("eth0")), (name("b"), renamed("eth0"))].into();
    });
    assert_eq!(said, "netDevices.b.name is a second eth0");
    let said = refused(&|config| {
        config.networks = vec![veth(r#"{"type":"host-device","host_interface_name":"a","name":"x"}"#)];
        config.net_devices = [(name("a"), NetDevice::default())].into();
    });
    assert_eq!(said, "netDevices.a is in networks too");
    let said = refused(&|config| config.net_devices = [(name("lo"), NetDevice::default())].into());
    assert_eq!(said, "netDevices.lo is the loopback interface, which cannot be moved");
    let said = refused(&|config| config.net_devices = [(name("a"), renamed("lo"))].into());
    assert_eq!(said, "netDevices.a.name lo is the loopback interface's");
    check(&config(|config| {
        config.net_devices = [(name("a"), renamed("eth%d")), (name("b"), renamed("eth%d"))].into();
    }))
    .unwrap();
}
