//! `floe inspect`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use floe_snapshot_format::{Manifest, Source};
use serde_json::json;

use super::{in_form, say, size, time, tree};
use crate::args::Format;
use crate::places;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The archive.
    place: String,
    /// What of it.
    #[arg(default_value = "summary")]
    what: What,
    /// How it is printed.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Views of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// What it is, of what, when, how large.
    Summary,
    /// Its processes.
    Tree,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.format == Format::Json;
    let archive = in_form(json, places::source(&arguments.place))?;
    match (arguments.what, json) {
        (What::Summary, false) => summary(&*archive)?,
        (What::Summary, true) => {
            let Manifest { snapshot, created, tool, criu, kernel, container, stats, labels, .. } =
                archive.manifest();
            let value = json!({
                "snapshot": snapshot, "created": created, "tool": tool, "criu": criu, "kernel": kernel,
                "container": container, "stats": stats, "labels": labels,
                "processes": archive.manifest().tasks.len(), "members": archive.members().len() + 1,
                "memory_bytes": memory(&*archive), "bytes": archive.totals().bytes,
            });
            say(&format!("{value}\n"))?;
        }
        (What::Tree, false) => say(&tree::text(&archive.manifest().tasks))?,
        (What::Tree, true) => say(&format!("{}\n", serde_json::to_string(&archive.manifest().tasks)?))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn memory(archive: &dyn Source) -> u64 {
    let pages = |name: &str| name.starts_with("checkpoint/pages-");
    archive.members().iter().filter(|member| pages(member.name.as_str())).map(|member| member.size).sum()
}

fn summary(archive: &dyn Source) -> anyhow::Result<()> {
    let manifest = archive.manifest();
    let threads: u32 = manifest.tasks.iter().map(|task| task.threads).sum();
    let rows = [
        ("container", manifest.container.id.clone()),
        ("snapshot", manifest.snapshot.clone()),
        ("created", manifest.created.clone()),
        (
            "made by",
            format!(
                "{} {}, criu {}, Linux {}",
                manifest.tool.name, manifest.tool.version, manifest.criu, manifest.kernel
            ),
        ),
        ("processes", format!("{} with {threads} threads", manifest.tasks.len())),
        ("memory", size(memory(archive))),
        ("archive", size(archive.totals().bytes)),
        ("frozen for", time(manifest.stats.freezing_us + manifest.stats.frozen_us)),
        ("state", if manifest.container.paused { "paused" } else { "running" }.to_owned()),
    ];
    say(&rows.map(|(name, value)| format!("{name:<11}{}\n", tree::printable(&value))).concat())
}
