//! Limits of version 1, one function for each controller.

use std::path::Path;

use super::V1;
use crate::cgroup::files;
use crate::cgroup::setting::Setting;
use crate::cgroup::v2::limits as unified;
use crate::config::{BlockIo, Cpu, Memory, Network, Resources, ThrottleDevice};
use crate::error::{Error, Result};

/// What has to be written for these limits; device rules are not among it.
///
/// # Errors
/// [`Error::NoController`], [`Error::Refused`].
pub(super) fn plan(cgroup: &V1, resources: &Resources) -> Result<Vec<Setting>> {
    let mut plan = Plan { cgroup, settings: Vec::new() };
    plan.memory(&resources.memory)?;
    plan.cpu(&resources.cpu)?;
    plan.cpuset(&resources.cpu)?;
    plan.pids(resources.pids)?;
    plan.block_io(&resources.block_io)?;
    plan.hugetlb(resources)?;
    plan.rdma(resources)?;
    plan.network(&resources.network)?;
    plan.unified(resources)?;
    Ok(plan.settings)
}

struct Plan<'a> {
    cgroup: &'a V1,
    settings: Vec<Setting>,
}

impl Plan<'_> {
    fn push<T: ToString>(&mut self, dir: &Path, file: &str, key: &str, value: Option<T>) {
        self.settings.extend(value.map(|value| Setting::new(dir, file, value, key)));
    }

    fn memory(&mut self, memory: &Memory) -> Result<()> {
        let Memory { limit, reservation, swap, swappiness, disable_oom_killer, check_before_update: _ } =
            memory;
        let first = [
            (limit.is_some(), "limit"),
            (swap.is_some(), "swap"),
            (reservation.is_some(), "reservation"),
            (swappiness.is_some(), "swappiness"),
            (disable_oom_killer.is_some(), "disableOOMKiller"),
        ];
        let Some((_, key)) = first.into_iter().find(|(asked, _)| *asked) else { return Ok(()) };
        let dir = self.cgroup.needed("memory", &format!("linux.resources.memory.{key}"))?;
        check_usage(dir, memory)?;
        self.push(dir, "memory.limit_in_bytes", "linux.resources.memory.limit", *limit);
        // A limit that is lifted takes the other one with it; without swap accounting there is none.
        const BOTH: &str = "memory.memsw.limit_in_bytes";
        let lifted = limit.filter(|limit| *limit == -1).filter(|_| dir.join(BOTH).exists());
        self.push(dir, BOTH, "linux.resources.memory.swap", swap.or(lifted));
        self.push(dir, "memory.soft_limit_in_bytes", "linux.resources.memory.reservation", *reservation);
        self.push(dir, "memory.swappiness", "linux.resources.memory.swappiness", *swappiness);
        // Engines say `false` as a matter of course; newer kernels complain of any write to this file.
        let disabled = files::read_if_there(dir, "memory.oom_control")?
            .is_some_and(|text| text.lines().any(|line| line == "oom_kill_disable 1"));
        if let Some(disable) = disable_oom_killer.filter(|disable| *disable != disabled) {
            let key = "linux.resources.memory.disableOOMKiller";
            let setting = Setting::new(dir, "memory.oom_control", u8::from(disable), key);
            self.settings.push(setting.back_to(u8::from(disabled)));
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &Cpu) -> Result<()> {
        let Cpu { shares, quota, burst, period, realtime_runtime, realtime_period, idle, cpus: _, mems: _ } =
            cpu;
        let first = [
            (shares.is_some(), "shares"),
            (quota.is_some(), "quota"),
            (period.is_some(), "period"),
            (burst.is_some(), "burst"),
            (realtime_runtime.is_some(), "realtimeRuntime"),
            (realtime_period.is_some(), "realtimePeriod"),
            (idle.is_some(), "idle"),
        ];
        let Some((_, key)) = first.into_iter().find(|(asked, _)| *asked) else { return Ok(()) };
        let dir = self.cgroup.needed("cpu", &format!("linux.resources.cpu.{key}"))?;
        // A real-time period must hold the runtime, which starts as 0: period first.
        self.push(dir, "cpu.rt_period_us", "linux.resources.cpu.realtimePeriod", *realtime_period);
        self.push(dir, "cpu.rt_runtime_us", "linux.resources.cpu.realtimeRuntime", *realtime_runtime);
        self.push(dir, "cpu.cfs_period_us", "linux.resources.cpu.period", *period);
        self.push(dir, "cpu.cfs_burst_us", "linux.resources.cpu.burst", *burst);
        self.push(dir, "cpu.cfs_quota_us", "linux.resources.cpu.quota", *quota);
        // An idle group takes no shares, so they come before it is made one, and after it is none any more.
        self.push(dir, "cpu.shares", "linux.resources.cpu.shares", *shares);
        self.push(dir, "cpu.idle", "linux.resources.cpu.idle", *idle);
        Ok(())
    }

    fn cpuset(&mut self, cpu: &Cpu) -> Result<()> {
        for (name, key, value) in
            [("cpus", "linux.resources.cpu.cpus", &cpu.cpus), ("mems", "linux.resources.cpu.mems", &cpu.mems)]
        {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                let dir = self.cgroup.needed("cpuset", key)?;
                self.push(dir, &super::cpuset::file(dir, name), key, Some(value));
            }
        }
        Ok(())
    }

    fn pids(&mut self, limit: Option<i64>) -> Result<()> {
        const KEY: &str = "linux.resources.pids.limit";
        let Some(limit) = limit else { return Ok(()) };
        let dir = self.cgroup.needed("pids", KEY)?;
        self.push(dir, "pids.max", KEY, Some(unified::or_max(limit)));
        Ok(())
    }

    fn block_io(&mut self, io: &BlockIo) -> Result<()> {
        if *io == BlockIo::default() {
            return Ok(());
        }
        let dir = self.cgroup.needed("blkio", "linux.resources.blockIO")?;
        // Weights belong to the disk's scheduler; since CFQ left the kernel (5.0) that is BFQ, with names of its own and
        // without weights for leaves.
        let (prefix, none) =
            if dir.join("blkio.weight").exists() { ("blkio", "0") } else { ("blkio.bfq", "default") };
        const WEIGHT: &str = "linux.resources.blockIO.weight";
        // Linux 5.4 takes both kinds of weight in one file, in which those of devices can be kept.
        const BFQ_DEVICES: &str = "blkio.bfq.weight_device";
        match io.weight {
            Some(weight) if prefix == "blkio.bfq" && dir.join(BFQ_DEVICES).exists() => {
                let setting =
                    unified::bfq_weight(dir, BFQ_DEVICES, "default", weight, WEIGHT.to_owned(), None);
                self.settings.push(setting);
            }
            weight => self.push(dir, &format!("{prefix}.weight"), WEIGHT, weight),
        }
        self.push(dir, "blkio.leaf_weight", "linux.resources.blockIO.leafWeight", io.leaf_weight);
        for (number, device) in io.weight_devices.iter().enumerate() {
            let node = format!("{}:{}", device.major, device.minor);
            for (file, name, weight, none) in [
                (format!("{prefix}.weight_device"), "weight", device.weight, none),
                ("blkio.leaf_weight_device".to_owned(), "leafWeight", device.leaf_weight, "0"),
            ] {
                let key = format!("linux.resources.blockIO.weightDevice[{number}].{name}");
                let line = |weight| Setting::new(dir, file, format!("{node} {weight}"), key);
                let absent = Some(format!("{node} {none}"));
                self.settings.extend(weight.map(line).map(|setting| setting.line(&node, absent)));
            }
        }
        self.throttle(dir, "read_bps_device", "throttleReadBpsDevice", &io.read_bps);
        self.throttle(dir, "write_bps_device", "throttleWriteBpsDevice", &io.write_bps);
        self.throttle(dir, "read_iops_device", "throttleReadIOPSDevice", &io.read_iops);
        self.throttle(dir, "write_iops_device", "throttleWriteIOPSDevice", &io.write_iops);
        Ok(())
    }

    fn throttle(&mut self, dir: &Path, file: &str, key: &str, devices: &[ThrottleDevice]) {
        self.settings.extend(devices.iter().enumerate().map(|(number, device)| {
            let node = format!("{}:{}", device.major, device.minor);
            let key = format!("linux.resources.blockIO.{key}[{number}]");
            let value = format!("{node} {}", device.rate);
            let absent = Some(format!("{node} 0"));
            Setting::new(dir, format!("blkio.throttle.{file}"), value, key).line(node, absent)
        }));
    }

    fn hugetlb(&mut self, resources: &Resources) -> Result<()> {
        if resources.hugepage_limits.is_empty() {
            return Ok(());
        }
        let Some(dir) = self.cgroup.directory("hugetlb") else {
            return self.beside(
                resources,
                "hugetlb",
                "linux.resources.hugepageLimits[0]",
                |dir, resources| unified::hugetlb(dir, &resources.hugepage_limits),
            );
        };
        for (number, one) in resources.hugepage_limits.iter().enumerate() {
            let key = format!("linux.resources.hugepageLimits[{number}]");
            let setting = |kind: &str| {
                Setting::new(dir, format!("hugetlb.{}{kind}.limit_in_bytes", one.page_size), one.limit, &*key)
            };
            // Also what is reserved but not yet used, where the kernel (5.7) counts that.
            self.settings.extend([setting(""), setting(".rsvd").optional()]);
        }
        Ok(())
    }

    fn rdma(&mut self, resources: &Resources) -> Result<()> {
        let Some(device) = resources.rdma.keys().next() else { return Ok(()) };
        match self.cgroup.directory("rdma") {
            Some(dir) => self.settings.extend(unified::rdma(dir, &resources.rdma)),
            None => {
                let key = format!("linux.resources.rdma.{device}");
                self.beside(resources, "rdma", &key, |dir, resources| unified::rdma(dir, &resources.rdma))?;
            }
        }
        Ok(())
    }

    /// On a hybrid host, a controller that no version 1 hierarchy has may be the unified one's.
    fn beside(
        &mut self,
        resources: &Resources,
        controller: &str,
        key: &str,
        settings: impl FnOnce(&Path, &Resources) -> Vec<Setting>,
    ) -> Result<()> {
        let Some(dir) = self.cgroup.unified_with(controller) else {
            return self.cgroup.needed(controller, key).map(drop);
        };
        self.settings.extend(settings(dir, resources));
        Ok(())
    }

    fn network(&mut self, network: &Network) -> Result<()> {
        const CLASS: &str = "linux.resources.network.classID";
        if let Some(class) = network.class_id {
            let dir = self.cgroup.needed("net_cls", CLASS)?;
            self.push(dir, "net_cls.classid", CLASS, Some(class));
        }
        for (number, priority) in network.priorities.iter().enumerate() {
            let key = format!("linux.resources.network.priorities[{number}]");
            let dir = self.cgroup.needed("net_prio", &key)?;
            let value = format!("{} {}", priority.interface, priority.priority);
            let setting = Setting::new(dir, "net_prio.ifpriomap", value, key);
            self.settings.push(setting.line(&*priority.interface, None));
        }
        Ok(())
    }

    /// Files of version 2, on a hybrid host for the controllers that are there.
    fn unified(&mut self, resources: &Resources) -> Result<()> {
        for (file, value) in &resources.unified {
            let controller = file.split('.').next().unwrap_or(file);
            let Some(dir) = self.cgroup.unified_with(controller) else {
                return Err(Error::Refused {
                    problem: format!(
                        "linux.resources.unified.{file} is for cgroup version 2, and the `{controller}` controller of this \
                         host is not there"
                    ),
                    hint: "use the other keys of linux.resources, which work on both",
                });
            };
            self.settings.extend(unified::verbatim(dir, file, value)?);
        }
        Ok(())
    }
}

/// The kernel itself refuses a limit that it can't reclaim down to; this refuses one before anything is reclaimed.
fn check_usage(dir: &Path, memory: &Memory) -> Result<()> {
    let Some(limit) = memory.limit.filter(|_| memory.check_before_update) else { return Ok(()) };
    let usage = files::read(dir, "memory.usage_in_bytes")?.parse().unwrap_or(0);
    unified::refuse_below_usage(limit, usage, "limit")
}
