//! `floe run`

use std::process::ExitCode;

use clap::Args;
use floe_runtime::foreground::Foreground;

use super::create::{Common, blueprint, create, take_back_if_interrupted, tell};
use crate::args::Globals;
use crate::exit;
use crate::foreground::{PidfdSocket, console_socket};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Do not wait for its end.
    #[arg(long, short)]
    detach: bool,
    /// Keep the container when it ends.
    #[arg(long)]
    keep: bool,
    /// Leave orphans of the container to the host's init.
    #[arg(long)]
    no_subreaper: bool,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.detach {
        in_background(globals, &arguments.common)
    } else {
        in_foreground(globals, &arguments)
    }
}

fn in_background(globals: &Globals, common: &Common) -> anyhow::Result<ExitCode> {
    let console = console_socket(common.console_socket.as_deref())?;
    let pidfd_socket = PidfdSocket::connect(common.pidfd_socket.as_deref())?;
    let mut uninterrupted = Foreground::prepare(false)?;
    let container = create(globals, common, || blueprint(common), console)?;
    tell(common, &pidfd_socket, &container)?;
    if let Err(error) = container.start() {
        container.delete(true)?;
        return Err(error.into());
    }
    take_back_if_interrupted(&mut uninterrupted, &container)?;
    Ok(ExitCode::SUCCESS)
}

fn in_foreground(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let common = &arguments.common;
    let mut foreground = Foreground::prepare(!arguments.no_subreaper)?;
    let blueprint = blueprint(common)?;
    let console = match console_socket(common.console_socket.as_deref())? {
        None if blueprint.config.process.terminal => Some(foreground.console_socket()?),
        given => given,
    };
    let pidfd_socket = PidfdSocket::connect(common.pidfd_socket.as_deref())?;
    let container = create(globals, common, || Ok(blueprint), console)?;
    tell(common, &pidfd_socket, &container)?;
    let stayed = match container.recorded_pid() {
        Some(pid) => foreground.stay(pid, || container.start()),
        None => Ok(1),
    };
    // Processes that the first one left behind go with the container.
    if !arguments.keep || stayed.is_err() {
        container.delete(true)?;
    }
    Ok(exit::of_process(stayed?))
}
