//! The cgroup and its limits, and devices. libcontainer writes a limit that isn't set as 0, OCI leaves it out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::source::Source;
use crate::error::Result;

/// Any number of a device, as libcontainer writes it.
const ANY: i64 = -1;

/// `cgroups` as it is written: libcontainer's `Cgroup`, with its `Resources` in the same object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cgroup {
    name: String,
    parent: String,
    path: String,
    scope_prefix: String,
    paths: BTreeMap<String, PathBuf>,
    allow_all_devices: Option<bool>,
    allowed_devices: Vec<Device>,
    denied_devices: Vec<Device>,
    devices: Vec<Device>,
    memory: i64,
    memory_reservation: i64,
    memory_swap: i64,
    kernel_memory: i64,
    kernel_memory_tcp: i64,
    memory_check_before_update: bool,
    #[serde(alias = "cpu_weight_shares")]
    cpu_shares: u64,
    cpu_weight: u64,
    cpu_quota: i64,
    cpu_burst: Option<u64>,
    cpu_period: u64,
    cpu_rt_quota: i64,
    cpu_rt_period: u64,
    cpuset_cpus: String,
    cpuset_mems: String,
    cpu_idle: Option<i64>,
    pids_limit: i64,
    blkio_weight: u16,
    blkio_leaf_weight: u16,
    blkio_weight_device: Vec<Weight>,
    blkio_throttle_read_bps_device: Vec<Throttle>,
    blkio_throttle_write_bps_device: Vec<Throttle>,
    blkio_throttle_read_iops_device: Vec<Throttle>,
    blkio_throttle_write_iops_device: Vec<Throttle>,
    freezer: String,
    hugetlb_limit: Vec<Hugepage>,
    oom_kill_disable: bool,
    memory_swappiness: Option<u64>,
    net_prio_ifpriomap: Vec<Priority>,
    net_cls_classid_u: u32,
    rdma: BTreeMap<String, Rdma>,
    unified: BTreeMap<String, String>,
    /// Let systemd make it, as with `--systemd-cgroup`.
    pub(super) systemd: bool,
    /// Who the caller is shows by itself.
    rootless: bool,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// A device node, and a rule of the cgroup: libcontainer has one structure for both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Device {
    r#type: Option<Kind>,
    path: PathBuf,
    major: i64,
    minor: i64,
    permissions: String,
    file_mode: u32,
    uid: u32,
    gid: u32,
    allow: bool,
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

/// A rune, which Go writes as a number, or a letter.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Kind {
    Number(u32),
    Letter(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Weight {
    major: i64,
    minor: i64,
    weight: u16,
    leafweight: u16,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Throttle {
    major: i64,
    minor: i64,
    rate: u64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hugepage {
    #[serde(alias = "pagesize")]
    page_size: String,
    limit: u64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Priority {
    interface: String,
    priority: i64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rdma {
    #[serde(alias = "hcahandles")]
    hca_handles: Option<u32>,
    #[serde(alias = "hcaobjects")]
    hca_objects: Option<u32>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

impl Device {
    fn letter(&self, key: &str, source: Source<'_>) -> Result<char> {
        let letter = match &self.r#type {
            Some(Kind::Number(number)) => char::from_u32(*number),
            Some(Kind::Letter(text)) => text.chars().next().filter(|_| text.len() == 1),
            None => None,
        };
        letter.filter(|letter| "abcpu".contains(*letter)).ok_or_else(|| {
            source.bad(format!("{key}.type"), "must be a, b, c, u or p, or the number of that letter")
        })
    }

    fn rule(&self, allow: bool, key: &str, source: Source<'_>) -> Result<Value> {
        let mut rule =
            json!({ "allow": allow, "type": self.letter(key, source)?, "access": self.permissions });
        for (name, number) in [("major", self.major), ("minor", self.minor)] {
            if number != ANY {
                rule[name] = json!(number);
            }
        }
        Ok(rule)
    }
}

/// The nodes that are made.
pub(super) fn nodes(devices: &[Device], source: Source<'_>) -> Result<Vec<Value>> {
    let node = |(number, device): (usize, &Device)| {
        Ok(json!({
            "type": device.letter(&format!("devices[{number}]"), source)?,
            "path": device.path,
            "major": device.major,
            "minor": device.minor,
            // Go's FileMode has bits of its own above the nine permissions.
            "fileMode": device.file_mode & 0o777,
            "uid": device.uid,
            "gid": device.gid,
        }))
    };
    devices.iter().enumerate().map(node).collect()
}

impl Cgroup {
    pub(super) fn refuse_unknown(&self, source: Source<'_>) -> Result<()> {
        source.none_unknown("cgroups", &self.unknown)?;
        for (name, list) in [
            ("allowed_devices", &self.allowed_devices),
            ("denied_devices", &self.denied_devices),
            ("devices", &self.devices),
        ] {
            let list = list.iter().map(|entry| &entry.unknown);
            source.none_unknown_of(&format!("cgroups.{name}"), list)?;
        }
        for (name, list) in self.throttles() {
            let list = list.iter().map(|entry| &entry.unknown);
            source.none_unknown_of(&format!("cgroups.blkio_{name}"), list)?;
        }
        let weights = self.blkio_weight_device.iter().map(|entry| &entry.unknown);
        source.none_unknown_of("cgroups.blkio_weight_device", weights)?;
        source.none_unknown_of(
            "cgroups.hugetlb_limit",
            self.hugetlb_limit.iter().map(|entry| &entry.unknown),
        )?;
        let priorities = self.net_prio_ifpriomap.iter().map(|entry| &entry.unknown);
        source.none_unknown_of("cgroups.net_prio_ifpriomap", priorities)?;
        self.rdma.iter().try_for_each(|(name, entry)| {
            source.none_unknown(&format!("cgroups.rdma.{name}"), &entry.unknown)
        })
    }

    /// Where it is: `path`, or `name` below `parent`; with `scope_prefix`, a scope of systemd's.
    pub(super) fn path(&self, source: Source<'_>) -> Result<Option<String>> {
        if !self.paths.is_empty() {
            let reason =
                "directories one by one cannot be kept together; write `path`, relative to each hierarchy";
            return Err(source.unsupported("cgroups.paths", reason));
        }
        match self.freezer.as_str() {
            "" | "THAWED" => {}
            "FROZEN" => {
                let reason = "a container that is frozen before it runs never starts; pause it when it does";
                return Err(source.unsupported("cgroups.freezer", reason));
            }
            other => {
                return Err(source.bad("cgroups.freezer", format!("{other:?} is neither FROZEN nor THAWED")));
            }
        }
        if self.systemd && !self.path.is_empty() {
            let reason =
                "systemd names a cgroup by its slice and scope; write `parent`, `scope_prefix` and `name`";
            return Err(source.unsupported("cgroups.path", reason));
        }
        let says_where =
            [&self.scope_prefix, &self.parent, &self.name].into_iter().any(|part| !part.is_empty());
        if !self.scope_prefix.is_empty() || self.systemd && says_where {
            if self.name.is_empty() {
                return Err(source.bad("cgroups.name", "is missing; it names the scope"));
            }
            return Ok(Some(format!("{}:{}:{}", self.parent, self.scope_prefix, self.name)));
        }
        if !self.path.is_empty() {
            return Ok(Some(self.path.clone()));
        }
        if self.name.is_empty() {
            return match self.parent.is_empty() {
                true => Ok(None),
                false => Err(source.bad("cgroups.name", "is missing; `parent` says only what it is below")),
            };
        }
        let path = Path::new("/").join(&self.parent).join(&self.name);
        Ok(Some(path.to_string_lossy().into_owned()))
    }

    pub(super) fn resources(&self, source: Source<'_>) -> Result<Value> {
        let mut pids = Map::new();
        put(&mut pids, "limit", self.pids_limit);
        let mut network = Map::new();
        put(&mut network, "classID", self.net_cls_classid_u);
        if !self.net_prio_ifpriomap.is_empty() {
            let entry = |entry: &Priority| json!({ "name": entry.interface, "priority": entry.priority });
            network.insert("priorities".into(), self.net_prio_ifpriomap.iter().map(entry).collect());
        }
        let mut resources = Map::new();
        for (name, part) in [
            ("memory", self.memory()),
            ("cpu", self.cpu()),
            ("pids", pids),
            ("blockIO", self.block_io()),
            ("network", network),
        ] {
            if !part.is_empty() {
                resources.insert(name.into(), part.into());
            }
        }
        let rules = self.device_rules(source)?;
        if !rules.is_empty() {
            resources.insert("devices".into(), rules.into());
        }
        if !self.hugetlb_limit.is_empty() {
            let limit = |entry: &Hugepage| json!({ "pageSize": entry.page_size, "limit": entry.limit });
            resources.insert("hugepageLimits".into(), self.hugetlb_limit.iter().map(limit).collect());
        }
        if !self.rdma.is_empty() {
            resources.insert("rdma".into(), self.rdma().into());
        }
        let mut unified: Map<String, Value> =
            self.unified.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        if self.cpu_weight != 0 {
            unified.entry("cpu.weight").or_insert_with(|| json!(self.cpu_weight.to_string()));
        }
        if !unified.is_empty() {
            resources.insert("unified".into(), unified.into());
        }
        let _ = self.rootless;
        Ok(resources.into())
    }

    fn memory(&self) -> Map<String, Value> {
        let mut memory = Map::new();
        put(&mut memory, "limit", self.memory);
        put(&mut memory, "reservation", self.memory_reservation);
        put(&mut memory, "swap", self.memory_swap);
        put(&mut memory, "kernel", self.kernel_memory);
        put(&mut memory, "kernelTCP", self.kernel_memory_tcp);
        // -1 written as an unsigned number stands for "not set".
        if let Some(swappiness) = self.memory_swappiness.filter(|value| *value != u64::MAX) {
            memory.insert("swappiness".into(), json!(swappiness));
        }
        if self.oom_kill_disable {
            memory.insert("disableOOMKiller".into(), json!(true));
        }
        if self.memory_check_before_update {
            memory.insert("checkBeforeUpdate".into(), json!(true));
        }
        memory
    }

    fn cpu(&self) -> Map<String, Value> {
        let mut cpu = Map::new();
        put(&mut cpu, "shares", self.cpu_shares);
        put(&mut cpu, "quota", self.cpu_quota);
        put(&mut cpu, "period", self.cpu_period);
        put(&mut cpu, "realtimeRuntime", self.cpu_rt_quota);
        put(&mut cpu, "realtimePeriod", self.cpu_rt_period);
        if let Some(burst) = self.cpu_burst {
            cpu.insert("burst".into(), json!(burst));
        }
        if let Some(idle) = self.cpu_idle {
            cpu.insert("idle".into(), json!(idle));
        }
        for (name, list) in [("cpus", &self.cpuset_cpus), ("mems", &self.cpuset_mems)] {
            if !list.is_empty() {
                cpu.insert(name.into(), json!(list));
            }
        }
        cpu
    }

    fn throttles(&self) -> [(&'static str, &Vec<Throttle>); 4] {
        [
            ("throttle_read_bps_device", &self.blkio_throttle_read_bps_device),
            ("throttle_write_bps_device", &self.blkio_throttle_write_bps_device),
            ("throttle_read_iops_device", &self.blkio_throttle_read_iops_device),
            ("throttle_write_iops_device", &self.blkio_throttle_write_iops_device),
        ]
    }

    fn block_io(&self) -> Map<String, Value> {
        let mut block_io = Map::new();
        put(&mut block_io, "weight", self.blkio_weight);
        put(&mut block_io, "leafWeight", self.blkio_leaf_weight);
        if !self.blkio_weight_device.is_empty() {
            let device = |entry: &Weight| {
                let mut device = json!({ "major": entry.major, "minor": entry.minor });
                for (name, weight) in [("weight", entry.weight), ("leafWeight", entry.leafweight)] {
                    if weight != 0 {
                        device[name] = json!(weight);
                    }
                }
                device
            };
            block_io.insert("weightDevice".into(), self.blkio_weight_device.iter().map(device).collect());
        }
        let names = [
            "throttleReadBpsDevice",
            "throttleWriteBpsDevice",
            "throttleReadIOPSDevice",
            "throttleWriteIOPSDevice",
        ];
        for (name, (_, list)) in names.into_iter().zip(self.throttles()) {
            if !list.is_empty() {
                let device = |entry: &Throttle| json!({ "major": entry.major, "minor": entry.minor, "rate": entry.rate });
                block_io.insert(name.into(), list.iter().map(device).collect());
            }
        }
        block_io
    }

    fn rdma(&self) -> Map<String, Value> {
        let entry = |(name, entry): (&String, &Rdma)| {
            let mut limits = Map::new();
            for (key, limit) in [("hcaHandles", entry.hca_handles), ("hcaObjects", entry.hca_objects)] {
                if let Some(limit) = limit {
                    limits.insert(key.into(), json!(limit));
                }
            }
            (name.clone(), limits.into())
        };
        self.rdma.iter().map(entry).collect()
    }

    /// The list as it is, or the older three keys: all but some, or none but some.
    fn device_rules(&self, source: Source<'_>) -> Result<Vec<Value>> {
        let every = |list: &[Device], allow: Option<bool>, name: &str| -> Result<Vec<Value>> {
            let rule = |(number, device): (usize, &Device)| {
                device.rule(allow.unwrap_or(device.allow), &format!("cgroups.{name}[{number}]"), source)
            };
            list.iter().enumerate().map(rule).collect()
        };
        let mut rules = Vec::new();
        if let Some(all) = self.allow_all_devices {
            rules.push(json!({ "allow": all, "type": "a", "access": "rwm" }));
        }
        // Who allows all denies some, and the other way round; libcontainer passes over the list that has no effect.
        if self.allow_all_devices != Some(true) {
            rules.extend(every(&self.allowed_devices, Some(true), "allowed_devices")?);
        }
        if self.allow_all_devices != Some(false) {
            rules.extend(every(&self.denied_devices, Some(false), "denied_devices")?);
        }
        rules.extend(every(&self.devices, None, "devices")?);
        Ok(rules)
    }
}

/// A number that was set.
fn put<N: Default + PartialEq + serde::Serialize>(map: &mut Map<String, Value>, name: &str, number: N) {
    if number != N::default() {
        map.insert(name.to_owned(), json!(number));
    }
}
