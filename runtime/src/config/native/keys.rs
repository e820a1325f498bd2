//! Keys of the native form: how they are read, and how they are named where OCI's words were used meanwhile.

use serde_json::{Map, Value};

use crate::config::source::Source;
use crate::error::{Error, Result};

/// Values whose keys are names that somebody chose, and no words of the format.
const FREE: [&str; 3] = ["sysctl", "unified", "process"];

/// As Go reads it: keys in lower case, and without those that are `null`.
pub(super) fn normal(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| {
                    let key = key.to_ascii_lowercase();
                    let value = if FREE.contains(&key.as_str()) { value } else { normal(value) };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(normal).collect()),
        other => other,
    }
}

impl Source<'_> {
    /// Refuses what nobody knows, unless it says nothing: programs write out every field they have.
    pub(super) fn none_unknown(&self, within: &str, unknown: &Map<String, Value>) -> Result<()> {
        match unknown.iter().find(|(_, value)| !says_nothing(value)) {
            None => Ok(()),
            Some((key, _)) if within.is_empty() => Err(self.unsupported(key, "there is no such key")),
            Some((key, _)) => Err(self.unsupported(format!("{within}.{key}"), "there is no such key")),
        }
    }

    /// The same for each entry of a list.
    pub(super) fn none_unknown_of<'m>(
        &self,
        list: &str,
        entries: impl Iterator<Item = &'m Map<String, Value>>,
    ) -> Result<()> {
        entries
            .enumerate()
            .try_for_each(|(number, unknown)| self.none_unknown(&format!("{list}[{number}]"), unknown))
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(says_nothing),
    }
}

/// OCI's keys and the native ones, the longer before those that they begin with.
const WORDS: [(&str, &str); 53] = [
    ("root.path", "rootfs"),
    ("root.readonly", "readonlyfs"),
    ("root", "rootfs"),
    ("process.capabilities", "capabilities"),
    ("process.apparmorProfile", "apparmor_profile"),
    ("process.selinuxLabel", "process_label"),
    ("process.rlimits", "rlimits"),
    ("process.oomScoreAdj", "oom_score_adj"),
    ("process.noNewPrivileges", "no_new_privileges"),
    ("process.user.umask", "umask"),
    ("process.user.additionalGids", "additional_groups"),
    ("linux.rootfsPropagation", "rootPropagation"),
    ("linux.mountLabel", "mount_label"),
    ("linux.namespaces", "namespaces"),
    ("linux.uidMappings", "uid_mappings"),
    ("linux.gidMappings", "gid_mappings"),
    ("linux.maskedPaths", "mask_paths"),
    ("linux.readonlyPaths", "readonly_paths"),
    ("linux.sysctl", "sysctl"),
    ("linux.devices", "devices"),
    ("linux.cgroupsPath", "cgroups.path"),
    ("linux.seccomp.defaultAction", "seccomp.default_action"),
    ("linux.seccomp.defaultErrnoRet", "seccomp.default_errno_ret"),
    ("linux.seccomp.listenerPath", "seccomp.listener_path"),
    ("linux.seccomp.listenerMetadata", "seccomp.listener_metadata"),
    ("linux.seccomp", "seccomp"),
    ("linux.resources.devices", "cgroups.devices"),
    ("linux.resources.memory.limit", "cgroups.memory"),
    ("linux.resources.memory.reservation", "cgroups.memory_reservation"),
    ("linux.resources.memory.swappiness", "cgroups.memory_swappiness"),
    ("linux.resources.memory.swap", "cgroups.memory_swap"),
    ("linux.resources.memory.kernelTCP", "cgroups.kernel_memory_tcp"),
    ("linux.resources.memory.kernel", "cgroups.kernel_memory"),
    ("linux.resources.memory.disableOOMKiller", "cgroups.oom_kill_disable"),
    ("linux.resources.cpu.shares", "cgroups.cpu_shares"),
    ("linux.resources.cpu.quota", "cgroups.cpu_quota"),
    ("linux.resources.cpu.burst", "cgroups.cpu_burst"),
    ("linux.resources.cpu.period", "cgroups.cpu_period"),
    ("linux.resources.cpu.realtimeRuntime", "cgroups.cpu_rt_quota"),
    ("linux.resources.cpu.realtimePeriod", "cgroups.cpu_rt_period"),
    ("linux.resources.cpu.cpus", "cgroups.cpuset_cpus"),
    ("linux.resources.cpu.mems", "cgroups.cpuset_mems"),
    ("linux.resources.cpu.idle", "cgroups.cpu_idle"),
    ("linux.resources.pids.limit", "cgroups.pids_limit"),
    ("linux.resources.pids", "cgroups.pids_limit"),
    ("linux.resources.hugepageLimits", "cgroups.hugetlb_limit"),
    ("linux.resources.network.classID", "cgroups.net_cls_classid_u"),
    ("linux.resources.network.priorities", "cgroups.net_prio_ifpriomap"),
    ("linux.resources.blockIO.", "cgroups.blkio_"),
    ("linux.resources.unified", "cgroups.unified"),
    ("linux.resources.rdma", "cgroups.rdma"),
    ("linux.resources", "cgroups"),
    ("hooks", "Hooks"),
];

/// Names a refusal of the conversion by the key that stands in the file.
pub(super) fn in_native_words(error: Error) -> Error {
    match error {
        Error::BadConfig { path, key, problem } => Error::BadConfig { path, key: native_key(&key), problem },
        Error::Unsupported { path, key, reason } => {
            Error::Unsupported { path, key: native_key(&key), reason }
        }
        other => other,
    }
}

fn native_key(key: &str) -> String {
    WORDS
        .iter()
        .find_map(|(oci, native)| Some(format!("{native}{}", key.strip_prefix(oci)?)))
        .unwrap_or_else(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_word_decides() {
        assert_eq!(native_key("linux.namespaces[2].path"), "namespaces[2].path");
        assert_eq!(native_key("linux.resources.memory.swappiness"), "cgroups.memory_swappiness");
        assert_eq!(native_key("mounts[3].options"), "mounts[3].options");
        for (number, (oci, _)) in WORDS.iter().enumerate() {
            let hidden = WORDS[..number].iter().find(|(earlier, _)| oci.starts_with(earlier));
            assert!(hidden.is_none(), "{oci} is never reached, because of {hidden:?}");
        }
    }

    #[test]
    fn keys_are_read_as_go_does() {
        let value = serde_json::json!({ "Hooks": { "Prestart": null, "Poststop": [{ "Path": "/a" }] },
            "sysctl": { "net.Foo": "1" } });
        let expected =
            serde_json::json!({ "hooks": { "poststop": [{ "path": "/a" }] }, "sysctl": { "net.Foo": "1" } });
        assert_eq!(normal(value), expected);
    }
}
