//! `floe check`

use std::process::ExitCode;

use clap::Args;
use floe_criu_bridge::checkpoint::{self, Options};
use floe_criu_bridge::{Blocker, Criu, Error};
use floe_snapshot_format::Unheard;
use serde_json::{Value, json};

use super::{container, in_form, say};
use crate::args::{Format, Globals};
use crate::places;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of a container: can it be checkpointed as it is? Nothing is frozen.
    id: Option<String>,
    /// An archive: is it whole, and can this host read it?
    #[arg(long, value_name = "PLACE", conflicts_with = "id")]
    from: Option<String>,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.format == Format::Json;
    let answer = in_form(json, ask(globals, arguments))?;
    if json {
        say(&format!("{}\n", answer.value))?;
    } else {
        say(&answer.lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    }
    Ok(if answer.fit { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

struct Answer {
    fit: bool,
    lines: Vec<String>,
    value: Value,
}

fn ask(globals: &Globals, arguments: &Arguments) -> anyhow::Result<Answer> {
    let criu = Criu::locate(globals.criu.as_deref())?;
    criu.check()?;
    if let Some(place) = &arguments.from {
        return snapshot(&criu, place);
    }
    match &arguments.id {
        Some(id) => of_container(globals, id),
        None => host(&criu),
    }
}

fn host(criu: &Criu) -> anyhow::Result<Answer> {
    let features = criu.features()?;
    let offers = |has: bool| if has { "yes" } else { "no" };
    Ok(Answer {
        fit: true,
        lines: vec![
            format!("criu {} at {} works with this kernel", criu.version(), criu.path().display()),
            format!("  tracks changed memory (pre-dump): {}", offers(features.mem_track)),
            format!("  lazy restore (userfaultfd): {}", offers(features.lazy_pages)),
        ],
        value: json!({
            "criu": {"path": criu.path(), "version": criu.version().to_string()},
            "features": {"mem_track": features.mem_track, "lazy_pages": features.lazy_pages, "pidfd_store": features.pidfd_store},
        }),
    })
}

fn of_container(globals: &Globals, id: &str) -> anyhow::Result<Answer> {
    let found = checkpoint::collect(&container(globals, id)?, &Options::default());
    let blockers: Vec<Blocker> = match found {
        Ok(_) => Vec::new(),
        Err(Error::Blocked(blockers)) => blockers,
        Err(error) => return Err(error.into()),
    };
    let mut lines: Vec<String> = blockers.iter().map(ToString::to_string).collect();
    if lines.is_empty() {
        lines.push(format!("{id} can be checkpointed"));
    }
    Ok(Answer { fit: blockers.is_empty(), lines, value: json!({"container": id, "blockers": blockers}) })
}

fn snapshot(criu: &Criu, place: &str) -> anyhow::Result<Answer> {
    let archive = places::source(place)?;
    archive.verify(&Unheard)?;
    let manifest = archive.manifest();
    let mut blockers = Vec::new();
    if manifest.cpu.architecture != std::env::consts::ARCH {
        blockers.push(Blocker {
            pid: None,
            process: String::new(),
            what: format!("it was made on {}, and this host is", manifest.cpu.architecture),
            on: std::env::consts::ARCH.to_owned(),
            hint: "restore it on a machine of its kind".to_owned(),
        });
    }
    let here = floe_criu_bridge::checkpoint::cpu_features();
    let missing: Vec<&str> =
        manifest.cpu.features.iter().filter(|name| !here.contains(*name)).map(String::as_str).collect();
    let mut lines: Vec<String> = blockers.iter().map(ToString::to_string).collect();
    if lines.is_empty() && manifest.criu.is_empty() {
        lines.push(format!(
            "{place} fits together; it was not made by floe, and cannot be restored by it yet"
        ));
    } else if lines.is_empty() {
        lines.push(format!(
            "{place} is whole, and was made with criu {} (here: {})",
            manifest.criu,
            criu.version()
        ));
    }
    if !missing.is_empty() {
        lines.push(format!(
            "  this processor lacks what the other had; programs may rely on it: {}",
            missing.join(" ")
        ));
    }
    Ok(Answer {
        fit: blockers.is_empty(),
        value: json!({"snapshot": manifest.snapshot, "blockers": blockers, "missing_cpu_features": missing}),
        lines,
    })
}
