//! `floe checkpoint`

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use floe_criu_bridge::Criu;
use floe_criu_bridge::checkpoint::{self, Options, Report, Tcp, Tools};
use floe_criu_bridge::record::Records;

use super::{container, in_form, say, size, time};
use crate::args::{Format, Globals, ProgressForm};
use crate::places;
use crate::progress::Shown;
use crate::signals::cancel_on_signals;

/// Arguments of `checkpoint`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
    /// The archive to write.
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// Let the container go on afterwards.
    #[arg(long, short = 'R')]
    leave_running: bool,
    /// What is done about TCP connections.
    #[arg(long, value_name = "FATE", default_value = "fail")]
    tcp: TcpFate,
    /// Keep TCP connections; the same as --tcp established.
    #[arg(long, conflicts_with = "tcp")]
    tcp_established: bool,
    /// Close TCP connections; the same as --tcp close.
    #[arg(long, conflicts_with_all = ["tcp", "tcp_established"])]
    tcp_close: bool,
    /// Keep file locks.
    #[arg(long)]
    file_locks: bool,
    /// Let UNIX sockets go whose other side is outside the container.
    #[arg(long)]
    ext_unix_sk: bool,
    /// The container's session or terminal belongs to a process outside.
    #[arg(long)]
    shell_job: bool,
    /// Give deleted files that are still open a name for the time of the snapshot.
    #[arg(long)]
    link_remap: bool,
    /// Compression: zstd, with a level from 1 to 19.
    #[arg(long, value_name = "zstd[:LEVEL]", default_value = "zstd", value_parser = level)]
    compress: i32,
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

/// What is done about TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TcpFate {
    /// Refuse, naming them.
    Fail,
    /// Keep them.
    Established,
    /// Close them.
    Close,
}

fn level(text: &str) -> Result<i32, String> {
    let wrong = || format!("{text:?} is not zstd or zstd:LEVEL with a level from 1 to 19");
    match text.split_once(':') {
        None if text == "zstd" => Ok(1),
        Some(("zstd", level)) => {
            level.parse().ok().filter(|level| (1..=19).contains(level)).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.format == Format::Json;
    let report = in_form(json, make(globals, arguments))?;
    if json {
        say(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        say(&told(&report, &arguments.id))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make(globals: &Globals, arguments: &Arguments) -> anyhow::Result<Report> {
    let destination = places::destination(&arguments.to)?;
    let mut container = container(globals, &arguments.id)?;
    let criu = Criu::locate(globals.criu.as_deref())?;
    let shown = Shown::new(arguments.progress, globals);
    let cancel = cancel_on_signals()?;
    let records = Records::of(&globals.root);
    let tools = Tools { criu: &criu, records: &records, progress: &shown, cancel: Some(&cancel) };
    let result = checkpoint::checkpoint(&mut container, &*destination, &options(arguments), tools);
    shown.finish();
    Ok(result?)
}

fn options(arguments: &Arguments) -> Options {
    let tcp = match arguments.tcp {
        _ if arguments.tcp_established => Tcp::Established,
        _ if arguments.tcp_close => Tcp::Close,
        TcpFate::Fail => Tcp::Fail,
        TcpFate::Established => Tcp::Established,
        TcpFate::Close => Tcp::Close,
    };
    Options {
        leave_running: arguments.leave_running,
        tcp,
        file_locks: arguments.file_locks,
        ext_unix_sk: arguments.ext_unix_sk,
        shell_job: arguments.shell_job,
        link_remap: arguments.link_remap,
        timeout: Duration::from_secs(arguments.timeout.max(1)),
        level: arguments.compress,
        spool_budget: None,
    }
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
