//! The list of version 1's device controller, as the kernel keeps it.
//!
//! A list allows or denies everything, but for exceptions. Rules are applied one after the other: a rule for all
//! devices starts the list anew, any other adds an exception or takes one back. An exception is taken back by the very
//! node that it was made for; to take a part out of a wider one isn't possible in the kernel, which passes such a rule
//! over without a word, and is an error here. `security/device_cgroup.c`,
//! `Documentation/admin-guide/cgroup-v1/devices.rst`.

use std::collections::BTreeMap;

use super::letters;
use crate::config::{DeviceAccess, DeviceRule, DeviceRuleKind};
use crate::error::{Error, Result};

/// A list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) struct DeviceList {
    /// What holds where no exception does.
    allows: bool,
    /// What is allowed of a list that denies, and the other way round. No access in it is empty.
    exceptions: BTreeMap<Node, DeviceAccess>,
}

/// What an exception is for; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) kind: NodeKind,
}

/// Kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeKind {
    Block,
    Char,
}

impl DeviceList {
    /// Denies everything.
    fn nothing() -> Self {
        Self { allows: false, exceptions: BTreeMap::new() }
    }

    /// What comes of these rules, on top of a list that denies everything.
    ///
    /// # Errors
    /// [`Error::Refused`] for a rule that would take a part out of a wider one.
    pub(in crate::cgroup) fn of(rules: &[DeviceRule]) -> Result<Self> {
        let mut list = Self::nothing();
        for (number, rule) in rules.iter().enumerate() {
            list.apply(rule, number)?;
        }
        Ok(list)
    }

    /// What `devices.list` of version 1 says. A list that allows everything keeps its exceptions to itself.
    pub(super) fn parse(text: &str) -> Self {
        let mut list = Self::nothing();
        for line in text.lines() {
            let mut fields = line.split([' ', ':']);
            let kind = match fields.next() {
                Some("b") => NodeKind::Block,
                Some("c") => NodeKind::Char,
                _ => return Self { allows: true, exceptions: BTreeMap::new() },
            };
            let mut number = || fields.next().and_then(|field| field.parse().ok());
            let node = Node { major: number(), minor: number(), kind };
            let letters = fields.next().unwrap_or_default();
            let access = DeviceAccess {
                read: letters.contains('r'),
                write: letters.contains('w'),
                mknod: letters.contains('m'),
            };
            list.add(node, access);
        }
        list
    }

    /// Whether it allows everything, without exception.
    pub(in crate::cgroup) fn allows_everything(&self) -> bool {
        self.allows && self.exceptions.is_empty()
    }

    /// Whether it allows what no exception is about.
    pub(in crate::cgroup) fn allows_by_default(&self) -> bool {
        self.allows
    }

    pub(super) fn exceptions(&self) -> impl Iterator<Item = (&Node, DeviceAccess)> {
        self.exceptions.iter().map(|(node, access)| (node, *access))
    }

    /// The rules that make `target` of this list, without denying on the way what both allow.
    pub(super) fn towards(&self, target: &Self) -> Vec<DeviceRule> {
        let mut rules = Vec::new();
        let nothing = BTreeMap::new();
        let mut old = &self.exceptions;
        // What a list that allows everything has exceptions for isn't known, so it is begun anew.
        if self.allows != target.allows || (self.allows && self != target) {
            rules.push(DeviceRule {
                allow: target.allows,
                kind: DeviceRuleKind::All,
                major: None,
                minor: None,
                access: DeviceAccess::ALL,
            });
            old = &nothing;
        }
        let of = |map: &BTreeMap<Node, DeviceAccess>, node| map.get(node).copied().unwrap_or_default();
        let mut push = |allow, node: &Node, access: DeviceAccess| {
            if !access.is_empty() {
                let kind = match node.kind {
                    NodeKind::Block => DeviceRuleKind::Block,
                    NodeKind::Char => DeviceRuleKind::Char,
                };
                rules.push(DeviceRule { allow, kind, major: node.major, minor: node.minor, access });
            }
        };
        for (node, access) in old {
            push(target.allows, node, access.without(of(&target.exceptions, node)));
        }
        for (node, access) in &target.exceptions {
            push(!target.allows, node, access.without(of(old, node)));
        }
        rules
    }

    fn apply(&mut self, rule: &DeviceRule, number: usize) -> Result<()> {
        let kind = match rule.kind {
            DeviceRuleKind::All => {
                *self = Self { allows: rule.allow, exceptions: BTreeMap::new() };
                return Ok(());
            }
            DeviceRuleKind::Block => NodeKind::Block,
            DeviceRuleKind::Char => NodeKind::Char,
        };
        let node = Node { major: rule.major, minor: rule.minor, kind };
        if rule.allow == self.allows {
            return self.take_back(node, rule.access, number);
        }
        self.add(node, rule.access);
        Ok(())
    }

    fn add(&mut self, node: Node, access: DeviceAccess) {
        if !access.is_empty() {
            let old = self.exceptions.entry(node).or_default();
            *old = old.union(access);
        }
    }

    fn take_back(&mut self, node: Node, access: DeviceAccess, number: usize) -> Result<()> {
        let wider = [
            Node { major: None, ..node },
            Node { minor: None, ..node },
            Node { major: None, minor: None, ..node },
        ];
        for wide in wider.into_iter().filter(|wide| *wide != node) {
            let Some(given) = self.exceptions.get(&wide) else { continue };
            if !given.intersection(access).is_empty() {
                return Err(Error::Refused {
                    problem: format!(
                        "linux.resources.devices[{number}] ({}) would take a part out of the wider rule {}, \
                         which the device controller cannot do",
                        shown(&node, access),
                        shown(&wide, *given),
                    ),
                    hint: "name the devices of the wider rule one by one",
                });
            }
        }
        if let Some(old) = self.exceptions.get_mut(&node) {
            *old = old.without(access);
            if old.is_empty() {
                self.exceptions.remove(&node);
            }
        }
        Ok(())
    }
}

/// As a line of `devices.list`: `c 1:3 rwm`.
fn shown(node: &Node, access: DeviceAccess) -> String {
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let kind = match node.kind {
        NodeKind::Block => 'b',
        NodeKind::Char => 'c',
    };
    format!("{kind} {}:{} {}", number(node.major), number(node.minor), letters(access))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rules as they are written: `deny a`, `allow c 1:3 rwm`, `allow c 136:* rw`.
    pub(in crate::cgroup::devices) fn rules(lines: &[&str]) -> Vec<DeviceRule> {
        let rule = |line: &&str| {
            let (verb, rest) = line.split_once(' ').unwrap();
            let fields: Vec<&str> = rest.split([' ', ':']).collect();
            let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
            let letters = fields.get(3).copied().unwrap_or("rwm");
            DeviceRule {
                allow: verb == "allow",
                kind: match fields[0] {
                    "b" => DeviceRuleKind::Block,
                    "c" => DeviceRuleKind::Char,
                    _ => DeviceRuleKind::All,
                },
                major: number(1),
                minor: number(2),
                access: DeviceAccess {
                    read: letters.contains('r'),
                    write: letters.contains('w'),
                    mknod: letters.contains('m'),
                },
            }
        };
        lines.iter().map(rule).collect()
    }

    fn list(lines: &[&str]) -> DeviceList {
        DeviceList::of(&rules(lines)).unwrap()
    }

    fn exceptions(list: &DeviceList) -> Vec<String> {
        list.exceptions().map(|(node, access)| shown(node, access)).collect()
    }

    #[test]
    fn rules_of_one_node_add_up_and_are_taken_back() {
        let built = list(&["deny a", "allow c 1:3 r", "allow c 1:3 w", "allow b 8:* m", "deny c 1:3 r"]);
        assert_eq!(exceptions(&built), ["c 1:3 w", "b 8:* m"]);
        assert_eq!(exceptions(&list(&["allow c 1:3 r", "deny c 1:3 rwm"])), [""; 0]);
        assert_eq!(
            list(&["allow c 1:3 r"]),
            list(&["allow a", "deny a", "allow c 1:3 r"]),
            "denied at first"
        );
    }

    #[test]
    fn a_rule_for_all_starts_anew() {
        assert!(list(&["deny a", "allow c 1:3 r", "allow a"]).allows_everything());
        assert!(list(&["allow a", "allow c 1:3 r"]).allows_everything());
        assert_eq!(exceptions(&list(&["allow a", "deny c 5:1 w"])), ["c 5:1 w"]);
    }

    #[test]
    fn a_hole_in_a_wider_rule_is_refused_by_its_key() {
        for narrow in ["deny c 1:3 r", "deny c 1:* r", "deny c *:3 rwm"] {
            let error = DeviceList::of(&rules(&["allow c *:* rm", narrow])).unwrap_err();
            assert!(error.to_string().contains("linux.resources.devices[1]"), "{error}");
        }
        // Another access, another kind, or the very same node is no hole.
        list(&["allow c *:* m", "deny c 1:3 rw", "deny b 1:3 m", "deny c *:* m"]);
    }

    #[test]
    fn the_way_to_another_list_is_short_and_leads_there() {
        let lists = [
            vec!["deny a"],
            vec!["allow a"],
            vec!["deny a", "allow c 1:3 rwm", "allow c 136:* rw"],
            vec!["deny a", "allow c 1:3 r", "allow b 8:0 rwm"],
            vec!["allow a", "deny c 10:229 rwm"],
        ]
        .map(|lines| list(&lines));
        for from in &lists {
            for to in &lists {
                let mut built = from.clone();
                for (number, rule) in from.towards(to).iter().enumerate() {
                    built.apply(rule, number).unwrap();
                }
                assert_eq!(&built, to, "from {from:?}");
            }
            assert!(from.towards(from).is_empty());
        }
        let way = lists[2].towards(&lists[3]);
        assert_eq!(way.len(), 3, "two are taken back, one is given: {way:?}");
        assert!(!way.iter().any(|rule| rule.kind == DeviceRuleKind::All));
    }

    #[test]
    fn the_kernels_list_is_read() {
        let read = DeviceList::parse("c 1:3 rwm\nc 136:* rw\nb *:* m\n");
        assert_eq!(read, list(&["allow c 1:3 rwm", "allow c 136:* rw", "allow b *:* m"]));
        assert!(DeviceList::parse("a *:* rwm\n").allows_everything());
        assert_eq!(DeviceList::parse(""), list(&["deny a"]));
    }
}
