//! A device list as systemd's `DeviceAllow=`, `systemd.resource-control(5)`.

use super::letters;
use super::list::{DeviceList, Node, NodeKind};

/// What a list that denies by default allows, as pairs of a node and its access: `("/dev/char/1:3", "rwm")`,
/// `("char-pts", "rw")`, `("char-*", "m")`. What systemd has no form for is left out with a warning.
pub(in crate::cgroup) fn rules(list: &DeviceList) -> Vec<(String, String)> {
    let drivers = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let entry = |(node, access): (&Node, _)| match form(node, &drivers) {
        Some(form) => Some((form, letters(access))),
        None => {
            tracing::warn!("systemd cannot be told of the device rule for {node:?}");
            None
        }
    };
    list.exceptions().filter_map(entry).collect()
}

fn form(node: &Node, drivers: &str) -> Option<String> {
    let kind = match node.kind {
        NodeKind::Block => "block",
        NodeKind::Char => "char",
    };
    match (node.major, node.minor) {
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
        (Some(major), None) => driver(drivers, node.kind, major).map(|name| format!("{kind}-{name}")),
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
    }
}

/// The driver with this major number in `/proc/devices`.
fn driver(drivers: &str, kind: NodeKind, major: u32) -> Option<&str> {
    let (characters, blocks) = drivers.split_once("Block devices:").unwrap_or((drivers, ""));
    let part = match kind {
        NodeKind::Char => characters,
        NodeKind::Block => blocks,
    };
    part.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::rules;
    use super::*;

    #[test]
    fn nodes_have_systemds_forms() {
        let drivers = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  1 ramdisk\n  8 sd\n";
        let list = DeviceList::of(&rules(&[
            "allow c *:* m",
            "allow c 1:3 rwm",
            "allow c 136:* rw",
            "allow b 8:* r",
        ]));
        let list = list.unwrap();
        let forms: Vec<String> = list.exceptions().filter_map(|(node, _)| form(node, drivers)).collect();
        for wanted in ["char-*", "/dev/char/1:3", "char-pts", "block-sd"] {
            assert!(forms.iter().any(|form| form == wanted), "{wanted} in {forms:?}");
        }
        assert_eq!(form(&Node { major: Some(9), minor: None, kind: NodeKind::Block }, drivers), None);
        assert_eq!(form(&Node { major: None, minor: Some(1), kind: NodeKind::Char }, drivers), None);
        assert!(super::rules(&list).contains(&("/dev/char/1:3".to_owned(), "rwm".to_owned())));
    }
}
