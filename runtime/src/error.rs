//! What can go wrong, by the choices that a caller has.

use std::io;
use std::path::{Path, PathBuf};

use crate::container::Status;
use crate::id::ContainerId;
use crate::network::NetlinkError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that this crate fails with.
///
/// The text of an error says what was tried and on what; the cause is its [`source`](std::error::Error::source) and
/// isn't repeated. [`Error::hint`] says what can be done, where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    #[error("{call} {on}")]
    Call {
        /// The system call or kernel file operation: `mkdir`, `write`, `pivot_root`…
        call: &'static str,
        /// What it was applied to: a path, a process, a value.
        on: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A container's name that can't be used.
    #[error("container name {id:?} is not allowed: {problem}")]
    InvalidId {
        /// The name as given.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// No such container. Callers tell it from others by its words, which are those of runc.
    #[error("container {id} does not exist (looked in {root})")]
    NotFound {
        /// The name.
        id: ContainerId,
        /// The state directory.
        root: PathBuf,
    },

    /// The name is taken.
    #[error("container with id {id} exists already")]
    Exists {
        /// The name.
        id: ContainerId,
    },

    /// The container isn't in a state in which this can be done.
    #[error("cannot {verb} container {id}: it is {status}")]
    WrongStatus {
        /// The name.
        id: ContainerId,
        /// What was to be done.
        verb: &'static str,
        /// What it is.
        status: Status,
    },

    /// Another live process works on the container.
    #[error("cannot {verb} container {id}: process {owner} is in the middle of a {busy_with} of it")]
    Busy {
        /// The name.
        id: ContainerId,
        /// What was to be done.
        verb: &'static str,
        /// Who works on it.
        owner: i32,
        /// What that one does.
        busy_with: &'static str,
    },

    /// A key of a configuration has a value that can't be right.
    #[error("{key} in {path}: {problem}")]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// The JSON key, dotted, with indices: `linux.namespaces[2].path`.
        key: String,
        /// What is wrong.
        problem: String,
    },

    /// A key of a configuration asks for something that this runtime doesn't do.
    #[error("{key} in {path} is not supported: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The JSON key, dotted, with indices.
        key: String,
        /// Why, and what to do instead.
        reason: String,
    },

    /// A file isn't the JSON that it should be.
    #[error("{path} is not a valid {what}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Where it stops making sense.
        source: serde_json::Error,
    },

    /// The bundle has no `config.json`, or something else that has to exist doesn't.
    #[error("{what} {path} does not exist")]
    Missing {
        /// What it would be.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },

    /// A cgroup controller isn't there for something that needs it.
    #[error("the cgroup controller `{controller}` is not available, needed for {needed_for}{}", after_colon(.why))]
    NoController {
        /// The controller.
        controller: String,
        /// The key or verb that needs it.
        needed_for: String,
        /// Why it isn't, as far as that can be told; else empty.
        why: String,
    },

    /// A cgroup controller is there, and the running kernel's has no such limit.
    #[error("this kernel has no {path}, needed for {needed_for}")]
    NoLimitFile {
        /// The file.
        path: PathBuf,
        /// The key that needs it.
        needed_for: String,
    },

    /// The kernel refused a limit.
    #[error("cannot set {key}: write `{value}` to {path}")]
    Limit {
        /// The key of `config.json`.
        key: String,
        /// What was written.
        value: String,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A file of the kernel doesn't hold what the kernel documents.
    #[error("{path} holds `{found}`, which is not understood")]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },

    /// Systemd refused a call about a unit.
    #[error("systemd: {call} {on}: {answer}")]
    Systemd {
        /// The method.
        call: &'static str,
        /// The unit.
        on: String,
        /// Systemd's answer.
        answer: String,
    },

    /// The cgroup that the container would get is in use by others.
    #[error("cgroup {path} has processes in it that are not this container's: {pids:?}")]
    CgroupInUse {
        /// Its directory.
        path: PathBuf,
        /// Who is in it.
        pids: Vec<i32>,
    },

    /// The kernel did not stop every process in time.
    #[error("cgroup {path} could not be frozen within {seconds} s; its state is still {state}")]
    FreezeTimeout {
        /// The freezer's directory.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// What the freezer says.
        state: String,
    },

    /// Processes are still there although they were killed.
    #[error("processes of cgroup {path} are still there {seconds} s after SIGKILL: {pids:?}")]
    KillTimeout {
        /// The cgroup's directory.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// Who is left.
        pids: Vec<i32>,
    },

    /// The child that was to become the container's process failed on its way.
    #[error("{step}: {message}")]
    Child {
        /// What it was doing, in words.
        step: String,
        /// Its error with all causes, as text, since it comes over a socket.
        message: String,
    },

    /// The kernel refused something about the container's network.
    #[error("{on}: cannot {doing}")]
    Network {
        /// The interface or route: `interface eth0 in the container`, `route to 10.1.0.0/16`.
        on: String,
        /// What was to be done with it.
        doing: String,
        /// The kernel's answer.
        source: NetlinkError,
    },

    /// A name that an interface of the container is to have is another's.
    #[error("interface {name} exists already {place}")]
    InterfaceExists {
        /// The name.
        name: String,
        /// Where: on the host, or in the container's network namespace.
        place: &'static str,
    },

    /// An interface that the configuration names is not there.
    #[error("{what} {name} does not exist")]
    NoInterface {
        /// What it is to be: `bridge`, `network device`…
        what: &'static str,
        /// The name.
        name: String,
    },

    /// A hook failed.
    #[error("{point} hook {path}: {problem}")]
    Hook {
        /// At which point: `prestart`, `createRuntime`…
        point: &'static str,
        /// The program.
        path: PathBuf,
        /// How: exit status, signal, time limit, with what it printed.
        problem: String,
    },

    /// Something else that is wrong with what was asked for, with what to do.
    #[error("{problem}")]
    Refused {
        /// What and why.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
}

impl Error {
    /// An error of a call. Use it as `.map_err(|source| Error::call("mkdir", path.display(), source))`.
    pub fn call(call: &'static str, on: impl ToString, source: impl Into<io::Error>) -> Self {
        Self::Call { call, on: on.to_string(), source: source.into() }
    }

    /// As [`Error::call`] on a path, for `map_err`.
    pub(crate) fn at<S: Into<io::Error>>(call: &'static str, on: impl AsRef<Path>) -> impl FnOnce(S) -> Self {
        move |source| Self::call(call, on.as_ref().display(), source)
    }

    /// The new process could not be set up, in words.
    pub(crate) fn start(message: impl Into<String>) -> Self {
        Self::Child { step: "cannot start the container's process".to_owned(), message: message.into() }
    }

    /// The text with all causes, for where an error leaves the process as text.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }

    /// What the one who asked can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Call { source, .. } => hint_for_errno(source),
            Self::NotFound { .. } => Some("`floe list` shows the containers; another --root has others"),
            Self::Exists { .. } => Some(
                "choose another name, or remove it with `floe delete` (with --force, if it was left half made)",
            ),
            Self::WrongStatus { status, .. } => Some(match status {
                Status::Creating => "wait until it is created, or remove it with `floe delete --force`",
                Status::Created => "start it with `floe start`",
                Status::Running => "stop it with `floe kill`, or use `floe delete --force`",
                Status::Paused => "let it go on with `floe resume`",
                Status::Stopped => "remove it with `floe delete`",
            }),
            Self::Busy { .. } => Some("wait until that is over, or end that process"),
            Self::Missing { .. } => {
                Some("--bundle names a directory with a config.json; `floe spec` makes one")
            }
            Self::NoController { .. } => Some("make it available there, or leave the limit out"),
            Self::NoLimitFile { .. } => Some("leave the limit out, or use a newer kernel"),
            Self::Limit { source, path, .. } => hint_for_limit(source, path),
            Self::Systemd { .. } => Some("`systemctl status` on the unit, and the journal, say more"),
            Self::CgroupInUse { .. } => {
                Some("end these processes, or choose another linux.cgroupsPath or container name")
            }
            Self::FreezeTimeout { .. } => {
                Some("a process in uninterruptible sleep holds it up; see `ps -o pid,stat,wchan`")
            }
            Self::KillTimeout { .. } => {
                Some("a process in uninterruptible sleep holds it up; try again later")
            }
            Self::Network { source, .. } => source.hint(),
            Self::InterfaceExists { .. } => {
                Some("rename or remove that one, or choose another name in the configuration")
            }
            Self::NoInterface { what: "bridge", .. } => Some("make it (`ip link add NAME type bridge`)"),
            Self::NoInterface { .. } => {
                Some("see `ip link` for what there is, and the names in the configuration")
            }
            Self::Refused { hint, .. } => Some(hint),
            _ => None,
        }
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

fn hint_for_limit(source: &io::Error, path: &Path) -> Option<&'static str> {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match source.raw_os_error()? {
        nix::libc::EBUSY if file.starts_with("memory.") => {
            Some("more than that is in use and cannot be reclaimed; choose a higher limit")
        }
        nix::libc::EINVAL if file.starts_with("cpuset.") => {
            Some("name processors or nodes that the host, and the cgroup above, has")
        }
        nix::libc::EINVAL if file.starts_with("cpu.") => Some(
            "it has to be within the kernel's bounds, fit to the other values of cpu, and to the cgroup above",
        ),
        nix::libc::EINVAL if file.starts_with("memory.") => {
            Some("the limit of memory has to be at most as high as that of memory and swap together")
        }
        nix::libc::ENODEV => Some("name a device that the host has"),
        nix::libc::EACCES | nix::libc::EPERM | nix::libc::EROFS => {
            Some("run floe as root, or below a cgroup that is delegated to its user")
        }
        _ => None,
    }
}

fn hint_for_errno(source: &io::Error) -> Option<&'static str> {
    match source.kind() {
        io::ErrorKind::PermissionDenied if !nix::unistd::geteuid().is_root() => {
            Some("an ordinary user runs floe here: name something of that user's, or run it as root")
        }
        io::ErrorKind::StorageFull => Some("free some space on that file system"),
        _ => None,
    }
}
