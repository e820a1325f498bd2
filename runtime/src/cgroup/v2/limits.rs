//! Limits of version 2. OCI's keys are in version 1's units, so some are converted here.

use std::path::Path;

use crate::cgroup::files::{self, write_limit};
use crate::config::{BlockIo, Cpu, HugepageLimit, Memory, Resources, ThrottleDevice};
use crate::error::{Error, Result};

pub(super) fn apply(dir: &Path, resources: &Resources) -> Result<()> {
    memory(dir, &resources.memory)?;
    cpu(dir, &resources.cpu)?;
    pids(dir, resources.pids)?;
    block_io(dir, &resources.block_io)?;
    hugetlb(dir, &resources.hugepage_limits)?;
    if !resources.devices.is_empty() {
        // Version 2 has no device files: it takes an eBPF program, which this runtime doesn't write yet. The nodes
        // themselves are limited to those of the configuration, and making others needs CAP_MKNOD.
        tracing::warn!(
            "cgroup version 2: linux.resources.devices is not enforced yet; keep CAP_MKNOD out of the container"
        );
    }
    if resources.network.class_id.is_some_and(|class| class != 0) || !resources.network.priorities.is_empty()
    {
        return Err(only_v1("linux.resources.network"));
    }
    // Last, so that what is written expressly wins.
    resources.unified.iter().try_for_each(|(file, value)| unified(dir, file, value))
}

fn unified(dir: &Path, file: &str, value: &str) -> Result<()> {
    if file.contains('/') || !file.contains('.') {
        return Err(Error::Refused {
            problem: format!("linux.resources.unified has the key {file:?}, which is no cgroup file"),
            hint: "keys are file names such as memory.high",
        });
    }
    value.lines().try_for_each(|line| write_limit(dir, file, line))
}

fn memory(dir: &Path, memory: &Memory) -> Result<()> {
    if memory.swappiness.is_some() {
        return Err(only_v1("linux.resources.memory.swappiness"));
    }
    if memory.disable_oom_killer {
        return Err(only_v1("linux.resources.memory.disableOOMKiller"));
    }
    if memory.check_before_update
        && let Some(limit) = memory.limit.and_then(|limit| u64::try_from(limit).ok())
        && let Some(usage) = files::read_if_there(dir, "memory.current")?
        && limit < usage.parse().unwrap_or(0)
    {
        return Err(Error::Refused {
            problem: format!("memory limit {limit} is below what is in use, {usage} bytes"),
            hint: "choose a higher linux.resources.memory.limit, or leave checkBeforeUpdate out",
        });
    }
    if let Some(swap) = swap_alone(memory)? {
        write_limit(dir, "memory.swap.max", swap)?;
    }
    write_opt(dir, "memory.max", memory.limit.map(or_max))?;
    write_opt(dir, "memory.low", memory.reservation.map(or_max))
}

/// OCI counts memory and swap together, version 2 swap alone.
fn swap_alone(memory: &Memory) -> Result<Option<String>> {
    match (memory.limit, memory.swap) {
        (_, None | Some(0)) => Ok(None),
        (_, Some(-1)) => Ok(Some("max".to_owned())),
        (Some(limit), Some(swap)) if limit >= 0 && swap >= limit => Ok(Some((swap - limit).to_string())),
        _ => Err(Error::Refused {
            problem: "linux.resources.memory.swap counts memory and swap together, and is not above the memory limit"
                .to_owned(),
            hint: "set linux.resources.memory.limit too, at most as high as swap",
        }),
    }
}

fn cpu(dir: &Path, cpu: &Cpu) -> Result<()> {
    if cpu.realtime_runtime.is_some_and(|value| value != 0)
        || cpu.realtime_period.is_some_and(|value| value != 0)
    {
        return Err(only_v1("linux.resources.cpu.realtimeRuntime"));
    }
    write_opt(dir, "cpu.idle", cpu.idle)?;
    write_opt(dir, "cpu.weight", cpu.shares.filter(|shares| *shares != 0).map(weight_of_shares))?;
    if cpu.quota.is_some_and(|quota| quota != 0) || cpu.period.is_some_and(|period| period != 0) {
        let quota =
            cpu.quota.filter(|quota| *quota > 0).map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        let period = cpu.period.filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD);
        write_limit(dir, "cpu.max", format!("{quota} {period}"))?;
    }
    write_opt(dir, "cpu.max.burst", cpu.burst)?;
    write_opt(dir, "cpuset.cpus", cpu.cpus.as_ref().filter(|value| !value.is_empty()))?;
    write_opt(dir, "cpuset.mems", cpu.mems.as_ref().filter(|value| !value.is_empty()))
}

/// Microseconds, the kernel's own default.
const DEFAULT_PERIOD: u64 = 100_000;

/// Shares go from 2 to 262144 with 1024 in the middle, weights from 1 to 10000 with 100. A straight line through the
/// ends puts 1024 at 39; this curve (which the OCI runtimes agreed on in 2025) goes through all three points.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[allow(clippy::cast_precision_loss, reason = "at most 262144")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "1 to 10000 by the range of the input"
    )]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight
}

fn pids(dir: &Path, limit: Option<i64>) -> Result<()> {
    write_opt(dir, "pids.max", limit.filter(|limit| *limit != 0).map(or_max))
}

fn block_io(dir: &Path, io: &BlockIo) -> Result<()> {
    if io.leaf_weight.is_some_and(|weight| weight != 0) {
        return Err(only_v1("linux.resources.blockIO.leafWeight"));
    }
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        io_weight(dir, "default", weight)?;
    }
    for device in &io.weight_devices {
        if let Some(weight) = device.weight {
            io_weight(dir, &format!("{}:{}", device.major, device.minor), weight)?;
        }
    }
    io_max(dir, "rbps", &io.read_bps)?;
    io_max(dir, "wbps", &io.write_bps)?;
    io_max(dir, "riops", &io.read_iops)?;
    io_max(dir, "wiops", &io.write_iops)
}

/// BFQ takes the old scale; `io.weight` goes from 1 to 10000.
fn io_weight(dir: &Path, device: &str, weight: u16) -> Result<()> {
    if dir.join("io.bfq.weight").exists() {
        return write_limit(dir, "io.bfq.weight", format!("{device} {weight}"));
    }
    let scaled = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
    write_limit(dir, "io.weight", format!("{device} {scaled}"))
}

fn io_max(dir: &Path, key: &str, devices: &[ThrottleDevice]) -> Result<()> {
    devices.iter().try_for_each(|device| {
        let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
        write_limit(dir, "io.max", format!("{}:{} {key}={rate}", device.major, device.minor))
    })
}

fn hugetlb(dir: &Path, limits: &[HugepageLimit]) -> Result<()> {
    limits.iter().try_for_each(|HugepageLimit { page_size, limit }| {
        write_limit(dir, &format!("hugetlb.{page_size}.max"), or_max(*limit))
    })
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn only_v1(key: &str) -> Error {
    Error::Refused {
        problem: format!("{key} exists in cgroup version 1 only, and this host has version 2"),
        hint: "remove the key from config.json",
    }
}

fn write_opt<T: ToString>(dir: &Path, file: &str, value: Option<T>) -> Result<()> {
    value.map_or(Ok(()), |value| write_limit(dir, file, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_through_the_three_fixed_points() {
        assert_eq!([1, 2, 1024, 262_144, u64::MAX].map(weight_of_shares), [1, 1, 100, 10_000, 10_000]);
        let mut last = 0;
        for shares in (2..262_144).step_by(97) {
            let weight = weight_of_shares(shares);
            assert!((1..=10_000).contains(&weight) && weight >= last, "{shares} gives {weight} after {last}");
            last = weight;
        }
    }

    #[test]
    fn swap_is_what_is_left_beyond_memory() {
        let memory = |limit, swap| Memory { limit, swap, ..Memory::default() };
        assert_eq!(swap_alone(&memory(Some(100), Some(150))).unwrap().as_deref(), Some("50"));
        assert_eq!(swap_alone(&memory(Some(100), Some(-1))).unwrap().as_deref(), Some("max"));
        assert_eq!(swap_alone(&memory(Some(100), None)).unwrap(), None);
        assert!(swap_alone(&memory(None, Some(150))).is_err());
        assert!(swap_alone(&memory(Some(200), Some(150))).is_err());
    }
}
