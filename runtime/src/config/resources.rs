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
    /// RDMA, by the name of the device.
    pub rdma: BTreeMap<String, Rdma>,
    /// Classes of network traffic (v1 only).
    pub network: Network,
    /// Files of cgroup v2 that are written as they stand, by name.
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// These, but for what `change` says. Device rules that it has replace those here as a whole; in other
    /// lists each entry takes the place of the one for the same device, interface or size.
    #[must_use]
    pub fn changed(&self, change: &Self) -> Self {
        let Self { memory, cpu, pids, block_io, devices, hugepage_limits, rdma, network, unified } =
            change.clone();
        let old = self.clone();
        let mut rdmas = old.rdma;
        for (device, limit) in rdma {
            let now = rdmas.entry(device).or_default();
            now.hca_handles = limit.hca_handles.or(now.hca_handles);
            now.hca_objects = limit.hca_objects.or(now.hca_objects);
        }
        Self {
            memory: Memory {
                limit: memory.limit.or(old.memory.limit),
                reservation: memory.reservation.or(old.memory.reservation),
                swap: memory.swap.or(old.memory.swap),
                swappiness: memory.swappiness.or(old.memory.swappiness),
                disable_oom_killer: memory.disable_oom_killer.or(old.memory.disable_oom_killer),
                check_before_update: memory.check_before_update,
            },
            cpu: Cpu {
                shares: cpu.shares.or(old.cpu.shares),
                quota: cpu.quota.or(old.cpu.quota),
                burst: cpu.burst.or(old.cpu.burst),
                period: cpu.period.or(old.cpu.period),
                realtime_runtime: cpu.realtime_runtime.or(old.cpu.realtime_runtime),
                realtime_period: cpu.realtime_period.or(old.cpu.realtime_period),
                cpus: cpu.cpus.or(old.cpu.cpus),
                mems: cpu.mems.or(old.cpu.mems),
                idle: cpu.idle.or(old.cpu.idle),
            },
            pids: pids.or(old.pids),
            block_io: old.block_io.changed(block_io),
            devices: if devices.is_empty() { old.devices } else { devices },
            hugepage_limits: replaced(old.hugepage_limits, hugepage_limits, |one| one.page_size.clone()),
            rdma: rdmas,
            network: Network {
                class_id: network.class_id.or(old.network.class_id),
                priorities: replaced(old.network.priorities, network.priorities, |one| one.interface.clone()),
            },
            unified: old.unified.into_iter().chain(unified).collect(),
        }
    }
}

impl BlockIo {
    fn changed(self, change: Self) -> Self {
        let rates = |old, new| replaced(old, new, |one: &ThrottleDevice| (one.major, one.minor));
        Self {
            weight: change.weight.or(self.weight),
            leaf_weight: change.leaf_weight.or(self.leaf_weight),
            weight_devices: replaced(self.weight_devices, change.weight_devices, |one| {
                (one.major, one.minor)
            }),
            read_bps: rates(self.read_bps, change.read_bps),
            write_bps: rates(self.write_bps, change.write_bps),
            read_iops: rates(self.read_iops, change.read_iops),
            write_iops: rates(self.write_iops, change.write_iops),
        }
    }
}

/// `old` without what `new` has by the same key, and then `new`.
fn replaced<T, K: PartialEq>(old: Vec<T>, new: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let kept =
        old.into_iter().filter(|one| new.iter().all(|other| key(one) != key(other))).collect::<Vec<_>>();
    kept.into_iter().chain(new).collect()
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
    pub disable_oom_killer: Option<bool>,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Opening for reading.
    pub read: bool,
    /// Opening for writing.
    pub write: bool,
    /// `mknod(2)`.
    pub mknod: bool,
}

impl DeviceAccess {
    /// Reading, writing and making.
    pub const ALL: Self = Self { read: true, write: true, mknod: true };

    /// What either has.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            mknod: self.mknod || other.mknod,
        }
    }

    /// What both have.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
            mknod: self.mknod && other.mknod,
        }
    }

    /// What this has and the other has not.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            read: self.read && !other.read,
            write: self.write && !other.write,
            mknod: self.mknod && !other.mknod,
        }
    }

    /// Whether it is no access at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
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

/// Most resources of one RDMA device; what is `None` is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rdma {
    /// Handles of the device.
    pub hca_handles: Option<u32>,
    /// Objects made through them.
    pub hca_objects: Option<u32>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_say() {
        let rate = |major, rate| ThrottleDevice { major, minor: 0, rate };
        let old = Resources {
            memory: Memory { limit: Some(100), swap: Some(200), ..Memory::default() },
            pids: Some(5),
            block_io: BlockIo { read_bps: vec![rate(8, 1), rate(9, 1)], ..BlockIo::default() },
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        assert_eq!(old.changed(&Resources::default()), old);
        let change = Resources {
            memory: Memory { limit: Some(150), ..Memory::default() },
            cpu: Cpu { shares: Some(7), ..Cpu::default() },
            block_io: BlockIo { read_bps: vec![rate(8, 2)], ..BlockIo::default() },
            unified: [("memory.high".to_owned(), "2".to_owned())].into(),
            ..Resources::default()
        };
        let new = old.changed(&change);
        assert_eq!(
            (new.memory.limit, new.memory.swap, new.cpu.shares, new.pids),
            (Some(150), Some(200), Some(7), Some(5))
        );
        assert_eq!(new.block_io.read_bps, [rate(9, 1), rate(8, 2)]);
        assert_eq!(new.unified["memory.high"], "2");
    }
}
