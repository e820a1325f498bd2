//! What goes into the archive besides the pages, and the manifest.

use std::io::Read;
use std::time::{Duration, SystemTime};

use floe_runtime::Container;
use floe_runtime::cgroup::{CgroupVersion, InnerCgroup};
use floe_snapshot_format::criu::{cgroups, files, ids, memory, pagemap, sockets, stats, tasks};
use floe_snapshot_format::{
    Complete, Cpu, Destination, FORMAT_VERSION, Head, Manifest, MemberName, Sink, Stats, Task, Tool,
    WriterOptions,
};
use serde_json::{Value, json};

use super::budget;
use super::collect::Plan;
use super::options::{Options, Tcp};
use super::request::LOG;
use super::rounds::{BEFORE_KEY, Before, MEMORY_KEY};
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::extra::CgroupsMode;
use crate::outside::{Connection, Fate, HostFiles, LockMethod, Outside};
use crate::pages::{Received, StreamKind};
use crate::scratch::Scratch;
use crate::version::{PageWire, Version};

/// Where CRIU writes its figures.
pub(super) const STATS: &str = "stats-dump";

/// Key of the manifest under which the outside stands.
pub(crate) const OUTSIDE_KEY: &str = "outside";

/// Key of the manifest under which the choices stand that a restore has to repeat.
pub(crate) const CHOICES_KEY: &str = "choices";

/// Where CRIU says in which cgroups the processes were.
const CGROUPS: &str = "cgroup.img";

/// Images up to this size share frames; larger ones get their own.
const SMALL: u64 = 64 << 10;

/// What the dump came to know.
pub(crate) struct Contents<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) host_files: &'a HostFiles,
    pub(crate) inner: &'a [InnerCgroup],
    pub(crate) received: &'a Received,
    /// As measured here.
    pub(crate) frozen: Duration,
}

/// Everything that is known before the freeze.
pub(crate) struct Seal<'a> {
    scratch: &'a Scratch,
    spec: Vec<u8>,
    manifest: Manifest,
    wire: PageWire,
    /// Whether the cgroups of the processes are added to what CRIU says of them.
    adds_cgroups: bool,
    /// The figures of the dump, once they are known.
    pub(crate) stats: Stats,
    /// The TCP connections that it holds, once they are known.
    pub(crate) connections: Vec<Connection>,
}

impl<'a> Seal<'a> {
    pub(crate) fn new(
        container: &Container,
        criu: &Criu,
        scratch: &'a Scratch,
        options: &Options,
        snapshot: String,
    ) -> Result<Self> {
        let spec = container.spec_json()?;
        let manifest = Manifest {
            format: FORMAT_VERSION,
            snapshot,
            created: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            tool: Tool { name: "floe".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            criu: criu.version().to_string(),
            kernel: kernel(),
            cpu: cpu(),
            container: floe_snapshot_format::Container {
                id: container.id().to_string(),
                spec_digest: blake3::hash(&spec).to_hex().to_string(),
                paused: container.status() == floe_runtime::Status::Paused,
                cgroup_version: match container.cgroup().version() {
                    CgroupVersion::V1 => 1,
                    CgroupVersion::V2 => 2,
                },
                ..floe_snapshot_format::Container::default()
            },
            extra: serde_json::Map::from_iter([(CHOICES_KEY.to_owned(), choices(options))]),
            ..Manifest::default()
        };
        let adds_cgroups = options.extra.cgroups == CgroupsMode::Usual;
        let wire = criu.version().page_wire();
        let (stats, connections) = (Stats::default(), Vec::new());
        Ok(Self { scratch, spec, manifest, wire, adds_cgroups, stats, connections })
    }

    /// It builds on this one.
    pub(crate) fn follows(&mut self, before: Option<&Before>) {
        if let Some(before) = before {
            self.manifest.parent = Some(before.snapshot.clone());
            self.manifest.extra.insert(BEFORE_KEY.to_owned(), json!(before.digest));
        }
    }

    /// Nothing can be restored of it alone.
    pub(crate) fn holds_memory_only(&mut self) {
        self.manifest.extra.insert(MEMORY_KEY.to_owned(), json!(true));
    }

    /// BLAKE3 of the configuration.
    /// The configuration, in OCI's words.
    pub(crate) fn spec(&self) -> &[u8] {
        &self.spec
    }

    pub(crate) fn spec_digest(&self) -> &str {
        &self.manifest.container.spec_digest
    }

    /// Begins the archive: everything that is known while the container still runs.
    pub(crate) fn begin(
        &mut self,
        destination: &dyn Destination,
        options: &Options,
        plan: &Plan,
    ) -> Result<Box<dyn Sink>> {
        let head = Head {
            format: FORMAT_VERSION,
            kind: "floe-archive".to_owned(),
            snapshot: self.manifest.snapshot.clone(),
            container: self.manifest.container.id.clone(),
            created: self.manifest.created.clone(),
            tool: self.manifest.tool.clone(),
            extra: serde_json::Map::new(),
        };
        let writer = WriterOptions {
            level: options.level,
            spool_budget: options
                .spool_budget
                .unwrap_or_else(|| budget::of(options.leave_running, plan.memory)),
            ..WriterOptions::default()
        };
        let mut archive = destination.begin(&head, writer)?;
        let config = json!({
            "id": head.container,
            "name": head.container,
            "rootfsImageID": "",
            "rootfsImageName": "",
            "runtime": "floe",
            "createdTime": head.created,
        });
        archive.add(&MemberName::new("config.dump")?, 0o600, &pretty(&config))?;
        archive.add(&MemberName::new("spec.dump")?, 0o600, &spec_dump(&self.spec)?)?;
        archive.add(&MemberName::new("network.status")?, 0o600, b"null\n")?;
        archive.add_directory(&MemberName::new("checkpoint")?, 0o700)?;
        Ok(archive)
    }

    /// Writes what CRIU left in the scratch folder, the page maps and the manifest. The archive has no name yet.
    pub(crate) fn write(
        &mut self,
        mut archive: Box<dyn Sink>,
        contents: &Contents<'_>,
    ) -> Result<Box<dyn Complete>> {
        let names = self.scratch.names()?;
        if self.adds_cgroups && names.iter().any(|name| name == CGROUPS) {
            let image = cgroups::with_folders(&self.scratch.read(CGROUPS)?)?;
            self.scratch.replace(CGROUPS, &image)?;
        }
        for name in names {
            if name != LOG && name != STATS {
                self.add_image(&mut *archive, &name)?;
            }
        }
        self.add_page_maps(&mut *archive, contents.received)?;
        if !self.manifest.extra.contains_key(MEMORY_KEY) {
            let descriptors = pretty(&json!(contents.plan.stdio));
            archive.add(&MemberName::new("checkpoint/descriptors.json")?, 0o600, &descriptors)?;
        }
        self.stats = self.figures(contents)?;
        let own = || stats::encode(&self.stats);
        let figures = self.scratch.read(STATS).map_or_else(|_| own(), Ok)?;
        archive.add(&MemberName::new(STATS)?, 0o600, &figures)?;
        archive.add(&MemberName::new(LOG)?, 0o600, self.scratch.read_text(LOG).as_bytes())?;

        let mut manifest = self.manifest.clone();
        manifest.tasks = self.tasks(contents.received)?;
        if let Ok(image) = self.scratch.read("files.img") {
            manifest.files = files::files(&image)?;
            manifest.sockets = sockets::decode(&image)?;
        }
        manifest.container.security_module =
            ids::inventory(&self.scratch.read("inventory.img")?)?.security_module;
        manifest.stats = self.stats.clone();
        self.connections = crate::outside::connections_of(&manifest, Fate::Kept);
        let outside = serde_json::to_value(outside(contents))
            .map_err(|error| Error::call("encode", "the manifest", std::io::Error::from(error)))?;
        manifest.extra.insert(OUTSIDE_KEY.to_owned(), outside);
        Ok(archive.complete(manifest)?)
    }

    fn add_image(&self, archive: &mut dyn Sink, name: &str) -> Result<()> {
        let member = MemberName::new(&format!("checkpoint/{name}"))?;
        let mut file = self.scratch.open(name)?;
        let failed = |source| Error::call("read", name, source);
        if file.metadata().map_err(failed)?.len() <= SMALL {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(failed)?;
            return Ok(archive.add(&member, 0o600, &bytes)?);
        }
        archive.begin(&member, 0o600)?;
        loop {
            let got = file.read(archive.room()?).map_err(failed)?;
            if got == 0 {
                return Ok(archive.end()?);
            }
            archive.advance(got)?;
        }
    }

    /// CRIU leaves the page maps to a page server, which we are.
    fn add_page_maps(&self, archive: &mut dyn Sink, received: &Received) -> Result<()> {
        for stream in &received.streams {
            let name = match stream.kind {
                StreamKind::Task(pid) => format!("checkpoint/pagemap-{pid}.img"),
                StreamKind::SharedMemory(id) => format!("checkpoint/pagemap-shmem-{id}.img"),
            };
            let map = pagemap::encode(stream.pages_id, &stream.runs, layout(self.wire))?;
            archive.add(&MemberName::new(&name)?, 0o600, &map)?;
        }
        Ok(())
    }

    fn figures(&self, contents: &Contents<'_>) -> Result<Stats> {
        if let Ok(image) = self.scratch.read(STATS)
            && let Some(stats) = stats::decode(&image)?
        {
            return Ok(stats);
        }
        let frozen_us = u64::try_from(contents.frozen.as_micros()).unwrap_or(u64::MAX);
        let pages_written = contents.received.streams.iter().map(|stream| stream.present).sum();
        Ok(Stats { frozen_us, pages_written, ..Stats::default() })
    }

    fn tasks(&self, received: &Received) -> Result<Vec<Task>> {
        let mut found = tasks::tree(&|name| self.scratch.read(name).ok())?;
        for task in &mut found {
            let own =
                received.streams.iter().find(|stream| stream.kind == StreamKind::Task(u64::from(task.pid)));
            if let Some(stream) = own {
                task.bytes = stream.present * crate::pages::wire::PAGE_SIZE;
                task.pages = Some(format!("checkpoint/pages-{}.img", stream.pages_id));
            }
            let name = format!("mm-{}.img", task.pid);
            if let Ok(image) = self.scratch.read(&name) {
                let runs = own.map_or(&[][..], |stream| &stream.runs);
                task.areas = memory::areas(&name, &image, runs)?;
            }
        }
        Ok(found)
    }
}

/// The layout of page maps that the CRIU of this wire reads.
pub(crate) fn layout(wire: PageWire) -> pagemap::Layout {
    match wire {
        PageWire::Narrow => pagemap::Layout::Narrow,
        PageWire::Wide => pagemap::Layout::Wide,
    }
}

/// The layout of page maps that the CRIU of a snapshot wrote, from its version in the manifest.
pub(crate) fn layout_of(version: &str) -> pagemap::Layout {
    Version::parse(version).map_or(pagemap::Layout::Narrow, |version| layout(version.page_wire()))
}

fn outside(contents: &Contents<'_>) -> Outside {
    Outside {
        mounts: contents.plan.mounts.clone(),
        files: contents.host_files.files.clone(),
        terminals: contents.host_files.terminals.clone(),
        namespaces: contents.plan.namespaces.iter().map(|(namespace, _)| namespace.clone()).collect(),
        stdio: contents.plan.stdio.clone(),
        cgroups: contents.inner.to_vec(),
        held_by: Some(contents.plan.lock).filter(|method| *method != LockMethod::None),
        interfaces: contents.plan.interfaces.clone(),
    }
}

/// What a restore has to be told again.
fn choices(options: &Options) -> Value {
    json!({
        "tcp_established": options.tcp == Tcp::Established,
        "tcp_close": options.tcp == Tcp::Close,
        "file_locks": options.file_locks,
        "ext_unix_sk": options.ext_unix_sk,
        "shell_job": options.shell_job,
        "link_remap": options.link_remap,
        "empty_network": options.extra.empty_network,
    })
}

/// The configuration as engines look for it in an archive: checkpointctl takes the form of a container's record from this
/// annotation, and `config.dump` has podman's.
fn spec_dump(spec: &[u8]) -> Result<Vec<u8>> {
    let failed = |error| Error::call("read", "the container's configuration", std::io::Error::from(error));
    let mut spec: Value = serde_json::from_slice(spec).map_err(failed)?;
    if !spec["annotations"].is_object() {
        spec["annotations"] = json!({});
    }
    spec["annotations"]["io.container.manager"] = json!("libpod");
    Ok(pretty(&spec))
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// 128 random bits as hexadecimal digits.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|source| Error::call("getrandom", "", source))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned())
}

/// The feature flags of this host's processor.
pub fn cpu_features() -> Vec<String> {
    cpu().features
}

fn cpu() -> Cpu {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    Cpu {
        architecture: std::env::consts::ARCH.to_owned(),
        model: value("model name"),
        features: value("flags").split_whitespace().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_follows_the_version_in_the_manifest() {
        assert_eq!(layout_of("4.1.1"), pagemap::Layout::Narrow);
        assert_eq!(layout_of("4.2"), pagemap::Layout::Wide);
        assert_eq!(layout_of("5.0.1"), pagemap::Layout::Wide);
        assert_eq!(layout_of(""), pagemap::Layout::Narrow);
    }

    #[test]
    fn ids_are_32_digits_and_differ() {
        let (one, two) = (new_id().unwrap(), new_id().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
