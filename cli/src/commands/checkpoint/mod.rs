//! `floe checkpoint`. Its flags are in groups, a file each.

mod after;
pub(super) mod allowed;
pub(super) mod network;
pub(super) mod place;
pub(super) mod runc;
mod writing;

use std::process::ExitCode;

use clap::Args;
use floe_criu_bridge::Criu;
use floe_criu_bridge::checkpoint::{self, Options, Report, Tools};
use floe_criu_bridge::record::Records;
use floe_snapshot_format::DirectoryPath;

use super::hooks::AroundFreeze;
use super::looked::Looked;
use super::watched::Watched;
use super::{connections, container, in_form, say, size, time};
use crate::args::Globals;
use crate::places;
use crate::progress::Shown;
use crate::signals::cancel_on_signals;
use after::After;
use allowed::Allowed;
use network::Network;
use place::{Place, Typed};
use runc::Told;
use writing::Writing;

/// Arguments of `checkpoint`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    after: After,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    allowed: Allowed,
    #[command(flatten)]
    writing: Writing,
    #[command(flatten)]
    hooks: AroundFreeze,
    #[command(flatten)]
    told: Told,
    #[command(flatten)]
    looked: Looked,
    #[command(flatten)]
    watched: Watched,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.watched.json();
    let Some(report) = in_form(json, make(globals, arguments))? else { return Ok(ExitCode::SUCCESS) };
    if json {
        say(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else if !arguments.place.typed().is_runcs() {
        // Engines hand what they hear on; runc says nothing.
        say(&told(&report, &arguments.id))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The report; `None` of a round that holds memory only.
fn make(globals: &Globals, arguments: &Arguments) -> anyhow::Result<Option<Report>> {
    let typed = arguments.place.typed();
    let destination = match typed {
        Typed::Place(place) => places::destination(place)?,
        Typed::Images(folder) => Box::new(match &arguments.place.parent_path {
            Some(parent) => DirectoryPath::with_parent(folder, parent),
            None => DirectoryPath::new(folder),
        }),
    };
    let mut container = container(globals, &arguments.id)?;
    let criu = Criu::locate(globals.criu.as_deref())?;
    let shown = Shown::new(arguments.watched.progress, globals);
    let cancel = cancel_on_signals()?;
    let records = Records::of(&globals.root);
    let tools = Tools { criu: &criu, records: &records, progress: &shown, cancel: Some(&cancel) };
    let mut options = options(arguments)?;
    options.extra.before = arguments.place.before()?;
    if arguments.place.pre_dump {
        let result = checkpoint::pre_dump(&mut container, &*destination, &options, tools);
        shown.finish();
        return Ok(result.map(|()| None)?);
    }
    let result = checkpoint::checkpoint(&mut container, &*destination, &options, tools);
    shown.finish();
    let report = result?;
    if typed.is_runcs()
        && !report.running
        && let Err(error) = container.delete(true)
    {
        // As runc leaves it: the name is free. The snapshot is whole, so that is no failure.
        tracing::warn!("{} could not be removed: {error}; `floe delete` does it", arguments.id);
    }
    Ok(Some(report))
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let Arguments { hooks, after, network, allowed, writing, told, place, looked, watched, .. } = arguments;
    Ok(Options {
        leave_running: after.leave_running,
        tcp: network.tcp(),
        tcp_skip_in_flight: network.tcp_skip_in_flight,
        network_lock: network.lock(),
        file_locks: allowed.file_locks,
        ext_unix_sk: allowed.ext_unix_sk,
        shell_job: allowed.shell_job,
        link_remap: allowed.link_remap,
        check: !looked.no_check,
        timeout: watched.timeout(),
        level: writing.compress,
        spool_budget: None,
        hooks: hooks.hooks()?,
        extra: told.extra(place.work_path.clone()),
    })
}

fn told(report: &Report, id: &str) -> String {
    let fate = if report.running { "it runs on" } else { "it is gone; restore it with `floe restore`" };
    format!(
        "{id} is frozen into {}; {fate}\n  {} processes, {} of memory, archive {}\n  frozen {}, finished after {}\n{}",
        report.path.display(),
        report.processes,
        size(report.page_bytes),
        size(report.bytes),
        time(report.frozen_us),
        time(report.total_us),
        connections(&report.connections)
    )
}
