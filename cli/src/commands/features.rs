//! `floe features`

use std::process::ExitCode;

use floe_runtime::Features;

pub fn run() -> anyhow::Result<ExitCode> {
    super::say(&format!("{}\n", serde_json::to_string_pretty(&Features::own())?))?;
    Ok(ExitCode::SUCCESS)
}
