//! Limits of version 1, one function for each controller.

use std::path::Path;

use super::V1;
use crate::cgroup::files::{self, write_limit};
use crate::config::{
    BlockIo, Cpu, DeviceRule, DeviceRuleKind, HugepageLimit, Memory, Network, Resources, ThrottleDevice,
};
use crate::error::{Error, Result};

pub(super) fn apply(cgroup: &V1, resources: &Resources) -> Result<()> {
    memory(cgroup, &resources.memory)?;
    cpu(cgroup, &resources.cpu)?;
    cpuset(cgroup, &resources.cpu)?;
    pids(cgroup, resources.pids)?;
    block_io(cgroup, &resources.block_io)?;
    devices(cgroup, &resources.devices)?;
    hugetlb(cgroup, &resources.hugepage_limits)?;
    network(cgroup, &resources.network)?;
    unified(resources)
}

fn memory(cgroup: &V1, memory: &Memory) -> Result<()> {
    if *memory == Memory::default() {
        return Ok(());
    }
    let dir = cgroup.needed("memory", "linux.resources.memory")?;
    if memory.check_before_update
        && let Some(limit) = memory.limit.and_then(|limit| u64::try_from(limit).ok())
    {
        let usage = files::read(dir, "memory.usage_in_bytes")?.parse().unwrap_or(0);
        if limit < usage {
            return Err(Error::Refused {
                problem: format!("memory limit {limit} is below what is in use, {usage} bytes"),
                hint: "choose a higher linux.resources.memory.limit, or leave checkBeforeUpdate out",
            });
        }
    }
    limit_and_swap(dir, memory)?;
    write_opt(dir, "memory.soft_limit_in_bytes", memory.reservation)?;
    write_opt(dir, "memory.swappiness", memory.swappiness)?;
    if memory.disable_oom_killer {
        write_limit(dir, "memory.oom_control", 1)?;
    }
    Ok(())
}

/// The kernel wants `limit <= limit with swap` after each single write, so the order depends on the direction.
fn limit_and_swap(dir: &Path, memory: &Memory) -> Result<()> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    // A limit that is lifted has to take the other one with it; without swap accounting there is none.
    let swap =
        memory.swap.or_else(|| memory.limit.filter(|limit| *limit == -1).filter(|_| dir.join(SWAP).exists()));
    let (Some(limit), Some(swap)) = (memory.limit, swap) else {
        write_opt(dir, LIMIT, memory.limit)?;
        return write_opt(dir, SWAP, swap);
    };
    let current: u64 = files::read(dir, LIMIT)?.parse().unwrap_or(u64::MAX);
    let raises = swap == -1 || u64::try_from(swap).is_ok_and(|swap| swap > current);
    if raises {
        write_limit(dir, SWAP, swap)?;
        write_limit(dir, LIMIT, limit)
    } else {
        write_limit(dir, LIMIT, limit)?;
        write_limit(dir, SWAP, swap)
    }
}

fn cpu(cgroup: &V1, cpu: &Cpu) -> Result<()> {
    let asked = Cpu { cpus: None, mems: None, ..cpu.clone() };
    if asked == Cpu::default() {
        return Ok(());
    }
    let dir = cgroup.needed("cpu", "linux.resources.cpu")?;
    write_opt(dir, "cpu.shares", cpu.shares.filter(|shares| *shares != 0))?;
    // A real-time period must hold the runtime, which starts as 0: period first.
    write_opt(dir, "cpu.rt_period_us", cpu.realtime_period)?;
    write_opt(dir, "cpu.rt_runtime_us", cpu.realtime_runtime)?;
    write_opt(dir, "cpu.cfs_period_us", cpu.period.filter(|period| *period != 0))?;
    write_opt(dir, "cpu.cfs_quota_us", cpu.quota.filter(|quota| *quota != 0))?;
    write_opt(dir, "cpu.cfs_burst_us", cpu.burst)?;
    write_opt(dir, "cpu.idle", cpu.idle)
}

fn cpuset(cgroup: &V1, cpu: &Cpu) -> Result<()> {
    for (file, key, value) in [
        ("cpuset.cpus", "linux.resources.cpu.cpus", &cpu.cpus),
        ("cpuset.mems", "linux.resources.cpu.mems", &cpu.mems),
    ] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            write_limit(cgroup.needed("cpuset", key)?, file, value)?;
        }
    }
    Ok(())
}

/// 0 is "not said", as runc has it: Go's JSON can't tell the two apart, so engines write 0 for no limit.
fn pids(cgroup: &V1, limit: Option<i64>) -> Result<()> {
    let Some(limit) = limit.filter(|limit| *limit != 0) else { return Ok(()) };
    let dir = cgroup.needed("pids", "linux.resources.pids.limit")?;
    if limit < 0 { write_limit(dir, "pids.max", "max") } else { write_limit(dir, "pids.max", limit) }
}

fn block_io(cgroup: &V1, io: &BlockIo) -> Result<()> {
    if *io == BlockIo::default() {
        return Ok(());
    }
    let dir = cgroup.needed("blkio", "linux.resources.blockIO")?;
    // Weights belong to the disk's scheduler; since CFQ left the kernel (5.0) that is BFQ, with names of its own.
    let prefix = if dir.join("blkio.weight").exists() { "blkio" } else { "blkio.bfq" };
    write_opt(dir, &format!("{prefix}.weight"), io.weight.filter(|weight| *weight != 0))?;
    write_opt(dir, &format!("{prefix}.leaf_weight"), io.leaf_weight.filter(|weight| *weight != 0))?;
    for device in &io.weight_devices {
        let line = |weight| format!("{}:{} {weight}", device.major, device.minor);
        write_opt(dir, &format!("{prefix}.weight_device"), device.weight.map(line))?;
        write_opt(dir, &format!("{prefix}.leaf_weight_device"), device.leaf_weight.map(line))?;
    }
    throttle(dir, "blkio.throttle.read_bps_device", &io.read_bps)?;
    throttle(dir, "blkio.throttle.write_bps_device", &io.write_bps)?;
    throttle(dir, "blkio.throttle.read_iops_device", &io.read_iops)?;
    throttle(dir, "blkio.throttle.write_iops_device", &io.write_iops)
}

fn throttle(dir: &Path, file: &str, devices: &[ThrottleDevice]) -> Result<()> {
    devices.iter().try_for_each(|device| {
        write_limit(dir, file, format!("{}:{} {}", device.major, device.minor, device.rate))
    })
}

fn devices(cgroup: &V1, rules: &[DeviceRule]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let dir = cgroup.needed("devices", "linux.resources.devices")?;
    rules.iter().try_for_each(|rule| {
        write_limit(dir, if rule.allow { "devices.allow" } else { "devices.deny" }, device_line(rule))
    })
}

/// `c 1:3 rwm`, with `*` for any number. For kind `a` the kernel reads no further and resets its whole list.
fn device_line(rule: &DeviceRule) -> String {
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let access: String = [(rule.access.read, 'r'), (rule.access.write, 'w'), (rule.access.mknod, 'm')]
        .into_iter()
        .filter_map(|(wanted, letter)| wanted.then_some(letter))
        .collect();
    let kind = match rule.kind {
        DeviceRuleKind::All => 'a',
        DeviceRuleKind::Char => 'c',
        DeviceRuleKind::Block => 'b',
    };
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

fn hugetlb(cgroup: &V1, limits: &[HugepageLimit]) -> Result<()> {
    for HugepageLimit { page_size, limit } in limits {
        let dir = cgroup.needed("hugetlb", "linux.resources.hugepageLimits")?;
        write_limit(dir, &format!("hugetlb.{page_size}.limit_in_bytes"), limit)?;
        // Also what is reserved but not yet used, where the kernel (5.7) counts that.
        let reserved = format!("hugetlb.{page_size}.rsvd.limit_in_bytes");
        if dir.join(&reserved).exists() {
            write_limit(dir, &reserved, limit)?;
        }
    }
    Ok(())
}

fn network(cgroup: &V1, network: &Network) -> Result<()> {
    if let Some(class) = network.class_id.filter(|class| *class != 0) {
        write_limit(cgroup.needed("net_cls", "linux.resources.network.classID")?, "net_cls.classid", class)?;
    }
    for priority in &network.priorities {
        let dir = cgroup.needed("net_prio", "linux.resources.network.priorities")?;
        write_limit(dir, "net_prio.ifpriomap", format!("{} {}", priority.interface, priority.priority))?;
    }
    Ok(())
}

fn unified(resources: &Resources) -> Result<()> {
    match resources.unified.keys().next() {
        Some(name) => Err(Error::Refused {
            problem: format!(
                "linux.resources.unified.{name} is for cgroup version 2, and this host has version 1"
            ),
            hint: "use the other keys of linux.resources, which work on both",
        }),
        None => Ok(()),
    }
}

fn write_opt<T: ToString>(dir: &Path, file: &str, value: Option<T>) -> Result<()> {
    value.map_or(Ok(()), |value| write_limit(dir, file, value))
}
