//! `floe restore`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use floe_criu_bridge::Criu;
use floe_criu_bridge::checkpoint::Tools;
use floe_criu_bridge::record::Records;
use floe_criu_bridge::restore::{self, Options, Report};
use floe_runtime::{Container, ContainerId, Store};
use nix::unistd::Pid;

use super::{in_form, say, time};
use crate::args::{Format, Globals, ProgressForm};
use crate::foreground::{Waiter, console_socket, write_pid};
use crate::places;
use crate::progress::Shown;
use crate::signals::cancel_on_signals;

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name that the container gets; it may be a new one.
    id: String,
    /// The archive to read.
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// The bundle that gives root file system and configuration; by default the one that this host remembers.
    #[arg(long, short, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Do not wait for the container's end.
    #[arg(long, short)]
    detach: bool,
    /// A UNIX socket that gets the master of the container's terminal.
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the pid of the container's first process here.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Longest time without a sign from CRIU, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
    /// How progress is shown.
    #[arg(long, value_name = "FORM", default_value = "auto")]
    progress: ProgressForm,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.format == Format::Json;
    let (container, report) = in_form(json, make(globals, &arguments))?;
    if json {
        say(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else if arguments.detach && !report.holds_stdout {
        say(&format!(
            "{} runs again, process {}\n  {} processes, unpacked in {}, running after {}\n",
            report.container,
            report.pid,
            report.processes,
            time(report.unpack_us),
            time(report.total_us)
        ))?;
    }
    if arguments.detach {
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
        bundle: arguments.bundle.clone(),
        console: console_socket(arguments.console_socket.as_deref())?,
        systemd_cgroup: globals.systemd_cgroup,
        timeout: Duration::from_secs(arguments.timeout.max(1)),
    };
    let criu = Criu::locate(globals.criu.as_deref())?;
    let source = places::source(&arguments.from)?;
    let shown = Shown::new(arguments.progress, globals);
    let cancel = cancel_on_signals()?;
    let records = Records::of(&globals.root);
    let tools = Tools { criu: &criu, records: &records, progress: &shown, cancel: Some(&cancel) };
    let result = restore::restore(&store, &id, &*source, options, tools);
    shown.finish();
    let (container, report) = result?;
    if let Some(path) = &arguments.pid_file
        && let Err(error) = write_pid(path, Pid::from_raw(report.pid))
    {
        // Whoever wanted it cannot find its process; the archive brings it back another time.
        container.delete(true)?;
        return Err(error);
    }
    Ok((container, report))
}
