//! Limits that a cgroup enforces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All limits; what is `None` or empty is left as the kernel has it for a new cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory.
    pub memory: Memory,
    /// Processor time and placement.
    pub cpu: Cpu,
    /// Most processes and threads; −1 is unlimited.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Which devices may be opened and made, in the order in which the rules are applied.
    pub devices: Vec<DeviceRule>,
    /// Huge pages.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Classes of network traffic (v1 only).
    pub network: Network,
    /// Files of cgroup v2 that are written as they stand, by name.
    pub unified: BTreeMap<String, String>,
}

/// Memory limits, in bytes; −1 is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Memory and swap together (the OCI sense; v2's own file counts swap alone).
    pub swap: Option<i64>,
    /// 0 to 100 (v1 only).
    pub swappiness: Option<u64>,
    /// Let tasks wait instead of killing one at the limit (v1 only).
    pub disable_oom_killer: bool,
    /// Refuse a limit that is below what is in use, rather than reclaiming or killing.
    pub check_before_update: bool,
}

/// Processor time and placement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Relative share, 2 to 262144 (v1's scale; on v2 it becomes a weight).
    pub shares: Option<u64>,
    /// Microseconds of processor time in each period; −1 is unlimited.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up beyond the quota.
    pub burst: Option<u64>,
    /// Length of a period in microseconds.
    pub period: Option<u64>,
    /// Microseconds for real-time tasks in each real-time period (v1 only).
    pub realtime_runtime: Option<i64>,
    /// Length of a real-time period in microseconds (v1 only).
    pub realtime_period: Option<u64>,
    /// Processors, as a list such as `0-3,6`.
    pub cpus: Option<String>,
    /// Memory nodes, as a list.
    pub mems: Option<String>,
    /// 1 makes the whole group run only when nothing else does (`SCHED_IDLE`).
    pub idle: Option<i64>,
}

/// Block I/O.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// Weight, 10 to 1000 (v1's scale).
    pub weight: Option<u16>,
    /// Weight against the group's children (v1 only).
    pub leaf_weight: Option<u16>,
    /// Weights for single devices.
    pub weight_devices: Vec<WeightDevice>,
    /// Bytes a second, reading.
    pub read_bps: Vec<ThrottleDevice>,
    /// Bytes a second, writing.
    pub write_bps: Vec<ThrottleDevice>,
    /// Operations a second, reading.
    pub read_iops: Vec<ThrottleDevice>,
    /// Operations a second, writing.
    pub write_iops: Vec<ThrottleDevice>,
}

/// A weight for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight against the group's children (v1 only).
    pub leaf_weight: Option<u16>,
}

/// A rate for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations a second; 0 is unlimited.
    pub rate: u64,
}

/// To which nodes a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceRuleKind {
    /// Character and block devices alike.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// What a rule allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Opening for reading.
    pub read: bool,
    /// Opening for writing.
    pub write: bool,
    /// `mknod(2)`.
    pub mknod: bool,
}

/// One line of the device controller: a later one wins over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which kind of node.
    pub kind: DeviceRuleKind,
    /// Major number; `None` means every one.
    pub major: Option<u32>,
    /// Minor number; `None` means every one.
    pub minor: Option<u32>,
    /// Which accesses.
    pub access: DeviceAccess,
}

/// Most bytes in huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// The size as the controller's files name it: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes; −1 is unlimited.
    pub limit: i64,
}

/// Classes and priorities of network traffic, cgroup v1 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// `net_cls.classid`.
    pub class_id: Option<u32>,
    /// `net_prio.ifpriomap`.
    pub priorities: Vec<NetworkPriority>,
}

/// The priority of traffic on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPriority {
    /// Interface on the host.
    pub interface: String,
    /// Priority.
    pub priority: u32,
}
