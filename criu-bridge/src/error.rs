//! What can go wrong between floe and CRIU.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::preflight::Blocker;
use crate::progress::Phase;
use crate::version::Version;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each choice that a caller has.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No CRIU was found.
    #[error("no criu found (looked at {}); run scripts/setup, or name one with --criu", list(tried))]
    NoCriu {
        /// Every place that was looked at, in order.
        tried: Vec<PathBuf>,
    },
    /// The CRIU that was found cannot do what floe needs.
    #[error("criu {found} at {path} is too old: {why} needs {need} or newer; run scripts/setup, or name another with --criu", path = path.display())]
    CriuTooOld {
        /// Where it is.
        path: PathBuf,
        /// Its version.
        found: Version,
        /// The oldest that would do.
        need: Version,
        /// What needs it.
        why: &'static str,
    },
    /// The program does not answer as CRIU does.
    #[error("{path} does not answer as criu does: {detail}", path = path.display())]
    NotCriu {
        /// Where it is.
        path: PathBuf,
        /// What it said or did.
        detail: String,
    },
    /// The caller is not root.
    #[error(
        "{verb} needs root: criu reads and writes other processes' memory, namespaces and credentials; run it as root"
    )]
    NotRoot {
        /// What was asked for.
        verb: &'static str,
    },
    /// The container, as it is now, cannot be dumped or restored as asked. Nothing was changed.
    #[error("{}", blockers(.0))]
    Blocked(Vec<Blocker>),
    /// What was asked cannot be had in the container's present state.
    #[error("container {id} is {status}; {hint}")]
    WrongState {
        /// The container.
        id: String,
        /// What it is.
        status: String,
        /// What to do.
        hint: &'static str,
    },
    /// CRIU gave up. The evidence is in the value.
    #[error("{0}")]
    Criu(Box<Failure>),
    /// CRIU did not come back within the time limit.
    #[error("criu gave no sign for {} s while floe waited for: {phase}; give it longer with --timeout", limit.as_secs())]
    TimedOut {
        /// The phase it was in.
        phase: Phase,
        /// The limit that passed.
        limit: Duration,
    },
    /// Somebody asked to stop, and the work stopped.
    #[error("interrupted during: {phase}")]
    Interrupted {
        /// The phase it was in.
        phase: Phase,
    },
    /// CRIU sent what no page server client sends.
    #[error("criu's page stream is not understood at byte {at}: {detail}")]
    PageStream {
        /// Bytes read before.
        at: u64,
        /// What was wrong.
        detail: String,
    },
    /// Something that was asked for, such as an option of CRIU's, cannot be had.
    #[error("{what}; {hint}")]
    Option {
        /// Which, and what is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A command around a freeze cannot be run as it was given.
    #[error(
        "the {name} command {line} cannot be run: {problem}; give a line for a shell, or a JSON array of words"
    )]
    Hook {
        /// When it was to run.
        name: &'static str,
        /// As it was given.
        line: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The command that makes an application ready to be frozen failed. Nothing was frozen.
    #[error("the container is not ready to be frozen: {0}")]
    NotReady(floe_runtime::Error),
    /// The snapshot asks for something that this host or the accepted configuration does not offer.
    #[error("the snapshot cannot be restored here: {what}; {hint}")]
    Unfit {
        /// What does not fit.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The snapshot asks for more than the accepted configuration gives. Nothing of it was started, or what was is gone.
    #[error("the snapshot is not trusted: {what}; {hint}")]
    Untrusted {
        /// What it asks for.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A process came back in another place than the container's cgroup. Everything of the restore was ended.
    #[error(
        "{process} came back {place}; see whether the snapshot's cgroups fit this host, or report it as a fault of floe"
    )]
    Misplaced {
        /// Which.
        process: String,
        /// Where it is.
        place: String,
    },
    /// The kernel has no such system call.
    #[error(
        "this kernel has no {call}{}; floe needs Linux {} or newer, with nothing that filters the call",
        of(on),
        since(call)
    )]
    KernelTooOld {
        /// The call.
        call: &'static str,
        /// What it was made on; may be empty.
        on: String,
    },
    /// A system call failed.
    #[error("{call}{}: {source}", of(on))]
    Call {
        /// The call.
        call: &'static str,
        /// What it was made on; may be empty.
        on: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The container runtime failed.
    #[error(transparent)]
    Runtime(#[from] floe_runtime::Error),
    /// The snapshot could not be written or read.
    #[error(transparent)]
    Snapshot(#[from] floe_snapshot_format::Error),
    /// A failure after the container had been frozen; it has been set running again (or is paused, if it was).
    #[error("{0}")]
    SetRunningAgain(Box<Error>),
}

impl Error {
    /// A failed call, with what it was made on.
    pub(crate) fn call(call: &'static str, on: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        let (on, source) = (on.as_ref().display().to_string(), source.into());
        if source.raw_os_error() == Some(nix::libc::ENOSYS) {
            return Error::KernelTooOld { call, on };
        }
        Error::Call { call, on, source }
    }

    /// The failure beneath, without the word about the container's state.
    pub fn innermost(&self) -> &Error {
        match self {
            Error::SetRunningAgain(inner) => inner.innermost(),
            other => other,
        }
    }

    /// Marks that the container had been frozen, and runs again.
    pub(crate) fn set_running_again(self) -> Self {
        match self {
            Error::SetRunningAgain(_) => self,
            other => Error::SetRunningAgain(Box::new(other)),
        }
    }
}

/// The first Linux that has a call (the man pages' HISTORY), or for others the youngest of those that floe uses.
fn since(call: &str) -> &'static str {
    match call {
        "fsopen" | "fsconfig" | "fsmount" | "open_tree" | "move_mount" => "5.2",
        "pidfd_open" | "clone3" => "5.3",
        "openat2" => "5.6",
        _ => "5.12",
    }
}

fn of(on: &str) -> String {
    if on.is_empty() { String::new() } else { format!(" {on}") }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn blockers(blockers: &[Blocker]) -> String {
    match blockers {
        [] => "nothing is in the way".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more; floe check lists them)", rest.len()),
    }
}
