//! Limits of version 2. OCI's keys are in version 1's units, so some are converted here.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::files;
use crate::cgroup::setting::Setting;
use crate::config::{BlockIo, Cpu, HugepageLimit, Memory, Rdma, Resources, ThrottleDevice};
use crate::error::{Error, Result};

/// What has to be written for these limits; device rules are not among it.
///
/// # Errors
/// [`Error::Refused`] for what this version can't express.
pub(super) fn plan(dir: &Path, resources: &Resources) -> Result<Vec<Setting>> {
    if resources.network.class_id.is_some() {
        return Err(only_v1("linux.resources.network.classID"));
    }
    if !resources.network.priorities.is_empty() {
        return Err(only_v1("linux.resources.network.priorities"));
    }
    let mut settings = memory(dir, &resources.memory)?;
    settings.extend(cpu(dir, &resources.cpu)?);
    settings.extend(pids(dir, resources.pids));
    settings.extend(block_io(dir, &resources.block_io)?);
    settings.extend(hugetlb(dir, &resources.hugepage_limits));
    settings.extend(rdma(dir, &resources.rdma));
    // Last, so that what is written expressly wins.
    for (file, value) in &resources.unified {
        settings.extend(verbatim(dir, file, value)?);
    }
    Ok(settings)
}

/// A file by its name, with a line for each write, as the kernel takes them.
pub(in crate::cgroup) fn verbatim(dir: &Path, file: &str, value: &str) -> Result<Vec<Setting>> {
    if file.contains('/') || !file.contains('.') {
        return Err(Error::Refused {
            problem: format!("linux.resources.unified has the key {file:?}, which is no cgroup file"),
            hint: "keys are file names such as memory.high",
        });
    }
    let setting = |line: &str| {
        let setting = Setting::new(dir, file, line, format!("linux.resources.unified.{file}"));
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            // `8:0 rbps=1` is a line of its own in the file, `50000 100000` is all of it.
            [key, _, ..] if key.parse::<u64>().is_err() && key != "max" => setting.line(key, None),
            _ => setting,
        }
    };
    Ok(value.lines().map(setting).collect())
}

fn memory(dir: &Path, memory: &Memory) -> Result<Vec<Setting>> {
    if memory.swappiness.is_some() {
        return Err(only_v1("linux.resources.memory.swappiness"));
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(only_v1("linux.resources.memory.disableOOMKiller"));
    }
    if memory.check_before_update {
        check_usage(dir, memory)?;
    }
    let mut settings = Vec::new();
    if let Some(swap) = swap_alone(memory)? {
        let setting = Setting::new(dir, "memory.swap.max", &swap, "linux.resources.memory.swap");
        // Where the kernel counts no swap, none is used beyond the limit, and no more than all of it is.
        settings.push(if swap == "max" || swap == "0" { setting.optional() } else { setting });
    }
    let mut push = |file, key, value: Option<i64>| {
        settings.extend(value.map(|value| Setting::new(dir, file, or_max(value), key)));
    };
    push("memory.max", "linux.resources.memory.limit", memory.limit);
    push("memory.low", "linux.resources.memory.reservation", memory.reservation);
    Ok(settings)
}

/// The kernel of this version takes a limit below the use, and kills for it.
fn check_usage(dir: &Path, memory: &Memory) -> Result<()> {
    let Some(usage) = files::read_if_there(dir, "memory.current")? else { return Ok(()) };
    let usage = usage.parse().unwrap_or(0);
    for (limit, name) in [(memory.limit, "limit"), (memory.swap, "swap")] {
        limit.map_or(Ok(()), |limit| refuse_below_usage(limit, usage, name))?;
    }
    Ok(())
}

/// What `checkBeforeUpdate` asks for.
pub(in crate::cgroup) fn refuse_below_usage(limit: i64, usage: u64, name: &str) -> Result<()> {
    match u64::try_from(limit) {
        Ok(limit) if limit <= usage => Err(Error::Refused {
            problem: format!(
                "linux.resources.memory.{name} {limit} is not above what is in use, {usage} bytes"
            ),
            hint: "choose a higher limit, or leave checkBeforeUpdate out",
        }),
        _ => Ok(()),
    }
}

/// OCI counts memory and swap together, version 2 swap alone.
pub(in crate::cgroup) fn swap_alone(memory: &Memory) -> Result<Option<String>> {
    match (memory.limit, memory.swap) {
        // As in version 1, lifting the one lifts the other.
        (Some(-1), None) | (_, Some(-1)) => Ok(Some("max".to_owned())),
        (_, None) => Ok(None),
        (Some(-1), Some(swap)) => Ok(Some(swap.to_string())),
        (Some(limit), Some(swap)) if limit >= 0 && swap >= limit => Ok(Some((swap - limit).to_string())),
        _ => Err(Error::Refused {
            problem: "linux.resources.memory.swap counts memory and swap together, and is below the memory limit, or \
                      there is none"
                .to_owned(),
            hint: "set linux.resources.memory.limit too, at most as high as swap",
        }),
    }
}

fn cpu(dir: &Path, cpu: &Cpu) -> Result<Vec<Setting>> {
    for (key, is_set) in [
        ("linux.resources.cpu.realtimeRuntime", cpu.realtime_runtime.is_some()),
        ("linux.resources.cpu.realtimePeriod", cpu.realtime_period.is_some()),
    ] {
        if is_set {
            return Err(only_v1(key));
        }
    }
    let mut settings = Vec::new();
    let mut push = |file, key, value: Option<String>| {
        settings
            .extend(value.map(|value| Setting::new(dir, file, value, format!("linux.resources.cpu.{key}"))));
    };
    push("cpu.max.burst", "burst", cpu.burst.map(|burst| burst.to_string()));
    push("cpu.max", if cpu.quota.is_some() { "quota" } else { "period" }, quota_and_period(dir, cpu)?);
    // An idle group takes no weight, so it comes before it is made one, and after it is none any more.
    push("cpu.weight", "shares", cpu.shares.map(|shares| weight_of_shares(shares).to_string()));
    push("cpu.idle", "idle", cpu.idle.map(|idle| idle.to_string()));
    push("cpuset.cpus", "cpus", cpu.cpus.clone().filter(|value| !value.is_empty()));
    push("cpuset.mems", "mems", cpu.mems.clone().filter(|value| !value.is_empty()));
    Ok(settings)
}

/// One file holds both; what isn't said stays as it is.
fn quota_and_period(dir: &Path, cpu: &Cpu) -> Result<Option<String>> {
    let quota = |quota: i64| if quota > 0 { quota.to_string() } else { "max".to_owned() };
    Ok(match (cpu.quota, cpu.period) {
        (None, None) => None,
        // The kernel keeps the period.
        (Some(set), None) => Some(quota(set)),
        (Some(set), Some(period)) => Some(format!("{} {period}", quota(set))),
        (None, Some(period)) => {
            let now = files::read_if_there(dir, "cpu.max")?.unwrap_or_default();
            let quota = now.split_whitespace().next().unwrap_or("max");
            Some(format!("{quota} {period}"))
        }
    })
}

/// Shares go from 2 to 262144 with 1024 in the middle, weights from 1 to 10000 with 100. A straight line through the
/// ends puts 1024 at 39; this curve (which the OCI runtimes agreed on in 2025) goes through all three points.
pub(in crate::cgroup) fn weight_of_shares(shares: u64) -> u64 {
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

fn pids(dir: &Path, limit: Option<i64>) -> Option<Setting> {
    limit.map(|limit| Setting::new(dir, "pids.max", or_max(limit), "linux.resources.pids.limit"))
}

fn block_io(dir: &Path, io: &BlockIo) -> Result<Vec<Setting>> {
    let leaf = io.weight_devices.iter().any(|device| device.leaf_weight.is_some());
    if io.leaf_weight.is_some() || leaf {
        return Err(only_v1("linux.resources.blockIO.leafWeight"));
    }
    let mut settings = Vec::new();
    if let Some(weight) = io.weight {
        settings.push(io_weight(dir, "default", weight, "linux.resources.blockIO.weight".to_owned()));
    }
    for (number, device) in io.weight_devices.iter().enumerate() {
        if let Some(weight) = device.weight {
            let key = format!("linux.resources.blockIO.weightDevice[{number}].weight");
            settings.push(io_weight(dir, &format!("{}:{}", device.major, device.minor), weight, key));
        }
    }
    for (limit, key, devices) in [
        ("rbps", "throttleReadBpsDevice", &io.read_bps),
        ("wbps", "throttleWriteBpsDevice", &io.write_bps),
        ("riops", "throttleReadIOPSDevice", &io.read_iops),
        ("wiops", "throttleWriteIOPSDevice", &io.write_iops),
    ] {
        settings.extend(io_max(dir, limit, key, devices));
    }
    Ok(settings)
}

/// BFQ takes the old scale; `io.weight` goes from 1 to 10000.
fn io_weight(dir: &Path, device: &str, weight: u16, key: String) -> Setting {
    let absent = (device != "default").then(|| format!("{device} default"));
    if dir.join("io.bfq.weight").exists() {
        return bfq_weight(dir, "io.bfq.weight", device, weight, key, absent);
    }
    let scaled = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
    Setting::new(dir, "io.weight", format!("{device} {scaled}"), key).line(device, absent)
}

/// BFQ forgets what single devices were given when a new weight for all of them is written.
pub(in crate::cgroup) fn bfq_weight(
    dir: &Path,
    file: &str,
    device: &str,
    weight: u16,
    key: String,
    absent: Option<String>,
) -> Setting {
    let setting = Setting::new(dir, file, format!("{device} {weight}"), key);
    if device == "default" { setting.line_of_all(device) } else { setting.line(device, absent) }
}

fn io_max(dir: &Path, limit: &str, key: &str, devices: &[ThrottleDevice]) -> Vec<Setting> {
    let setting = |(number, device): (usize, &ThrottleDevice)| {
        let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
        let node = format!("{}:{}", device.major, device.minor);
        let key = format!("linux.resources.blockIO.{key}[{number}]");
        let absent = Some(format!("{node} rbps=max wbps=max riops=max wiops=max"));
        Setting::new(dir, "io.max", format!("{node} {limit}={rate}"), key).line(node, absent)
    };
    devices.iter().enumerate().map(setting).collect()
}

/// The limit on use, and that on what is reserved but not yet used, where the kernel (5.7) counts it.
pub(in crate::cgroup) fn hugetlb(dir: &Path, limits: &[HugepageLimit]) -> Vec<Setting> {
    let settings = |(number, one): (usize, &HugepageLimit)| {
        let key = format!("linux.resources.hugepageLimits[{number}]");
        let file = |kind: &str| format!("hugetlb.{}{kind}.max", one.page_size);
        let value = or_max(one.limit);
        [
            Setting::new(dir, file(""), &value, &*key),
            Setting::new(dir, file(".rsvd"), &value, &*key).optional(),
        ]
    };
    limits.iter().enumerate().flat_map(settings).collect()
}

/// The same file in both versions: `mlx5_1 hca_handle=3 hca_object=10000`.
pub(in crate::cgroup) fn rdma(dir: &Path, limits: &BTreeMap<String, Rdma>) -> Vec<Setting> {
    let setting = |(device, limit): (&String, &Rdma)| {
        let handles = limit.hca_handles.map(|count| format!(" hca_handle={count}"));
        let objects = limit.hca_objects.map(|count| format!(" hca_object={count}"));
        let value = format!("{device}{}{}", handles.unwrap_or_default(), objects.unwrap_or_default());
        let key = format!("linux.resources.rdma.{device}");
        Setting::new(dir, "rdma.max", value, key).line(&**device, None)
    };
    limits.iter().map(setting).collect()
}

pub(in crate::cgroup) fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn only_v1(key: &str) -> Error {
    Error::Refused {
        problem: format!("{key} exists in cgroup version 1 only, and this host has version 2"),
        hint: "remove the key from config.json",
    }
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
        assert_eq!(swap_alone(&memory(Some(100), Some(100))).unwrap().as_deref(), Some("0"));
        assert_eq!(swap_alone(&memory(Some(100), Some(-1))).unwrap().as_deref(), Some("max"));
        assert_eq!(swap_alone(&memory(Some(-1), None)).unwrap().as_deref(), Some("max"));
        assert_eq!(swap_alone(&memory(Some(-1), Some(50))).unwrap().as_deref(), Some("50"));
        assert_eq!(swap_alone(&memory(Some(100), None)).unwrap(), None);
        assert!(swap_alone(&memory(None, Some(150))).is_err());
        assert!(swap_alone(&memory(Some(200), Some(150))).is_err());
    }

    #[test]
    fn a_period_alone_keeps_the_quota() {
        let dir = tempfile::tempdir().unwrap();
        let asked = |quota, period| {
            quota_and_period(dir.path(), &Cpu { quota, period, ..Cpu::default() }).unwrap().unwrap()
        };
        assert_eq!(asked(None, Some(50_000)), "max 50000");
        std::fs::write(dir.path().join("cpu.max"), "20000 100000\n").unwrap();
        assert_eq!(asked(None, Some(50_000)), "20000 50000");
        assert_eq!(asked(Some(-1), None), "max");
        assert_eq!(asked(Some(10_000), Some(20_000)), "10000 20000");
    }
}
