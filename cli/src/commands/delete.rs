//! `floe delete`

use std::process::ExitCode;

use clap::Args;
use floe_runtime::{ContainerId, Error, Status, Store};

use crate::args::Globals;

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
    /// End its processes first. A container that does not exist is no failure then.
    #[arg(long, short)]
    force: bool,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let id = ContainerId::parse(&arguments.id)?;
    let store = Store::open(&globals.root)?;
    match store.container(&id) {
        // One that was never started has nothing to lose: runc removes it without --force too.
        Ok(container) => container.delete(arguments.force || container.status() == Status::Created)?,
        Err(error @ (Error::NotFound { .. } | Error::Json { .. })) if arguments.force => {
            // A floe that was killed before it had written anything down, or a damaged record.
            tracing::debug!("{error}");
            store.remove_remains(&id)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}
