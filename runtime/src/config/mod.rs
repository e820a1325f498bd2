//! What a container is to be: the runtime's own configuration.
//!
//! The model is libcontainer's `Config` in Rust. It is what every part of the runtime works from; where it came from
//! (an OCI bundle) is forgotten once it is made. What it holds has been checked: paths that have to be
//! absolute are, names are known, and what this runtime cannot do has been refused with the key that asks for it.
//!
//! It is serialised in two places: over the socket to the child that becomes the container's first process, and
//! inside the container's record on disk. Both ends are the same binary or one that follows it, so a field that is
//! added later needs `#[serde(default)]`.

mod capability;
mod device;
mod hooks;
mod memory_policy;
mod mount;
mod namespace;
pub mod native;
pub mod network;
pub mod oci;
mod personality;
mod process;
mod resctrl;
mod resources;
mod scheduling;
mod seccomp;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use capability::{Capabilities, Capability, CapabilitySet};
pub use device::{Device, DeviceKind, default_devices};
pub use hooks::{Hook, Hooks};
pub use memory_policy::{MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode};
pub use mount::{
    IdMaps, Mount, MountFlags, MountIds, MountKind, NO_SYMLINK_FOLLOW, Propagation, Relabel, SourceLink,
};
pub use namespace::{IdMapping, Namespace, NamespaceKind, TimeOffset, TimeOffsets};
use network::{InterfaceName, NetDevice, Route};
pub use personality::Personality;
pub use process::{ConsoleSize, Process, Rlimit, RlimitKind, User};
pub use resctrl::{IntelRdt, Shares};
pub use resources::{
    BlockIo, Cpu, DeviceAccess, DeviceRule, DeviceRuleKind, HugepageLimit, Memory, Network, NetworkPriority,
    Rdma, Resources, ThrottleDevice, WeightDevice,
};
pub use scheduling::{
    CpuAffinity, IoClass, IoPriority, NotNumbers, NumberSet, Scheduler, SchedulerFlag, SchedulerPolicy,
};
pub use seccomp::{
    Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompFlag, SeccompOperator, SeccompRule,
};

/// Everything that defines a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The root file system: an existing directory, absolute, without symbolic links.
    pub rootfs: PathBuf,
    /// Remount the root read-only once everything is mounted; only mounts into it stay writable.
    pub readonly: bool,
    /// Propagation of `/` in the container's mount namespace; `None` means recursively slave, as runc does.
    pub propagation: Option<Propagation>,
    /// Host name; needs a UTS namespace of the container's own. `None` leaves the inherited one.
    pub hostname: Option<String>,
    /// NIS domain name; needs a UTS namespace of the container's own.
    pub domainname: Option<String>,
    /// The namespaces that are created or joined, at most one of a kind. One that isn't named is shared with the
    /// process that creates the container.
    pub namespaces: Vec<Namespace>,
    /// User ids of the user namespace, if the container gets a new one.
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of the user namespace, if the container gets a new one.
    pub gid_mappings: Vec<IdMapping>,
    /// Mounts beyond the root, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Device nodes that are made in `/dev`, the six of [`default_devices`] included.
    pub devices: Vec<Device>,
    /// Paths inside the container that can't be read: a file is covered with `/dev/null`, a directory with an empty
    /// read-only tmpfs. A path that doesn't exist is passed over.
    pub masked_paths: Vec<PathBuf>,
    /// Paths inside the container that are bound onto themselves read-only. A path that doesn't exist is passed over.
    pub readonly_paths: Vec<PathBuf>,
    /// Kernel parameters below `/proc/sys`, by their dotted names; each belongs to a namespace of the container's own.
    pub sysctl: BTreeMap<String, String>,
    /// The first process.
    pub process: Process,
    /// Limits, applied through the cgroup.
    pub resources: Resources,
    /// Where the cgroup is, relative to each hierarchy's root (absolute in form); `None` means `/<id>`. With
    /// [`systemd_cgroup`](Self::systemd_cgroup), `slice:prefix:name`; `None` means `system.slice:floe:<id>`.
    pub cgroup_path: Option<PathBuf>,
    /// Let systemd make the cgroup, a transient scope.
    #[serde(default)]
    pub systemd_cgroup: bool,
    /// Programs that are run at points of the container's life.
    pub hooks: Hooks,
    /// Free-form labels, handed through to `state`.
    pub annotations: BTreeMap<String, String>,
    /// Change the root by `MS_MOVE` and `chroot` instead of `pivot_root(2)`: for hosts that run from an initramfs.
    #[serde(default)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring instead of making a new one.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// Interfaces that are made for the container or given to it while it exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<network::Network>,
    /// Routes, added when every interface is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Interfaces of the host that are moved into the container's network namespace, by their names on the host.
    #[serde(default, rename = "netDevices", skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<InterfaceName, NetDevice>,
    /// Which system calls its processes may make; `None` is all.
    #[serde(default)]
    pub seccomp: Option<Seccomp>,
    /// Which system its processes take the kernel for; `None` leaves the inherited one.
    #[serde(default)]
    pub personality: Option<Personality>,
    /// From which nodes its memory comes; `None` leaves the inherited policy.
    #[serde(default)]
    pub memory_policy: Option<MemoryPolicy>,
    /// Its share of caches and memory bandwidth; `None` leaves its processes in the group of whoever calls floe.
    #[serde(default)]
    pub intel_rdt: Option<IntelRdt>,
    /// The signal that the first process gets when its parent dies (`PR_SET_PDEATHSIG`, `prctl(2)`): that is floe. After a
    /// `create` it comes as soon as floe has left. `None` is no signal.
    #[serde(default)]
    pub parent_death_signal: Option<i32>,
    /// A folder inside the root, which has to be writable, for the host's root at the moment of `pivot_root(2)`. `None`
    /// needs none: the host's root is put over the new one for that moment.
    #[serde(default)]
    pub pivot_dir: Option<PathBuf>,
    /// The SELinux label of the file systems that are mounted anew.
    #[serde(default)]
    pub mount_label: Option<String>,
    /// How far the clocks of a new time namespace are ahead of the host's.
    #[serde(default)]
    pub time_offsets: TimeOffsets,
}

impl Config {
    /// The namespace of this kind, if the container creates or joins one.
    #[must_use]
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    /// Whether the container gets a *new* namespace of this kind (rather than sharing or joining one).
    #[must_use]
    pub fn creates(&self, kind: NamespaceKind) -> bool {
        self.namespace(kind).is_some_and(|namespace| namespace.path.is_none())
    }

    /// The id on the host that `id` inside the container stands for; `None` when the user namespace doesn't map it.
    /// Without a new user namespace ids are the host's own.
    #[must_use]
    pub fn host_uid(&self, id: u32) -> Option<u32> {
        self.host_id(&self.uid_mappings, id)
    }

    /// As [`Config::host_uid`], for a group id.
    #[must_use]
    pub fn host_gid(&self, id: u32) -> Option<u32> {
        self.host_id(&self.gid_mappings, id)
    }

    fn host_id(&self, mappings: &[IdMapping], id: u32) -> Option<u32> {
        if !self.creates(NamespaceKind::User) {
            return Some(id);
        }
        mappings.iter().find_map(|mapping| mapping.to_host(id))
    }
}
