//! Use, as version 1 counts it. `Documentation/admin-guide/cgroup-v1/`.

use std::path::Path;

use super::V1;
use crate::cgroup::stats::{Table, number};
use crate::cgroup::{
    BlkioEntry, CpuSet, CpuStats, CpuUsage, HugetlbStats, MemoryEntry, MemoryStats, PidsStats, Stats,
    Throttling, files, v2,
};
use crate::error::{Error, Result};

/// What `cpuacct.stat` counts in: `USER_HZ`, which is 100 on every architecture that floe runs on.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

pub(super) fn read(cgroup: &V1) -> Result<Stats> {
    let mut stats = Stats::default();
    let there = |controller| cgroup.directory(controller).filter(|path| path.exists());
    if let Some(dir) = there("cpuacct") {
        stats.cpu.usage = cpu_usage(dir)?;
    }
    if let Some(dir) = there("cpu") {
        stats.cpu = CpuStats { throttling: throttling(dir)?, ..stats.cpu };
    }
    if let Some(dir) = there("cpuset") {
        stats.cpu_set = cpuset(dir)?;
    }
    if let Some(dir) = there("memory") {
        stats.memory = memory(dir)?;
    }
    if let Some(dir) = there("pids") {
        stats.pids = pids(dir)?;
    }
    if let Some(dir) = there("blkio") {
        stats.blkio = blkio(dir)?;
    }
    if let Some(dir) = there("hugetlb") {
        stats.hugetlb = v2::stats::by_page_size(dir, ".usage_in_bytes", |size| {
            let file = |name: &str| number(dir, &format!("hugetlb.{size}.{name}"));
            Ok(HugetlbStats {
                usage: file("usage_in_bytes")?.unwrap_or(0),
                max: file("max_usage_in_bytes")?.unwrap_or(0),
                failures: file("failcnt")?.unwrap_or(0),
            })
        })?;
    }
    if let Some(dir) = there("rdma") {
        stats.rdma = v2::stats::rdma(dir)?;
    }
    Ok(stats)
}

fn cpu_usage(dir: &Path) -> Result<CpuUsage> {
    let ticks = Table::read(dir, "cpuacct.stat")?;
    let mut usage = CpuUsage {
        total: number(dir, "cpuacct.usage")?.unwrap_or(0),
        per_cpu: list(dir, "cpuacct.usage_percpu")?,
        kernel: ticks.get("system") * NANOSECONDS_PER_TICK,
        user: ticks.get("user") * NANOSECONDS_PER_TICK,
        ..CpuUsage::default()
    };
    // `cpu user system`, and a line for each processor; Linux 4.7.
    for line in files::read_if_there(dir, "cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        if let [_, user, kernel] = fields[..] {
            usage.per_cpu_user.push(user);
            usage.per_cpu_kernel.push(kernel);
        }
    }
    Ok(usage)
}

/// Numbers in one line.
fn list(dir: &Path, file: &str) -> Result<Vec<u64>> {
    let text = files::read_if_there(dir, file)?.unwrap_or_default();
    Ok(text.split_whitespace().filter_map(|field| field.parse().ok()).collect())
}

fn throttling(dir: &Path) -> Result<Throttling> {
    let table = Table::read(dir, "cpu.stat")?;
    Ok(Throttling {
        periods: table.get("nr_periods"),
        throttled_periods: table.get("nr_throttled"),
        throttled_time: table.get("throttled_time"),
    })
}

fn cpuset(dir: &Path) -> Result<CpuSet> {
    let file = |name: &str| super::cpuset::file(dir, name);
    let value = |name: &str| Ok::<_, Error>(number(dir, &file(name))?.unwrap_or(0));
    // May be negative.
    let level = files::read_if_there(dir, &file("sched_relax_domain_level"))?.unwrap_or_default();
    Ok(CpuSet {
        cpus: v2::stats::numbers_of_list(dir, &file("cpus"))?,
        cpu_exclusive: value("cpu_exclusive")?,
        mems: v2::stats::numbers_of_list(dir, &file("mems"))?,
        mem_hardwall: value("mem_hardwall")?,
        mem_exclusive: value("mem_exclusive")?,
        memory_migrate: value("memory_migrate")?,
        memory_spread_page: value("memory_spread_page")?,
        memory_spread_slab: value("memory_spread_slab")?,
        memory_pressure: value("memory_pressure")?,
        sched_load_balance: value("sched_load_balance")?,
        sched_relax_domain_level: level.parse().unwrap_or(0),
    })
}

fn memory(dir: &Path) -> Result<MemoryStats> {
    let raw = Table::read(dir, "memory.stat")?;
    let entry = |name: &str| {
        let file = |value: &str| Ok::<_, Error>(number(dir, &format!("memory.{name}{value}"))?.unwrap_or(0));
        Ok::<_, Error>(MemoryEntry {
            limit: file("limit_in_bytes")?,
            usage: file("usage_in_bytes")?,
            max: file("max_usage_in_bytes")?,
            failures: file("failcnt")?,
        })
    };
    Ok(MemoryStats {
        // `cache` is this cgroup's alone, `total_cache` with those below, as all the others are.
        cache: if raw.0.contains_key("total_cache") { raw.get("total_cache") } else { raw.get("cache") },
        usage: entry("")?,
        swap: entry("memsw.")?,
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw: raw.0,
        psi: None,
    })
}

fn pids(dir: &Path) -> Result<PidsStats> {
    let limit = crate::cgroup::stats::number_or_max(dir, "pids.max")?.filter(|limit| *limit != u64::MAX);
    Ok(PidsStats { current: number(dir, "pids.current")?.unwrap_or(0), limit: limit.unwrap_or(0) })
}

/// The scheduler's own numbers, where it keeps some (BFQ, or CFQ before Linux 5.0), and else those of the throttle,
/// which count every operation that a process made itself.
fn blkio(dir: &Path) -> Result<crate::cgroup::BlkioStats> {
    let lists = |prefix: &str| {
        let list = |name: &str| entries(dir, &format!("{prefix}{name}"));
        Ok::<_, Error>(crate::cgroup::BlkioStats {
            service_bytes: list("io_service_bytes_recursive")?,
            serviced: list("io_serviced_recursive")?,
            queued: list("io_queued_recursive")?,
            service_time: list("io_service_time_recursive")?,
            wait_time: list("io_wait_time_recursive")?,
            merged: list("io_merged_recursive")?,
            time: list("time_recursive")?,
            sectors: list("sectors_recursive")?,
            psi: None,
        })
    };
    for prefix in ["blkio.bfq.", "blkio."] {
        let found = lists(prefix)?;
        if !found.serviced.is_empty() {
            return Ok(found);
        }
    }
    let throttle = lists("blkio.throttle.")?;
    if !throttle.serviced.is_empty() {
        return Ok(throttle);
    }
    // Before Linux 4.13 the throttle counted without the cgroups below.
    Ok(crate::cgroup::BlkioStats {
        service_bytes: entries(dir, "blkio.throttle.io_service_bytes")?,
        serviced: entries(dir, "blkio.throttle.io_serviced")?,
        ..throttle
    })
}

/// `8:0 Read 4096`, or `8:0 4096`; a last line `Total 4096` is the sum.
fn entries(dir: &Path, file: &str) -> Result<Vec<BlkioEntry>> {
    let text = files::read_if_there(dir, file)?.unwrap_or_default();
    Ok(text.lines().filter_map(entry).collect())
}

fn entry(line: &str) -> Option<BlkioEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let (op, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
    Some(BlkioEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        op: op.to_owned(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    #[test]
    fn each_controllers_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("cpuacct.usage", "3500\n"),
            ("cpuacct.usage_percpu", "3000 500 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 2000 1000\n1 300 200\n"),
            ("cpuacct.stat", "user 7\nsystem 3\n"),
            ("cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 88\n"),
            ("cpuset.cpus", "0-1,4\n"),
            ("cpuset.mems", "0\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
            ("memory.stat", "cache 1\nrss 5\ntotal_cache 4096\n"),
            ("memory.usage_in_bytes", "10\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.memsw.failcnt", "6\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            (
                "blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\nTotal 4097\n",
            ),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\nTotal 1\n"),
            ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
            ("hugetlb.2MB.usage_in_bytes", "2097152\n"),
            ("hugetlb.2MB.max_usage_in_bytes", "4194304\n"),
            ("hugetlb.2MB.failcnt", "1\n"),
            ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
            ("rdma.max", "mlx4_0 hca_handle=3 hca_object=max\n"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let all = "cpuacct,cpu,cpuset,memory,pids,blkio,hugetlb,rdma";
        let stats = read(&V1::new(BTreeMap::from([(all.to_owned(), dir.path().to_owned())]))).unwrap();
        assert_eq!(
            (stats.cpu.usage.total, stats.cpu.usage.user, stats.cpu.usage.kernel),
            (3500, 70_000_000, 30_000_000)
        );
        assert_eq!(stats.cpu.usage.per_cpu, [3000, 500]);
        assert_eq!(
            (&stats.cpu.usage.per_cpu_user[..], &stats.cpu.usage.per_cpu_kernel[..]),
            (&[2000, 300][..], &[1000, 200][..])
        );
        assert_eq!((stats.cpu.throttling.periods, stats.cpu.throttling.throttled_time), (9, 88));
        assert_eq!((&stats.cpu_set.cpus[..], &stats.cpu_set.mems[..]), (&[0, 1, 4][..], &[0][..]));
        assert_eq!(stats.cpu_set.sched_relax_domain_level, -1);
        assert_eq!((stats.memory.cache, stats.memory.usage.usage, stats.memory.swap.failures), (4096, 10, 6));
        assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
        assert_eq!(stats.blkio.service_bytes.len(), 3);
        assert_eq!(
            (stats.blkio.service_bytes[0].op.as_str(), stats.blkio.service_bytes[0].value),
            ("Read", 4096)
        );
        assert_eq!(stats.hugetlb["2MB"], HugetlbStats { usage: 2_097_152, max: 4_194_304, failures: 1 });
        let rdma = &stats.rdma["mlx4_0"];
        assert_eq!((rdma["hca_handle"].current, rdma["hca_object"].limit), (2, u64::MAX));
    }
}
