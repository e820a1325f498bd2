//! `floe verify`

use std::process::ExitCode;

use clap::Args;
use floe_criu_bridge::{Cancel, Phase, Progress as _};
use floe_snapshot_format::{Archive, Progress, Verified};
use serde_json::json;

use super::{archive_path, in_form, size};
use crate::args::{Format, ProgressForm};
use crate::progress::Shown;
use crate::signals::cancel_on_signals;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The archive.
    place: String,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
    /// How progress is shown.
    #[arg(long, value_name = "FORM", default_value = "auto")]
    progress: ProgressForm,
}

struct Watched {
    shown: Shown,
    cancel: Cancel,
}

impl Progress for Watched {
    fn bytes(&self, done: u64, total: u64) {
        self.shown.bytes(done, Some(total));
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_raised()
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.format == Format::Json;
    let verified = in_form(json, verify(arguments))?;
    if json {
        let Verified { members, frames, bytes, plain_bytes } = verified;
        println!(
            "{}",
            json!({"members": members, "frames": frames, "bytes": bytes, "plain_bytes": plain_bytes})
        );
    } else {
        let Verified { members, frames, bytes, .. } = verified;
        println!("{} is whole: {members} members in {frames} frames, {}", arguments.place, size(bytes));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(arguments: &Arguments) -> anyhow::Result<Verified> {
    let watched = Watched { shown: Shown::new(arguments.progress), cancel: cancel_on_signals()? };
    watched.shown.phase(Phase::Unpack);
    let archive = Archive::open(&archive_path(&arguments.place)?)?;
    let verified = archive.verify(&watched);
    watched.shown.finish();
    Ok(verified?)
}
