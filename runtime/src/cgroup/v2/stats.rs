//! Use, as version 2 counts it, `Documentation/admin-guide/cgroup-v2.rst`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::stats::{Table, number, number_or_max};
use crate::cgroup::{
    BlkioEntry, BlkioStats, CpuSet, CpuStats, CpuUsage, HugetlbStats, MemoryEntry, MemoryStats, PidsStats,
    Psi, RdmaEntry, Stats, Throttling, files,
};
use crate::error::{Error, Result};

/// The kernel's microseconds.
const NANOSECONDS: u64 = 1000;

pub(super) fn read(dir: &Path) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(dir)?,
        cpu_set: CpuSet {
            cpus: numbers_of_list(dir, "cpuset.cpus.effective")?,
            mems: numbers_of_list(dir, "cpuset.mems.effective")?,
            ..CpuSet::default()
        },
        memory: memory(dir)?,
        pids: PidsStats {
            current: number(dir, "pids.current")?.unwrap_or(0),
            limit: number_or_max(dir, "pids.max")?.filter(|limit| *limit != u64::MAX).unwrap_or(0),
        },
        blkio: blkio(dir)?,
        hugetlb: by_page_size(dir, ".current", |size| {
            Ok(HugetlbStats {
                usage: number(dir, &format!("hugetlb.{size}.current"))?.unwrap_or(0),
                max: 0,
                failures: Table::read(dir, &format!("hugetlb.{size}.events"))?.get("max"),
            })
        })?,
        rdma: rdma(dir)?,
    })
}

/// `cpu.stat` is there without the controller too, then without what the quota held back.
fn cpu(dir: &Path) -> Result<CpuStats> {
    let table = Table::read(dir, "cpu.stat")?;
    Ok(CpuStats {
        usage: CpuUsage {
            total: table.get("usage_usec") * NANOSECONDS,
            user: table.get("user_usec") * NANOSECONDS,
            kernel: table.get("system_usec") * NANOSECONDS,
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: table.get("nr_periods"),
            throttled_periods: table.get("nr_throttled"),
            throttled_time: table.get("throttled_usec") * NANOSECONDS,
        },
        psi: Psi::read(dir, "cpu.pressure")?,
    })
}

fn memory(dir: &Path) -> Result<MemoryStats> {
    let raw = Table::read(dir, "memory.stat")?;
    let entry = |name: &str| {
        let file = |value: &str| format!("memory.{name}{value}");
        Ok::<_, Error>(MemoryEntry {
            limit: number_or_max(dir, &file("max"))?.unwrap_or(0),
            usage: number(dir, &file("current"))?.unwrap_or(0),
            // Linux 5.19.
            max: number(dir, &file("peak"))?.unwrap_or(0),
            failures: Table::read(dir, &file("events"))?.get("max"),
        })
    };
    let usage = entry("")?;
    let swap = entry("swap.")?;
    Ok(MemoryStats {
        cache: raw.get("file"),
        usage,
        // Together, as version 1 counts it and everybody reads it. Their peaks were not at one time, so the sum is none.
        swap: MemoryEntry {
            limit: swap.limit.saturating_add(usage.limit),
            usage: swap.usage.saturating_add(usage.usage),
            max: 0,
            failures: swap.failures,
        },
        raw: raw.0,
        psi: Psi::read(dir, "memory.pressure")?,
        ..MemoryStats::default()
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn blkio(dir: &Path) -> Result<BlkioStats> {
    let mut stats = BlkioStats { psi: Psi::read(dir, "io.pressure")?, ..BlkioStats::default() };
    for line in files::read_if_there(dir, "io.stat")?.unwrap_or_default().lines() {
        let Some((device, rest)) = line.split_once(' ') else { continue };
        let Some((major, minor)) = device.split_once(':') else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in rest.split_whitespace().filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.service_bytes, "Read"),
                "wbytes" => (&mut stats.service_bytes, "Write"),
                "dbytes" => (&mut stats.service_bytes, "Discard"),
                "rios" => (&mut stats.serviced, "Read"),
                "wios" => (&mut stats.serviced, "Write"),
                "dios" => (&mut stats.serviced, "Discard"),
                _ => continue,
            };
            let value = value.parse().unwrap_or(0);
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(stats)
}

/// What `read` gives for each size of huge pages (`2MB`), which are told by the files `hugetlb.SIZE{end}`.
pub(in crate::cgroup) fn by_page_size(
    dir: &Path,
    end: &str,
    read: impl Fn(&str) -> Result<HugetlbStats>,
) -> Result<BTreeMap<String, HugetlbStats>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(Error::at("read", dir))? {
        let name = entry.map_err(Error::at("read", dir))?.file_name();
        let size = name.to_str().and_then(|name| name.strip_prefix("hugetlb.")?.strip_suffix(end));
        // `2MB.rsvd` is about what is reserved.
        if let Some(size) = size.filter(|size| !size.contains('.')) {
            found.insert(size.to_owned(), read(size)?);
        }
    }
    Ok(found)
}

/// The same files in both versions: `mlx4_0 hca_handle=2 hca_object=max`.
pub(in crate::cgroup) fn rdma(dir: &Path) -> Result<BTreeMap<String, BTreeMap<String, RdmaEntry>>> {
    let mut found: BTreeMap<String, BTreeMap<String, RdmaEntry>> = BTreeMap::new();
    for file in ["rdma.current", "rdma.max"] {
        for line in files::read_if_there(dir, file)?.unwrap_or_default().lines() {
            let mut fields = line.split_whitespace();
            let Some(device) = fields.next() else { continue };
            for (resource, value) in fields.filter_map(|field| field.split_once('=')) {
                let value = if value == "max" { u64::MAX } else { value.parse().unwrap_or(0) };
                let entry =
                    found.entry(device.to_owned()).or_default().entry(resource.to_owned()).or_default();
                match file {
                    "rdma.current" => entry.current = value,
                    _ => entry.limit = value,
                }
            }
        }
    }
    Ok(found)
}

/// `0-3,6`, one by one.
pub(in crate::cgroup) fn numbers_of_list(dir: &Path, file: &str) -> Result<Vec<u32>> {
    let text = files::read_if_there(dir, file)?.unwrap_or_default();
    let mut numbers = Vec::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            // More processors than any kernel knows are no list of its making.
            (Ok(first), Ok(last)) if last < 1 << 16 => numbers.extend(first..=last),
            _ => return Err(Error::Unexpected { path: dir.join(file), found: text }),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_controllers_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let pressure = "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 1\nthrottled_usec 5\n",
            ),
            ("cpu.pressure", pressure),
            ("cpuset.cpus.effective", "0-2,5\n"),
            ("cpuset.mems.effective", "\n"),
            ("memory.stat", "anon 100\nfile 50\n"),
            ("memory.current", "150\n"),
            ("memory.max", "1000\n"),
            ("memory.peak", "400\n"),
            ("memory.events", "low 0\nmax 3\noom 1\n"),
            ("memory.swap.current", "7\n"),
            ("memory.swap.max", "max\n"),
            ("pids.current", "2\n"),
            ("pids.max", "20\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:1 \n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("hugetlb.2MB.events", "max 4\n"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let stats = read(dir.path()).unwrap();
        assert_eq!(
            (stats.cpu.usage.total, stats.cpu.usage.user, stats.cpu.usage.kernel),
            (30_000, 20_000, 10_000)
        );
        assert_eq!((stats.cpu.throttling.periods, stats.cpu.throttling.throttled_time), (4, 5000));
        assert_eq!(stats.cpu.psi.unwrap().some.total, 9);
        assert_eq!((&stats.cpu_set.cpus[..], stats.cpu_set.mems.len()), (&[0, 1, 2, 5][..], 0));
        assert_eq!((stats.memory.cache, stats.memory.raw["anon"]), (50, 100));
        assert_eq!(stats.memory.usage, MemoryEntry { limit: 1000, usage: 150, max: 400, failures: 3 });
        assert_eq!(stats.memory.swap, MemoryEntry { limit: u64::MAX, usage: 157, max: 0, failures: 0 });
        assert_eq!((stats.pids.current, stats.pids.limit), (2, 20));
        let values: Vec<u64> =
            stats.blkio.service_bytes.iter().chain(&stats.blkio.serviced).map(|one| one.value).collect();
        assert_eq!(values, [1, 2, 5, 3, 4, 6]);
        assert_eq!(stats.hugetlb.len(), 1);
        assert_eq!((stats.hugetlb["2MB"].usage, stats.hugetlb["2MB"].failures), (2_097_152, 4));
        fs::write(dir.path().join("memory.current"), "much\n").unwrap();
        assert!(matches!(read(dir.path()), Err(Error::Unexpected { .. })));
    }
}
