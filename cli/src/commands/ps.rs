//! `floe ps`

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;

use super::list::Form;
use crate::args::Globals;

/// Arguments of `ps`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A table or JSON (the pids).
    #[arg(long, short, default_value = "table")]
    format: Form,
    /// Name of the container.
    id: String,
    /// Options of ps(1) for the table; `-ef` by default.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let pids = super::container(globals, &arguments.id)?.cgroup().processes()?;
    let pids: Vec<i32> = pids.into_iter().map(|pid| pid.as_raw()).collect();
    if arguments.format == Form::Json {
        super::say(&format!("{}\n", serde_json::to_string(&pids)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let default = ["-ef".to_owned()];
    let options = if arguments.options.is_empty() { &default[..] } else { &arguments.options };
    let output = Command::new("ps").args(options).output().context("run ps (package procps)")?;
    if !output.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column =
        header.split_whitespace().position(|name| name == "PID").context("ps shows no column PID")?;
    let is_wanted = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let table: String =
        std::iter::once(header).chain(lines.filter(is_wanted)).map(|line| format!("{line}\n")).collect();
    super::say(&table)?;
    Ok(ExitCode::SUCCESS)
}
