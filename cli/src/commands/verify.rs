//! `floe verify`

use std::process::ExitCode;

use clap::Args;
use floe_criu_bridge::{Cancel, Phase, Progress as _};
use floe_snapshot_format::{Progress, Verified};
use serde_json::json;

use super::{in_form, say, size};
use crate::args::{Format, Globals, ProgressForm};
use crate::places;
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

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.format == Format::Json;
    let (verified, digests) = in_form(json, verify(globals, arguments))?;
    if json {
        let Verified { members, frames, bytes, plain_bytes } = verified;
        let value = json!({"members": members, "frames": frames, "bytes": bytes, "plain_bytes": plain_bytes, "digests": digests});
        say(&format!("{value}\n"))?;
    } else {
        let Verified { members, frames, bytes, .. } = verified;
        let size = size(bytes);
        let place = &arguments.place;
        say(&match (digests, frames) {
            (false, _) => format!(
                "{place} fits together ({members} images, {size}); no digest tells whether it was changed\n"
            ),
            (true, 0) => format!("{place} is whole: {members} files, {size}\n"),
            (true, _) => format!("{place} is whole: {members} members in {frames} frames, {size}\n"),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(globals: &Globals, arguments: &Arguments) -> anyhow::Result<(Verified, bool)> {
    let watched = Watched { shown: Shown::new(arguments.progress, globals), cancel: cancel_on_signals()? };
    watched.shown.phase(Phase::Unpack);
    let archive = places::source(&arguments.place)?;
    let verified = archive.verify(&watched);
    watched.shown.finish();
    // Images that floe did not write have none.
    let digests = archive.members().iter().any(|member| !member.digest.is_empty());
    Ok((verified?, digests))
}
