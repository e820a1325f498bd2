//! Limits as properties of a unit, `systemd.resource-control(5)`.

use std::collections::BTreeMap;

use super::wire::{Property, Value};
use crate::cgroup::CgroupVersion;
use crate::cgroup::devices::{DeviceList, unit_rules};
use crate::cgroup::v2::limits::{swap_alone, weight_of_shares};
use crate::config::{Cpu, Resources};
use crate::error::{Error, Result};

/// What systemd takes for "without limit".
const INFINITY: u64 = u64::MAX;

/// Annotations that begin with this name properties of the unit.
pub(crate) const ANNOTATION: &str = "org.systemd.property.";

/// What a scope is made of, apart from its limits.
pub(super) fn of_scope(
    slice: &str,
    description: &str,
    pid: u32,
    version: CgroupVersion,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Property>> {
    let io = match version {
        CgroupVersion::V1 => "BlockIOAccounting",
        CgroupVersion::V2 => "IOAccounting",
    };
    let yes = |name: &str| Property::new(name, Value::Flag(true));
    let mut properties = vec![
        Property::new("Description", Value::Text(description.to_owned())),
        Property::new("Slice", Value::Text(slice.to_owned())),
        // The container may make cgroups of its own below, and floe writes to the files of this one.
        yes("Delegate"),
        Property::new("PIDs", Value::Words(vec![pid])),
        yes("MemoryAccounting"),
        yes("CPUAccounting"),
        yes(io),
        yes("TasksAccounting"),
        // Without this, it would be ordered with the units of the boot and end with them.
        Property::new("DefaultDependencies", Value::Flag(false)),
    ];
    for (name, text) in
        annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(ANNOTATION)?, text)))
    {
        properties.push(of_annotation(name, text)?);
    }
    Ok(properties)
}

/// `TimeoutStopUSec` with the value `uint64 10000000`: the text form of GVariant, of which the simple types are known. A
/// name that ends with `Sec` is in seconds, and becomes the one in microseconds that systemd has.
fn of_annotation(name: &str, text: &str) -> Result<Property> {
    let bad = |problem: &str| Error::Refused {
        problem: format!("annotation {ANNOTATION}{name}: {problem}"),
        hint: "write `true`, `'text'`, `int32 5`, `uint32 5`, `uint64 5` or `['text']`",
    };
    if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return Err(bad("is no name of a property"));
    }
    let text = text.trim();
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad("is no number"));
    let value = match text.split_once(' ') {
        _ if text == "true" || text == "false" => Value::Flag(text == "true"),
        Some(("uint64", rest)) => Value::Number(number(rest)?),
        Some(("uint32", rest)) => Value::Word(rest.trim().parse().map_err(|_| bad("is no number"))?),
        Some(("int32", rest)) => Value::Signed(rest.trim().parse().map_err(|_| bad("is no number"))?),
        _ => match (quoted(text), text.strip_prefix('[').and_then(|text| text.strip_suffix(']'))) {
            (Some(text), _) => Value::Text(text),
            (None, Some(list)) => {
                let list = list.split(',').map(|one| quoted(one.trim()));
                Value::Texts(list.collect::<Option<_>>().ok_or_else(|| bad("is not understood"))?)
            }
            _ => Value::Signed(text.parse().map_err(|_| bad("is not understood"))?),
        },
    };
    let Some(base) = name.strip_suffix("Sec").filter(|base| !base.ends_with('U')) else {
        return Ok(Property::new(name, value));
    };
    let seconds = match value {
        Value::Number(seconds) => seconds,
        Value::Word(seconds) => seconds.into(),
        Value::Signed(seconds) => u64::try_from(seconds).map_err(|_| bad("is negative"))?,
        _ => return Err(bad("is no number of seconds")),
    };
    Ok(Property::new(format!("{base}USec"), Value::Number(seconds.saturating_mul(1_000_000))))
}

/// Text between two quotation marks of one kind.
fn quoted(text: &str) -> Option<String> {
    ['\'', '"'].into_iter().find_map(|mark| {
        let inner = text.strip_prefix(mark)?.strip_suffix(mark)?;
        (!inner.contains(mark) && !inner.contains('\\')).then(|| inner.to_owned())
    })
}

/// Limits that systemd knows; the others are in the cgroup's files only, and systemd leaves them alone.
pub(super) fn of_limits(
    resources: &Resources,
    version: CgroupVersion,
    systemd: u32,
) -> Result<Vec<Property>> {
    let mut properties = devices(resources)?;
    let mut push = |name: &str, value: Option<u64>| {
        properties.extend(value.map(|value| Property::new(name, Value::Number(value))));
    };
    push("TasksMax", resources.pids.map(or_infinity));
    let memory = &resources.memory;
    let cpu = &resources.cpu;
    match version {
        CgroupVersion::V1 => {
            push("MemoryLimit", memory.limit.map(or_infinity));
            push("CPUShares", cpu.shares);
            push("BlockIOWeight", resources.block_io.weight.map(u64::from));
        }
        CgroupVersion::V2 => {
            push("MemoryMax", memory.limit.map(or_infinity));
            push("MemoryLow", memory.reservation.map(or_infinity));
            let swap = swap_alone(memory)?;
            push("MemorySwapMax", swap.map(|swap| swap.parse().unwrap_or(INFINITY)));
            push("CPUWeight", weight(cpu, systemd));
            if let Some(weight) = resources.block_io.weight {
                push("IOWeight", Some(1 + u64::from(weight).saturating_sub(10) * 9999 / 990));
            }
            for (file, name) in [
                ("memory.min", "MemoryMin"),
                ("memory.low", "MemoryLow"),
                ("memory.high", "MemoryHigh"),
                ("memory.max", "MemoryMax"),
                ("memory.swap.max", "MemorySwapMax"),
                ("pids.max", "TasksMax"),
                ("cpu.weight", "CPUWeight"),
            ] {
                let value = resources.unified.get(file).map(|text| text.trim());
                push(
                    name,
                    value.and_then(|text| if text == "max" { Some(INFINITY) } else { text.parse().ok() }),
                );
            }
        }
    }
    properties.extend(quota(cpu, resources.unified.get("cpu.max"), systemd));
    if version == CgroupVersion::V2 {
        properties.extend(cpuset(resources, systemd)?);
    }
    Ok(properties)
}

fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// A weight of 0 is what systemd (252) calls idle.
fn weight(cpu: &Cpu, systemd: u32) -> Option<u64> {
    match cpu.idle {
        Some(1) if systemd >= 252 => Some(0),
        _ => cpu.shares.map(weight_of_shares),
    }
}

/// Systemd counts a quota by the second and in steps of 10 milliseconds; rounded up, it is never less than what was
/// asked for, which is in the cgroup's own file.
fn quota(cpu: &Cpu, unified: Option<&String>, systemd: u32) -> Vec<Property> {
    const STEP: u64 = 10_000;
    const USUAL_PERIOD: u64 = 100_000;
    let mut fields = unified.map(|text| text.split_whitespace()).into_iter().flatten();
    let first = fields.next().map(|text| text.parse().unwrap_or(-1));
    let quota = first.or(cpu.quota);
    let period = fields.next().and_then(|text| text.parse().ok()).or(cpu.period);
    let mut properties = Vec::new();
    if let Some(period) = period.filter(|_| systemd >= 242) {
        properties.push(Property::new("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    if let Some(quota) = quota {
        let a_second = match u64::try_from(quota) {
            Ok(quota) if quota > 0 => {
                let exact = quota.saturating_mul(1_000_000) / period.unwrap_or(USUAL_PERIOD).max(1);
                exact.checked_next_multiple_of(STEP).unwrap_or(INFINITY)
            }
            _ => INFINITY,
        };
        properties.push(Property::new("CPUQuotaPerSecUSec", Value::Number(a_second)));
    }
    properties
}

fn cpuset(resources: &Resources, systemd: u32) -> Result<Vec<Property>> {
    // Older ones don't know these properties, and leave the files alone.
    if systemd < 244 {
        return Ok(Vec::new());
    }
    let mut properties = Vec::new();
    for (list, file, name) in [
        (&resources.cpu.cpus, "cpuset.cpus", "AllowedCPUs"),
        (&resources.cpu.mems, "cpuset.mems", "AllowedMemoryNodes"),
    ] {
        if let Some(list) = resources.unified.get(file).or(list.as_ref()).filter(|list| !list.is_empty()) {
            properties.push(Property::new(name, Value::Bytes(mask(list)?)));
        }
    }
    Ok(properties)
}

/// `0-2,9` as bits, the lowest numbers in the first byte.
fn mask(list: &str) -> Result<Vec<u8>> {
    /// More than any kernel is built for.
    const MOST: usize = 1 << 16;
    let bad = || Error::Refused {
        problem: format!("{list:?} is no list of processors or memory nodes"),
        hint: "write numbers and ranges, such as 0-3,6",
    };
    let mut bytes = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST);
        for bit in number(first).ok_or_else(bad)?..=number(last).ok_or_else(bad)? {
            if bytes.len() <= bit / 8 {
                bytes.resize(bit / 8 + 1, 0);
            }
            bytes[bit / 8] |= 1 << (bit % 8);
        }
    }
    Ok(bytes)
}

/// Systemd sets up devices itself. Its list has to allow what the container's does: with version 1 it writes it at
/// every reload, with version 2 both programs have to agree. It can't express a list that allows but for exceptions.
fn devices(resources: &Resources) -> Result<Vec<Property>> {
    if resources.devices.is_empty() {
        return Ok(Vec::new());
    }
    let list = DeviceList::of(&resources.devices)?;
    let (policy, allowed) = match list.allows_by_default() {
        true => ("auto", Vec::new()),
        false => ("strict", unit_rules(&list)),
    };
    Ok(vec![
        Property::new("DevicePolicy", Value::Text(policy.to_owned())),
        // An empty list takes away what was there.
        Property::new("DeviceAllow", Value::Pairs(Vec::new())),
        Property::new("DeviceAllow", Value::Pairs(allowed)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Memory, Resources};

    fn number(properties: &[Property], name: &str) -> Option<u64> {
        let property = properties.iter().rfind(|property| property.name == name)?;
        match property.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn limits() -> Resources {
        Resources {
            memory: Memory { limit: Some(100), swap: Some(150), reservation: Some(50), ..Memory::default() },
            cpu: Cpu {
                shares: Some(1024),
                quota: Some(50_001),
                period: Some(100_000),
                cpus: Some("0-2,9".to_owned()),
                ..Cpu::default()
            },
            pids: Some(-1),
            ..Resources::default()
        }
    }

    #[test]
    fn limits_have_systemds_names_and_units() {
        let set = of_limits(&limits(), CgroupVersion::V2, 252).unwrap();
        for (name, value) in [
            ("MemoryMax", 100),
            ("MemoryLow", 50),
            ("MemorySwapMax", 50),
            ("CPUWeight", 100),
            ("CPUQuotaPeriodUSec", 100_000),
            ("CPUQuotaPerSecUSec", 510_000),
            ("TasksMax", INFINITY),
        ] {
            assert_eq!(number(&set, name), Some(value), "{name}");
        }
        let cpus = set.iter().find(|property| property.name == "AllowedCPUs").unwrap();
        assert_eq!(cpus.value, Value::Bytes(vec![0b111, 0b10]));
        let old = of_limits(&limits(), CgroupVersion::V1, 239).unwrap();
        assert_eq!((number(&old, "MemoryLimit"), number(&old, "CPUShares")), (Some(100), Some(1024)));
        assert!(
            !old.iter().any(|one| ["CPUQuotaPeriodUSec", "AllowedCPUs", "MemoryMax"].contains(&&*one.name))
        );
        assert!(of_limits(&Resources::default(), CgroupVersion::V2, 252).unwrap().is_empty());
    }

    #[test]
    fn idle_and_unified_settings_are_told() {
        let mut resources = limits();
        resources.cpu.idle = Some(1);
        resources.unified = [("cpu.max", "max 50000"), ("memory.high", "77"), ("pids.max", "5")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let set = of_limits(&resources, CgroupVersion::V2, 252).unwrap();
        assert_eq!(number(&set, "CPUWeight"), Some(0));
        assert_eq!((number(&set, "MemoryHigh"), number(&set, "TasksMax")), (Some(77), Some(5)));
        assert_eq!(
            (number(&set, "CPUQuotaPerSecUSec"), number(&set, "CPUQuotaPeriodUSec")),
            (Some(INFINITY), Some(50_000))
        );
    }

    #[test]
    fn a_scope_is_delegated_and_holds_its_process() {
        let annotations = [
            ("org.systemd.property.TimeoutStopUSec", "uint64 123456"),
            ("org.systemd.property.TimeoutStartSec", "5"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.property.Before", "['a.service', 'b.service']"),
            ("org.example", "ignored"),
        ]
        .map(|(key, text)| (key.to_owned(), text.to_owned()));
        let set = of_scope("system.slice", "about", 42, CgroupVersion::V2, &annotations.into()).unwrap();
        let value = |name: &str| &set.iter().find(|property| property.name == name).unwrap().value;
        assert_eq!(value("Delegate"), &Value::Flag(true));
        assert_eq!(value("PIDs"), &Value::Words(vec![42]));
        assert_eq!(value("Slice"), &Value::Text("system.slice".to_owned()));
        assert_eq!(value("IOAccounting"), &Value::Flag(true));
        assert_eq!(value("TimeoutStopUSec"), &Value::Number(123_456));
        assert_eq!(value("TimeoutStartUSec"), &Value::Number(5_000_000));
        assert_eq!(value("CollectMode"), &Value::Text("inactive-or-failed".to_owned()));
        assert_eq!(value("Before"), &Value::Texts(vec!["a.service".to_owned(), "b.service".to_owned()]));
        for bad in ["", "uint64 x", "{'a': 1}", "'open"] {
            assert!(of_annotation("TimeoutStopUSec", bad).is_err(), "{bad}");
        }
        assert!(of_annotation("A B", "true").is_err());
    }
}
