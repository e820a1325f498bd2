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
use super::{container, in_form, say, size, time};
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
    let report = in_form(json, make(globals, arguments))?;
    if json {
        say(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else if !arguments.place.typed().is_runcs() {
        // Engines hand what they hear on; runc says nothing.
        say(&told(&report, &arguments.id))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make(globals: &Globals, arguments: &Arguments) -> anyhow::Result<Report> {
    let typed = arguments.place.typed();
    let destination = match typed {
        Typed::Place(place) => places::destination(place)?,
        Typed::Images(folder) => Box::new(DirectoryPath::new(folder)),
    };
    let mut container = container(globals, &arguments.id)?;
    let criu = Criu::locate(globals.criu.as_deref())?;
    if arguments.place.pre_dump || arguments.place.parent_path.is_some() {
        checkpoint::needs_tracking(&criu)?;
        anyhow::bail!("a dump in several rounds is not there yet; checkpoint the container whole");
    }
    let shown = Shown::new(arguments.watched.progress, globals);
    let cancel = cancel_on_signals()?;
    let records = Records::of(&globals.root);
    let tools = Tools { criu: &criu, records: &records, progress: &shown, cancel: Some(&cancel) };
    let result = checkpoint::checkpoint(&mut container, &*destination, &options(arguments)?, tools);
    shown.finish();
    let report = result?;
    if typed.is_runcs()
        && !report.running
        && let Err(error) = container.delete(true)
    {
        // As runc leaves it: the name is free. The snapshot is whole, so that is no failure.
        tracing::warn!("{} could not be removed: {error}; `floe delete` does it", arguments.id);
    }
    Ok(report)
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let Arguments { hooks, after, network, allowed, writing, told, place, looked, watched, .. } = arguments;
    Ok(Options {
        leave_running: after.leave_running,
        tcp: network.tcp(),
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
        "{id} is frozen into {}; {fate}\n  {} processes, {} of memory, archive {}\n  frozen {}, finished after {}\n",
        report.path.display(),
        report.processes,
        size(report.page_bytes),
        size(report.bytes),
        time(report.frozen_us),
        time(report.total_us)
    )
}
