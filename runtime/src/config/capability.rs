//! Capabilities: names, numbers, sets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The capabilities' names in the order of their numbers: `include/uapi/linux/capability.h`, complete up to
/// `CAP_LAST_CAP` 40 of Linux 5.9 and later.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// One capability of `capabilities(7)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Every one, by its number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0_u8..).take(NAMES.len()).map(Self)
    }

    /// The capability with the kernel's number `number`; `None` for one of a later kernel.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// The kernel's number, 0 to 40.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name with its `CAP_` in front.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no capability of Linux 5.9 or later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no capability (capabilities(7) lists them, e.g. CAP_NET_ADMIN)")]
pub struct UnknownCapability(String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Reads a name in either case, with or without `CAP_`, as people type it after `--cap`.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        (0_u8..)
            .zip(NAMES)
            .find(|(_, name)| name.strip_prefix("CAP_") == Some(bare))
            .map(|(number, _)| Self(number))
            .ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

/// A set of capabilities, kept as the kernel keeps it: bit *n* is the capability with number *n*.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// The set without members.
    pub const EMPTY: Self = Self(0);

    /// The set as bits; bits above 40 are never set.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether `capability` is in it.
    #[must_use]
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability.0;
    }

    /// Its members in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0_u8..).take(NAMES.len()).map(Capability).filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(members: I) -> Self {
        let mut set = Self::EMPTY;
        members.into_iter().for_each(|member| set.insert(member));
        set
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Capability::name))
    }
}

impl<'de> Deserialize<'de> for CapabilitySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
    }
}

/// The capability sets of a process, see `capabilities(7)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What can ever be gained again by executing a file.
    pub bounding: CapabilitySet,
    /// What the kernel checks.
    pub effective: CapabilitySet,
    /// What is kept over `execve(2)` of a file that has it inheritable.
    pub inheritable: CapabilitySet,
    /// What may be made effective.
    pub permitted: CapabilitySet,
    /// What is kept over `execve(2)` of an ordinary file; a subset of permitted and inheritable.
    pub ambient: CapabilitySet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_spelling() {
        for text in ["CAP_SYS_ADMIN", "cap_sys_admin", "sys_admin", "SYS_ADMIN"] {
            assert_eq!(text.parse::<Capability>().unwrap().number(), 21);
        }
        assert_eq!("CAP_CHECKPOINT_RESTORE".parse::<Capability>().unwrap().number(), 40);
        assert!("CAP_NOTHING".parse::<Capability>().unwrap_err().to_string().contains("CAP_NOTHING"));
        assert!("CAP_CAP_KILL".parse::<Capability>().is_err());
    }

    #[test]
    fn a_set_survives_json() {
        let set: CapabilitySet = ["CAP_KILL", "CAP_BPF"].iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(set.bits(), 1 << 5 | 1 << 39);
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, r#"["CAP_KILL","CAP_BPF"]"#);
        assert_eq!(serde_json::from_str::<CapabilitySet>(&json).unwrap(), set);
    }
}
