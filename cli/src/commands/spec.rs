//! `floe spec`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use floe_runtime::config::oci;

/// Arguments of `spec`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The bundle that gets the config.json.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a container without root's rights.
    #[arg(long)]
    rootless: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let ids = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let spec = oci::template(arguments.rootless.then_some(ids));
    let path = arguments.bundle.join("config.json");
    let text = serde_json::to_string_pretty(&spec)?;
    // What somebody wrote there is not replaced.
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
