//! What this runtime does, as `features.md` of the OCI runtime specification has it. Engines ask before they rely on
//! something.
//!
//! Nothing of it is written down twice: names come from the tables that the code works with, and for each feature the
//! reader of bundles is asked ([`Reader`]) whether it takes a configuration that uses it, since what floe cannot do is
//! refused there. As the specification has it, the answer is about floe, not about this host.

mod reader;
mod seccomp;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use crate::OCI_VERSION;
use crate::cgroup::SYSTEMD_ANNOTATION;
use crate::config::{Capability, Hooks, NamespaceKind, oci};
use reader::Reader;
use seccomp::Seccomp;

/// The oldest version of the specification whose bundles are read.
const OLDEST_OCI_VERSION: &str = "1.0.0";

/// Annotation by which engines see whether containers can be checkpointed as runc does it (`--image-path`), which floe
/// cannot: its own way is another one.
const CHECKPOINT: &str = "org.opencontainers.runc.checkpoint.enabled";

/// What a runtime can do (`specs-go/features` of the specification).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: Vec<&'static str>,
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    /// Annotations of a bundle that change what is done; a dot at the end says that it is a beginning.
    potentially_unsafe_config_annotations: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<String>,
    capabilities: Vec<&'static str>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_policy: Option<MemoryPolicy>,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

impl Features {
    /// Those of this floe.
    #[must_use]
    pub fn own() -> Self {
        let reader = Reader;
        let hook = json!([{ "path": "/bin/true" }]);
        let points = Hooks::default().by_point().map(|(point, _)| point);
        Self {
            oci_version_min: OLDEST_OCI_VERSION,
            oci_version_max: OCI_VERSION,
            hooks: reader.known(points, |point| json!({ "hooks": { point: hook } })),
            mount_options: oci::mount_options(),
            linux: Linux::of(reader),
            annotations: BTreeMap::from([(CHECKPOINT, false.to_string())]),
            potentially_unsafe_config_annotations: vec![SYSTEMD_ANNOTATION],
        }
    }
}

impl Linux {
    fn of(reader: Reader) -> Self {
        let takes = |linux: serde_json::Value| reader.takes(&json!({ "linux": linux }));
        let ids = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
        let mount = json!({
            "destination": "/mnt", "type": "bind", "source": "/mnt", "options": ["bind"],
            "uidMappings": ids, "gidMappings": ids,
        });
        Self {
            namespaces: NamespaceKind::ALL.iter().map(ToString::to_string).collect(),
            capabilities: Capability::all().map(Capability::name).collect(),
            cgroup: Cgroup {
                v1: true,
                v2: true,
                systemd: true,
                systemd_user: true,
                rdma: takes(json!({ "resources": { "rdma": { "mlx5_0": { "hcaHandles": 1 } } } })),
            },
            seccomp: Seccomp::of(reader),
            apparmor: Enabled::by(reader.takes(&json!({ "process": { "apparmorProfile": "floe" } }))),
            selinux: Enabled::by(reader.takes(&json!({ "process": { "selinuxLabel": "floe" } }))),
            intel_rdt: IntelRdt {
                enabled: takes(json!({ "intelRdt": { "closID": "floe", "l3CacheSchema": "L3:0=f" } })),
                schemata: takes(json!({ "intelRdt": { "schemata": ["L3:0=f"] } })),
                monitoring: takes(json!({ "intelRdt": { "enableMonitoring": true } })),
            },
            memory_policy: MemoryPolicy::of(reader),
            mount_extensions: MountExtensions {
                idmap: Enabled::by(reader.takes(&json!({ "mounts": [mount] }))),
            },
            net_devices: Enabled::by(takes(json!({ "netDevices": { "eth0": { "name": "eth1" } } }))),
        }
    }
}

impl Enabled {
    fn by(enabled: bool) -> Self {
        Self { enabled }
    }
}

impl MemoryPolicy {
    /// `None` where the reader knows no such policy.
    fn of(reader: Reader) -> Option<Self> {
        let modes = [
            "MPOL_DEFAULT",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_WEIGHTED_INTERLEAVE",
            "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY",
            "MPOL_LOCAL",
        ];
        let flags = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];
        let with = |policy| json!({ "linux": { "memoryPolicy": policy } });
        let own = Self {
            modes: reader.known(modes, |mode| match mode {
                "MPOL_DEFAULT" | "MPOL_LOCAL" => with(json!({ "mode": mode })),
                _ => with(json!({ "mode": mode, "nodes": "0" })),
            }),
            flags: reader
                .known(flags, |flag| with(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] }))),
        };
        (!own.modes.is_empty()).then_some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_in_the_form_of_the_specification() {
        let features = serde_json::to_value(Features::own()).unwrap();
        assert_eq!(features["ociVersionMin"], "1.0.0");
        assert_eq!(features["ociVersionMax"], OCI_VERSION);
        for (list, member) in [
            ("/hooks", "createRuntime"),
            ("/mountOptions", "rbind"),
            ("/linux/namespaces", "network"),
            ("/linux/capabilities", "CAP_NET_ADMIN"),
        ] {
            let list = features.pointer(list).and_then(|list| list.as_array()).unwrap();
            assert!(list.iter().any(|each| each == member), "{member} in {list:?}");
        }
        assert_eq!(features["linux"]["cgroup"]["v2"], true);
        assert!(features["linux"]["seccomp"]["enabled"].is_boolean());
        assert!(features["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean());
    }
}
