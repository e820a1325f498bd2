//! The `linux.resources` part.

use std::path::Path;

use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxDeviceType, LinuxRdma, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::Source;
use crate::config::{
    BlockIo, Cpu, DeviceAccess, DeviceRule, DeviceRuleKind, HugepageLimit, Memory, Network, NetworkPriority,
    Rdma, Resources, ThrottleDevice, WeightDevice,
};
use crate::error::{Error, Result};

/// Reads the text of a `linux.resources` object, as it is given for an update. Device rules are left out: an update
/// doesn't touch them.
///
/// # Errors
/// [`Error::Json`].
pub fn from_json(text: &[u8], file: &Path) -> Result<Resources> {
    let mut resources: LinuxResources = serde_json::from_slice(text).map_err(|source| Error::Json {
        path: file.to_owned(),
        what: "OCI resources",
        source,
    })?;
    resources.set_devices(None);
    convert(Some(&resources), Source { file })
}

pub(super) fn convert(resources: Option<&LinuxResources>, source: Source<'_>) -> Result<Resources> {
    let Some(resources) = resources else { return Ok(Resources::default()) };
    let hugepages = resources.hugepage_limits().iter().flatten();
    Ok(Resources {
        memory: memory(resources),
        cpu: cpu(resources),
        pids: resources.pids().as_ref().map(|pids| pids.limit()).filter(is_said),
        block_io: block_io(resources, source)?,
        devices: device_rules(resources.devices().as_deref().unwrap_or_default(), source)?,
        hugepage_limits: hugepages
            .map(|one| HugepageLimit { page_size: one.page_size().clone(), limit: one.limit() })
            .collect(),
        rdma: resources
            .rdma()
            .iter()
            .flatten()
            .map(|(device, limit)| (device.clone(), rdma(limit)))
            .collect(),
        network: resources.network().as_ref().map_or_else(Network::default, |network| Network {
            class_id: network.class_id(),
            priorities: network
                .priorities()
                .iter()
                .flatten()
                .map(|one| NetworkPriority { interface: one.name().clone(), priority: one.priority() })
                .collect(),
        }),
        unified: resources
            .unified()
            .iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    })
}

/// Engines write 0 for what nobody asked for, which runc takes for nothing as well. No limit of these means anything as 0.
fn is_said<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}

fn memory(resources: &LinuxResources) -> Memory {
    let Some(memory) = resources.memory() else { return Memory::default() };
    if memory.kernel().or(memory.kernel_tcp()).is_some_and(|limit| limit != 0) {
        tracing::warn!("limits of kernel memory are ignored: the kernel has none any more");
    }
    Memory {
        limit: memory.limit().filter(is_said),
        reservation: memory.reservation().filter(is_said),
        swap: memory.swap().filter(is_said),
        swappiness: memory.swappiness(),
        disable_oom_killer: memory.disable_oom_killer(),
        check_before_update: memory.check_before_update().unwrap_or(false),
    }
}

fn rdma(limit: &LinuxRdma) -> Rdma {
    Rdma { hca_handles: limit.hca_handles(), hca_objects: limit.hca_objects() }
}

fn cpu(resources: &LinuxResources) -> Cpu {
    let Some(cpu) = resources.cpu() else { return Cpu::default() };
    let list = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Cpu {
        shares: cpu.shares().filter(is_said),
        quota: cpu.quota().filter(is_said),
        burst: cpu.burst(),
        period: cpu.period().filter(is_said),
        realtime_runtime: cpu.realtime_runtime().filter(is_said),
        realtime_period: cpu.realtime_period().filter(is_said),
        cpus: list(cpu.cpus()),
        mems: list(cpu.mems()),
        idle: cpu.idle(),
    }
}

fn block_io(resources: &LinuxResources, source: Source<'_>) -> Result<BlockIo> {
    let Some(io) = resources.block_io() else { return Ok(BlockIo::default()) };
    let half = |value: i64, list: &str, number: usize, part: &str| {
        let key = || format!("linux.resources.blockIO.{list}[{number}].{part}");
        u32::try_from(value).map_err(|_| source.bad(key(), "is no device number"))
    };
    let rates = |devices: &Option<Vec<LinuxThrottleDevice>>, list: &str| {
        let convert = |(number, one): (usize, &LinuxThrottleDevice)| {
            Ok(ThrottleDevice {
                major: half(one.major(), list, number, "major")?,
                minor: half(one.minor(), list, number, "minor")?,
                rate: one.rate(),
            })
        };
        devices.iter().flatten().enumerate().map(convert).collect::<Result<_>>()
    };
    let weight = |(number, one): (usize, &LinuxWeightDevice)| {
        Ok(WeightDevice {
            major: half(one.major(), "weightDevice", number, "major")?,
            minor: half(one.minor(), "weightDevice", number, "minor")?,
            weight: one.weight().filter(is_said),
            leaf_weight: one.leaf_weight().filter(is_said),
        })
    };
    Ok(BlockIo {
        weight: io.weight().filter(is_said),
        leaf_weight: io.leaf_weight().filter(is_said),
        weight_devices: io.weight_device().iter().flatten().enumerate().map(weight).collect::<Result<_>>()?,
        read_bps: rates(io.throttle_read_bps_device(), "throttleReadBpsDevice")?,
        write_bps: rates(io.throttle_write_bps_device(), "throttleWriteBpsDevice")?,
        read_iops: rates(io.throttle_read_iops_device(), "throttleReadIOPSDevice")?,
        write_iops: rates(io.throttle_write_iops_device(), "throttleWriteIOPSDevice")?,
    })
}

fn device_rules(rules: &[LinuxDeviceCgroup], source: Source<'_>) -> Result<Vec<DeviceRule>> {
    let convert = |(number, rule): (usize, &LinuxDeviceCgroup)| {
        let key = |part: &str| format!("linux.resources.devices[{number}].{part}");
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => DeviceRuleKind::All,
            Some(LinuxDeviceType::B) => DeviceRuleKind::Block,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceRuleKind::Char,
            Some(LinuxDeviceType::P) => return Err(source.bad(key("type"), "must be a, b or c")),
        };
        // -1 and nothing both mean every number.
        let half = |value: Option<i64>, part: &str| match value {
            None | Some(-1) => Ok(None),
            Some(value) => {
                u32::try_from(value).map(Some).map_err(|_| source.bad(key(part), "is no device number"))
            }
        };
        let letters = rule.access().as_deref().unwrap_or("rwm");
        if let Some(wrong) = letters.chars().find(|letter| !"rwm".contains(*letter)) {
            return Err(source.bad(key("access"), format!("{wrong:?} is none of r, w and m")));
        }
        Ok(DeviceRule {
            allow: rule.allow(),
            kind,
            major: half(rule.major(), "major")?,
            minor: half(rule.minor(), "minor")?,
            access: DeviceAccess {
                read: letters.contains('r'),
                write: letters.contains('w'),
                mknod: letters.contains('m'),
            },
        })
    };
    let mut all: Vec<DeviceRule> = rules.iter().enumerate().map(convert).collect::<Result<_>>()?;
    // Without any rule nothing is restricted, and there is nothing to allow again.
    if !all.is_empty() {
        all.extend(default_rules());
    }
    Ok(all)
}

/// What every container may do with devices, whatever its own rules say, as with runc: make nodes of any kind (to
/// make is not to open), and use the default devices of the OCI specification, terminals among them.
fn default_rules() -> impl Iterator<Item = DeviceRule> {
    let any = |kind| (kind, None, None, DeviceAccess { read: false, write: false, mknod: true });
    let open = |major, minor| {
        (DeviceRuleKind::Char, Some(major), minor, DeviceAccess { read: true, write: true, mknod: true })
    };
    let rules = [
        any(DeviceRuleKind::Char),
        any(DeviceRuleKind::Block),
        open(1, Some(3)),
        open(1, Some(5)),
        open(1, Some(7)),
        open(1, Some(8)),
        open(1, Some(9)),
        open(5, Some(0)),
        open(5, Some(1)),
        open(5, Some(2)),
        open(136, None),
    ];
    rules.into_iter().map(|(kind, major, minor, access)| DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        access,
    })
}
