//! Errors as words and exit codes.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use floe_criu_bridge::Error as Bridge;
use serde_json::json;

use crate::args::Globals;
use crate::logging;

/// What an exit code means; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Failed = 1,
    Impossible = 3,
    Damaged = 4,
    SetRunningAgain = 5,
}

/// Wraps an error that is to be told as JSON on stdout, since that is what the caller asked of the verb.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct AsJson(#[from] pub anyhow::Error);

/// `exec` failed before there was a process: runc's status for that, which no process of the container's is mistaken
/// for as easily as for a plain 1.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NoProcess(#[from] pub anyhow::Error);

/// The status of a container's process becomes floe's own.
pub fn of_process(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

/// Prints the error and says how to exit.
pub fn report(error: &anyhow::Error, globals: &Globals) -> ExitCode {
    let (error, as_json) = match error.downcast_ref::<AsJson>() {
        Some(AsJson(inner)) => (inner, true),
        None => (error, false),
    };
    let (error, no_process) = match error.downcast_ref::<NoProcess>() {
        Some(NoProcess(inner)) => (inner, true),
        None => (error, false),
    };
    let told = Told::of(error);
    if as_json {
        let object = json!({"error": {
            "code": told.code as u8,
            "message": told.message,
            "hint": told.hint,
            "process": told.process,
            "path": told.path,
            "log": told.evidence,
            "log_file": told.log,
            "known": told.known,
        }});
        let _ = writeln!(std::io::stdout(), "{object}");
    } else {
        logging::complain(&format!("floe: {}", told.line()));
        for line in &told.evidence {
            logging::complain(&format!("  {line}"));
        }
        if let Some(log) = &told.log {
            logging::complain(&format!("  criu's whole log: {}", log.display()));
        }
    }
    logging::to_file(globals, "error", &told.line());
    ExitCode::from(if no_process { 255 } else { told.code as u8 })
}

struct Told {
    code: Code,
    message: String,
    hint: String,
    process: Option<i32>,
    path: Option<String>,
    evidence: Vec<String>,
    log: Option<PathBuf>,
    /// CRIU's message, by its name in docs/failures.md.
    known: Option<&'static str>,
}

impl Told {
    fn of(error: &anyhow::Error) -> Self {
        let mut told = Self {
            code: code(error),
            message: chain(error),
            hint: String::new(),
            process: None,
            path: None,
            evidence: Vec::new(),
            log: None,
            known: None,
        };
        let bridge = error.downcast_ref::<Bridge>();
        if let Some(bridge) = bridge {
            told.details(bridge);
        }
        let runtime = error.downcast_ref::<floe_runtime::Error>().or(match bridge.map(Bridge::innermost) {
            Some(Bridge::Runtime(runtime)) => Some(runtime),
            _ => None,
        });
        if let Some(hint) = runtime.and_then(floe_runtime::Error::hint) {
            told.hint = hint.to_owned();
        }
        if told.code == Code::SetRunningAgain {
            told.message.push_str(" (the container is as it was before)");
        }
        told
    }

    fn details(&mut self, error: &Bridge) {
        match error.innermost() {
            Bridge::Criu(failure) => {
                self.process = failure.pid;
                self.evidence.clone_from(&failure.lines);
                self.log.clone_from(&failure.log);
                self.known = failure.known;
            }
            Bridge::Blocked(blockers) => {
                self.process = blockers.first().and_then(|first| first.pid);
                self.path = blockers.first().map(|first| first.on.clone());
                self.evidence = blockers.iter().skip(1).map(ToString::to_string).collect();
            }
            _ => {}
        }
    }

    fn line(&self) -> String {
        if self.hint.is_empty() { self.message.clone() } else { format!("{}; {}", self.message, self.hint) }
    }
}

/// The error with its causes, none of which repeats the one before it.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if text.contains(&words) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&words);
    }
    text
}

fn code(error: &anyhow::Error) -> Code {
    if let Some(error) = error.downcast_ref::<floe_snapshot_format::Error>() {
        return if error.is_damage() { Code::Damaged } else { Code::Failed };
    }
    match error.downcast_ref::<Bridge>() {
        Some(Bridge::SetRunningAgain(_)) => Code::SetRunningAgain,
        Some(Bridge::Snapshot(inner)) if inner.is_damage() => Code::Damaged,
        Some(Bridge::Untrusted { .. }) => Code::Damaged,
        Some(
            Bridge::Blocked(_)
            | Bridge::WrongState { .. }
            | Bridge::Unfit { .. }
            | Bridge::Option { .. }
            | Bridge::Hook { .. }
            | Bridge::NotReady(_)
            | Bridge::NoCriu { .. }
            | Bridge::CriuTooOld { .. }
            | Bridge::NotCriu { .. }
            | Bridge::KernelTooOld { .. }
            | Bridge::NotRoot { .. },
        ) => Code::Impossible,
        _ => Code::Failed,
    }
}
