//! `floe restore`. Its flags are in groups, a file each.

mod outside;
mod place;
mod process;
mod runc;

use std::process::ExitCode;

use clap::Args;
use floe_criu_bridge::Criu;
use floe_criu_bridge::checkpoint::Tools;
use floe_criu_bridge::record::Records;
use floe_criu_bridge::restore::{self, Options, Report};
use floe_runtime::{Container, ContainerId, Store};
use floe_snapshot_format::Directory;
use nix::unistd::Pid;

use super::checkpoint::place::Typed;
use super::hooks::AfterRestore;
use super::looked::Looked;
use super::watched::Watched;
use super::{connections, in_form, say, time};
use crate::args::Globals;
use crate::foreground::{Waiter, console_socket, write_pid};
use crate::places;
use crate::progress::Shown;
use crate::signals::cancel_on_signals;
use outside::Outside;
use place::Place;
use process::Process;
use runc::Runc;

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name that the container gets; it may be a new one.
    id: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    hooks: AfterRestore,
    #[command(flatten)]
    runc: Runc,
    #[command(flatten)]
    outside: Outside,
    #[command(flatten)]
    looked: Looked,
    #[command(flatten)]
    watched: Watched,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.watched.json();
    if !arguments.process.detach && !arguments.process.no_subreaper {
        nix::sys::prctl::set_child_subreaper(true)?;
    }
    let (container, report) = in_form(json, make(globals, &arguments))?;
    if json {
        say(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else if arguments.process.detach && !report.holds_stdout && !arguments.place.typed().is_runcs() {
        say(&format!(
            "{} runs again, process {}\n  {} processes, unpacked in {}, running after {}\n{}",
            report.container,
            report.pid,
            report.processes,
            time(report.unpack_us),
            time(report.total_us),
            connections(&report.connections)
        ))?;
    }
    if arguments.process.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let code = Waiter::new()?.wait(Pid::from_raw(report.pid))?;
    container.delete(true)?;
    Ok(code)
}

fn make(globals: &Globals, arguments: &Arguments) -> anyhow::Result<(Container, Report)> {
    let id = ContainerId::parse(&arguments.id)?;
    let store = Store::open(&globals.root)?;
    let options = Options {
        bundle: arguments.place.bundle(),
        console: console_socket(arguments.process.console_socket.as_deref())?,
        systemd_cgroup: globals.systemd_cgroup,
        map: arguments.outside.map.clone(),
        hostname: arguments.outside.hostname.clone(),
        tcp_close: arguments.outside.closes(),
        check: !arguments.looked.no_check,
        timeout: arguments.watched.timeout(),
        hooks: arguments.hooks.hooks()?,
        form: arguments.runc.form(&arguments.place),
    };
    let criu = Criu::locate(globals.criu.as_deref())?;
    let source = match arguments.place.typed() {
        Typed::Place(place) => places::source(place)?,
        Typed::Images(folder) => Box::new(Directory::open(folder)?),
    };
    let shown = Shown::new(arguments.watched.progress, globals);
    let cancel = cancel_on_signals()?;
    let records = Records::of(&globals.root);
    let tools = Tools { criu: &criu, records: &records, progress: &shown, cancel: Some(&cancel) };
    let result = restore::restore(&store, &id, &*source, options, tools);
    shown.finish();
    let (container, report) = result?;
    if let Some(path) = &arguments.process.pid_file
        && let Err(error) = write_pid(path, Pid::from_raw(report.pid))
    {
        // Whoever wanted it cannot find its process; the archive brings it back another time.
        container.delete(true)?;
        return Err(error);
    }
    Ok((container, report))
}
