//! `floe pause` and `floe resume`

use std::process::ExitCode;

use clap::Args;

use crate::args::Globals;

/// Arguments of both.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
}

pub fn pause(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    super::container(globals, &arguments.id)?.pause()?;
    Ok(ExitCode::SUCCESS)
}

pub fn resume(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    super::container(globals, &arguments.id)?.resume()?;
    Ok(ExitCode::SUCCESS)
}
