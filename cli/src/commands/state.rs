//! `floe state`

use std::process::ExitCode;

use clap::Args;

use crate::args::Globals;

/// Arguments of `state`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    println!("{:#}", super::container(globals, &arguments.id)?.oci_state());
    Ok(ExitCode::SUCCESS)
}
