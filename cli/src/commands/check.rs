//! `floe check`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use floe_criu_bridge::checkpoint::{self, Options, Tools};
use floe_criu_bridge::preflight::{self, Asked, Finding, Weight};
use floe_criu_bridge::record::Records;
use floe_criu_bridge::{Blocker, Criu, Error};
use floe_snapshot_format::Unheard;
use serde_json::{Map, Value, json};

use super::checkpoint::allowed::Allowed;
use super::checkpoint::network::Network;
use super::{container, in_form, say};
use crate::args::{Format, Globals, ProgressForm};
use crate::places;
use crate::progress::Shown;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of a container: can it be checkpointed as it is? Nothing is frozen.
    id: Option<String>,
    /// A process with everything that descends from it: can it be checkpointed as it is? Nothing is frozen.
    #[arg(long, value_name = "PID", conflicts_with = "id")]
    pid: Option<i32>,
    /// An archive: is it whole, and can it be restored on this host?
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["id", "pid"])]
    from: Option<String>,
    /// The bundle that the archive would be restored with; by default the one that this host remembers.
    #[arg(long, short, value_name = "DIR", requires = "from")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    allowed: Allowed,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.format == Format::Json;
    let answer = in_form(json, ask(globals, arguments))?;
    if json {
        say(&format!("{}\n", answer.value))?;
    } else {
        say(&answer.lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    }
    Ok(if answer.fit { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

struct Answer {
    fit: bool,
    lines: Vec<String>,
    value: Value,
}

impl Answer {
    /// What was found, with `good` for where nothing is in the way, and `about` what it was found about.
    fn of(findings: &[Finding], good: String, about: &[(&str, Value)]) -> Self {
        let blocks = |finding: &&Finding| finding.weight == Weight::Blocker;
        let fit = !findings.iter().any(|finding| blocks(&finding));
        let mut lines = if fit { vec![good] } else { Vec::new() };
        lines.extend(findings.iter().map(ToString::to_string));
        let mut value: Map<String, Value> =
            about.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let (blockers, warnings): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(blocks);
        value.insert("fit".to_owned(), json!(fit));
        value.insert("blockers".to_owned(), json!(blockers));
        value.insert("warnings".to_owned(), json!(warnings));
        Self { fit, lines, value: Value::Object(value) }
    }
}

fn ask(globals: &Globals, arguments: &Arguments) -> anyhow::Result<Answer> {
    let criu = Criu::locate(globals.criu.as_deref())?;
    criu.check()?;
    if let Some(place) = &arguments.from {
        return snapshot(globals, arguments, &criu, place);
    }
    match (&arguments.id, arguments.pid) {
        (Some(id), _) => of_container(globals, arguments, &criu, id),
        (None, Some(pid)) => of_tree(arguments, &criu, pid),
        (None, None) => host(&criu),
    }
}

fn host(criu: &Criu) -> anyhow::Result<Answer> {
    let features = criu.features()?;
    let offers = |has: bool| if has { "yes" } else { "no" };
    Ok(Answer {
        fit: true,
        lines: vec![
            format!("criu {} at {} works with this kernel", criu.version(), criu.path().display()),
            format!("  tracks changed memory (pre-dump): {}", offers(features.mem_track)),
            format!("  lazy restore (userfaultfd): {}", offers(features.lazy_pages)),
        ],
        value: json!({
            "criu": {"path": criu.path(), "version": criu.version().to_string()},
            "features": {"mem_track": features.mem_track, "lazy_pages": features.lazy_pages, "pidfd_store": features.pidfd_store},
        }),
    })
}

fn options(arguments: &Arguments) -> Options {
    let Arguments { network, allowed, .. } = arguments;
    Options {
        tcp: network.tcp(),
        tcp_skip_in_flight: network.tcp_skip_in_flight,
        network_lock: network.lock(),
        file_locks: allowed.file_locks,
        ext_unix_sk: allowed.ext_unix_sk,
        shell_job: allowed.shell_job,
        link_remap: allowed.link_remap,
        ..Options::default()
    }
}

fn of_container(globals: &Globals, arguments: &Arguments, criu: &Criu, id: &str) -> anyhow::Result<Answer> {
    let container = container(globals, id)?;
    let shown = Shown::new(ProgressForm::None, globals);
    let options = options(arguments).settled(container.config(), &shown)?;
    let mut findings = preflight::of_container(&container, &Asked::from(&options).of(criu.version()))?;
    match checkpoint::collect(&container, &options) {
        Ok(_) => {}
        Err(Error::Blocked(blockers)) => findings.extend(blockers.into_iter().map(of_floe)),
        Err(error) => return Err(error.into()),
    }
    Ok(Answer::of(&findings, format!("{id} can be checkpointed"), &[("container", json!(id))]))
}

/// What floe itself, not CRIU, cannot keep.
fn of_floe(blocker: Blocker) -> Finding {
    Finding { kind: "interface", weight: Weight::Blocker, blocker }
}

fn of_tree(arguments: &Arguments, criu: &Criu, pid: i32) -> anyhow::Result<Answer> {
    let findings = preflight::of_tree(pid, &Asked::from(&options(arguments)).of(criu.version()))?;
    let good = format!("process {pid}, with what descends from it, can be checkpointed");
    Ok(Answer::of(&findings, good, &[("pid", json!(pid))]))
}

fn snapshot(globals: &Globals, arguments: &Arguments, criu: &Criu, place: &str) -> anyhow::Result<Answer> {
    let archive = places::source(place)?;
    archive.verify(&Unheard)?;
    let records = Records::of(&globals.root);
    let shown = Shown::new(ProgressForm::None, globals);
    let tools = Tools { criu, records: &records, progress: &shown, cancel: None };
    let findings = preflight::arrival::look(&*archive, arguments.bundle.as_deref(), tools)?;
    let manifest = archive.manifest();
    let good = if manifest.criu.is_empty() {
        format!("{place} fits together; it was not made by floe, and is restored with --bundle")
    } else {
        format!("{place} is whole, and was made with criu {} (here: {})", manifest.criu, criu.version())
    };
    Ok(Answer::of(&findings, good, &[("snapshot", json!(manifest.snapshot))]))
}
