//! `floe start`

use std::process::ExitCode;

use clap::Args;

use crate::args::Globals;

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    super::container(globals, &arguments.id)?.start()?;
    Ok(ExitCode::SUCCESS)
}
