//! `floe update`

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use floe_runtime::config::{BlockIo, Cpu, Memory, Resources, Shares, oci};

use crate::args::Globals;

/// Arguments of `update`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
    /// Take the limits from this file, a `linux.resources` object; - is standard input. Other flags do nothing then.
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000.
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(0..=1000))]
    blkio_weight: Option<u16>,
    /// Length of a period in microseconds.
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Microseconds of processor time in each period; -1 is unlimited.
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Microseconds that may be saved up beyond the quota.
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// Relative share of processor time, 2 to 262144.
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Length of a real-time period in microseconds.
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Microseconds for real-time tasks in each real-time period.
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1 lets it run only when nothing else does, 0 ends that.
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// Processors that may be used, such as 0-3,6.
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, such as 0-3,6.
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory in bytes, or with a unit (512m, 2g); -1 is unlimited.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory: Option<i64>,
    /// Soft limit of memory.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 is unlimited.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory_swap: Option<i64>,
    /// Accepted for compatibility; the kernel has no such limit any more.
    #[arg(long, hide = true, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    kernel_memory: Option<i64>,
    /// Accepted for compatibility; the kernel has no such limit any more.
    #[arg(long, hide = true, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    kernel_memory_tcp: Option<i64>,
    /// Most processes and threads; -1 is unlimited.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Part of the L3 cache (Intel RDT), as a line of the kernel's schemata.
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Part of the memory bandwidth (Intel RDT), as a line of the kernel's schemata.
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.kernel_memory.or(arguments.kernel_memory_tcp).is_some() {
        tracing::warn!("limits of kernel memory are ignored: the kernel has none any more");
    }
    let change = match &arguments.resources {
        Some(path) => oci::resources_from_json(&read(path)?, path)?,
        None => of_flags(arguments),
    };
    let said = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let shares = Shares {
        l3_cache_schema: said(&arguments.l3_cache_schema),
        mem_bw_schema: said(&arguments.mem_bw_schema),
    };
    super::container(globals, &arguments.id)?.update_with(&change, &shares)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).context("read the limits from standard input")?;
        return Ok(text);
    }
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// 0 means nothing was said, as with runc, where it can't mean anything else.
fn of_flags(arguments: &Arguments) -> Resources {
    let size = |value: Option<i64>| value.filter(|value| *value != 0);
    let number = |value: Option<u64>| value.filter(|value| *value != 0);
    let list = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    Resources {
        memory: Memory {
            limit: size(arguments.memory),
            reservation: size(arguments.memory_reservation),
            swap: size(arguments.memory_swap),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: number(arguments.cpu_share),
            quota: size(arguments.cpu_quota),
            burst: arguments.cpu_burst,
            period: number(arguments.cpu_period),
            realtime_runtime: size(arguments.cpu_rt_runtime),
            realtime_period: number(arguments.cpu_rt_period),
            cpus: list(&arguments.cpuset_cpus),
            mems: list(&arguments.cpuset_mems),
            idle: arguments.cpu_idle,
        },
        pids: size(arguments.pids_limit),
        block_io: BlockIo {
            weight: arguments.blkio_weight.filter(|weight| *weight != 0),
            ..BlockIo::default()
        },
        ..Resources::default()
    }
}

/// Bytes as engines write them: a number, perhaps with a fraction, and a unit of powers of 1024 (`k`, `MB`, `GiB`).
fn size(text: &str) -> Result<i64, String> {
    if text.trim() == "-1" {
        return Ok(-1);
    }
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = &lower[digits.len()..];
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit != "i" && unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("`{unit}` is no unit; they are k, m, g, t and p")),
    };
    let number: f64 =
        digits.trim_end().parse().map_err(|_| "is no number of bytes, such as 512m or -1".to_owned())?;
    let bytes = number * 1024_f64.powi(power);
    // Above this, neighbouring numbers of bytes are no longer told apart, and no machine has that much.
    if !(0.0..=2_f64.powi(60)).contains(&bytes) {
        return Err("is out of range".to_owned());
    }
    #[allow(clippy::cast_possible_truncation, reason = "within the range that was just checked")]
    let bytes = bytes as i64;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_engines_write_them() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("4096b", 4096),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2 k", 2048),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "m", "-2", "12x", "1ib", "9999p", "inf", "nan", "1e3z"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
