//! `floe list`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use floe_runtime::{Container, Store};

use crate::args::Globals;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A table or JSON.
    #[arg(long, short, default_value = "table")]
    format: Form,
    /// Names only.
    #[arg(long, short)]
    quiet: bool,
}

/// Forms of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Table,
    Json,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let containers = Store::open(&globals.root)?.list()?;
    if arguments.quiet {
        containers.iter().for_each(|container| println!("{}", container.id()));
    } else if arguments.format == Form::Json {
        let states: Vec<_> = containers.iter().map(Container::oci_state).collect();
        println!("{}", serde_json::to_string(&states)?);
    } else {
        table(&containers);
    }
    Ok(ExitCode::SUCCESS)
}

fn table(containers: &[Container]) {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut rows = vec![header];
    for container in containers {
        rows.push([
            container.id().to_string(),
            container.init_pid().map_or(0, |pid| pid.as_raw()).to_string(),
            container.status().to_string(),
            container.bundle().display().to_string(),
            container.created().to_owned(),
            "root".to_owned(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("   ").trim_end());
    }
}
