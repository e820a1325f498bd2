//! `floe list`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use floe_runtime::Store;

use super::say;
use super::state::Seen;
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
    let store = Store::open(&globals.root)?;
    let seen: Vec<Seen> = store.list()?.iter().map(|container| Seen::of(container, store.root())).collect();
    if arguments.quiet {
        say(&seen.iter().map(|each| format!("{}\n", each.id)).collect::<String>())?;
    } else if arguments.format == Form::Json {
        say(&format!("{}\n", serde_json::to_string(&seen)?))?;
    } else {
        say(&table(&rows(&seen)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(seen: &[Seen]) -> Vec<[String; 6]> {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |each: &Seen| {
        [
            each.id.clone(),
            each.pid.to_string(),
            each.status.to_string(),
            each.bundle.display().to_string(),
            each.created.clone(),
            each.owner.clone(),
        ]
    };
    std::iter::once(head).chain(seen.iter().map(row)).collect()
}

/// Each column as wide as its widest cell and three spaces, and at least 12: the table that scripts know of runc.
fn table(rows: &[[String; 6]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{cells}{}\n", row[5])
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 6]| cells.map(str::to_owned);
        let rows =
            [row(["ID", "P", "S", "B", "C", "O"]), row(["a-rather-long-name", "1", "s", "b", "c", "root"])];
        let text = table(&rows);
        let (head, first) = text.split_once('\n').unwrap();
        assert_eq!(head.find('P'), first.find('1'));
        assert_eq!(head.find('P'), Some(21));
        assert!(first.ends_with("root\n"));
    }
}
