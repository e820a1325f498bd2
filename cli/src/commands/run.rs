//! `floe run`

use std::process::ExitCode;

use clap::Args;

use super::create::{Common, create};
use crate::args::Globals;
use crate::foreground::{Console, Waiter};

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
    /// Accepted for compatibility: the container's process is a child of floe in any case.
    #[arg(long, hide = true)]
    no_subreaper: bool,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let common = &arguments.common;
    let waiter = if arguments.detach { None } else { Some(Waiter::new()?) };
    let terminal = common.console_socket.is_some() || wants_terminal(common)?;
    let mut console = Console::choose(terminal, common.console_socket.as_deref(), arguments.detach)?;
    let (container, _) = create(globals, common, &mut console)?;
    let started = console.attach().and_then(|terminal| {
        container.start()?;
        Ok(terminal)
    });
    let terminal = match started {
        Ok(terminal) => terminal,
        Err(error) => {
            container.delete(true)?;
            return Err(error);
        }
    };
    let Some(waiter) = waiter else { return Ok(ExitCode::SUCCESS) };
    let Some(pid) = container.init_pid().or(container.recorded_pid()) else { return Ok(ExitCode::from(1)) };
    let code = waiter.wait(pid, terminal.as_ref())?;
    drop(terminal);
    if !arguments.keep {
        // Processes that the first one left behind go with the container.
        container.delete(true)?;
    }
    Ok(code)
}

fn wants_terminal(common: &Common) -> anyhow::Result<bool> {
    if !common.bundle.join("config.json").exists() {
        // The creation says it better.
        return Ok(false);
    }
    let bundle = std::fs::canonicalize(&common.bundle)?;
    Ok(floe_runtime::read_bundle(&bundle)?.1.process.terminal)
}
