//! What stands in the way of a checkpoint or a restore, found before anything is touched.
//!
//! Nothing is stopped for it: the processes are looked at through `/proc` and the kernel's socket tables while they run.
//! Each kind of obstacle is a small function of its own; [`of_processes`] asks all of them about what would be dumped,
//! [`arrival::look`] about what would be restored on this host. `checkpoint` and `restore` ask the same before they begin,
//! and refuse what CRIU would refuse; warnings are told and do not stop them.

mod anonymous;
pub mod arrival;
mod asked;
mod devices;
mod diag;
pub(crate) mod files;
mod locks;
mod mappings;
mod mounts;
mod namespaces;
mod pipes;
mod processes;
mod scene;
mod seccomp;
mod sessions;
mod sockets;
mod tools;
mod watches;

use std::fmt;
use std::time::Duration;

use floe_runtime::Container;

use crate::checkpoint::{self, Options};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::tasks;

pub use asked::Asked;
pub use scene::{Mapping, Process, Scene};

/// One thing that CRIU could not take, with whose it is and what helps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Blocker {
    /// The process, by its pid on this host; `None` where it is not one process's matter.
    pub pid: Option<i32>,
    /// Its name (`/proc/PID/comm`); may be empty.
    pub process: String,
    /// What is in the way, in words.
    pub what: String,
    /// The descriptor, path or address that it is about; may be empty.
    pub on: String,
    /// The flag or the change that helps.
    pub hint: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pid) = self.pid {
            write!(f, "process {pid}")?;
            if !self.process.is_empty() {
                write!(f, " ({})", self.process)?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.what)?;
        if !self.on.is_empty() {
            write!(f, " {}", self.on)?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It cannot be done as asked.
    Blocker,
    /// It can be done, and something of it may be lost or go wrong later.
    Warning,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What kind of thing it is: a short name that scripts may rely on, and that `docs/failures.md` uses.
    pub kind: &'static str,
    /// How much it weighs.
    pub weight: Weight,
    /// The rest.
    #[serde(flatten)]
    pub blocker: Blocker,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            Weight::Blocker => write!(f, "{}", self.blocker),
            Weight::Warning => write!(f, "warning: {}", self.blocker),
        }
    }
}

impl Finding {
    /// A blocker that is a process's.
    fn of(process: &Process, kind: &'static str, what: &str, on: impl ToString, hint: &str) -> Self {
        let blocker = Blocker {
            pid: Some(process.pid),
            process: process.name.clone(),
            what: what.to_owned(),
            on: on.to_string(),
            hint: hint.to_owned(),
        };
        Self { kind, weight: Weight::Blocker, blocker }
    }

    /// A blocker that is nobody's in particular.
    fn general(kind: &'static str, what: impl ToString, on: impl ToString, hint: impl ToString) -> Self {
        let blocker = Blocker {
            pid: None,
            process: String::new(),
            what: what.to_string(),
            on: on.to_string(),
            hint: hint.to_string(),
        };
        Self { kind, weight: Weight::Blocker, blocker }
    }

    /// The same as a warning.
    fn warning(mut self) -> Self {
        self.weight = Weight::Warning;
        self
    }
}

/// A look at what is to be dumped.
type Check = fn(&Scene<'_>) -> Vec<Finding>;

/// Every look, in the order in which its findings are told: first what cannot be helped, last what a flag allows.
const CHECKS: &[Check] = &[
    processes::traced,
    processes::stuck,
    processes::ended,
    processes::of_other_users,
    anonymous::unsupported,
    anonymous::pidfds,
    seccomp::listeners,
    mappings::devices,
    mappings::secret,
    mappings::sysv,
    devices::unsupported,
    files::outside,
    files::covered,
    files::deleted,
    watches::lost,
    namespaces::nested,
    mounts::unsupported,
    mounts::not_configured,
    sockets::unsupported,
    sockets::not_told,
    sockets::unix_outside,
    pipes::outside,
    sockets::netlink,
    sockets::connected,
    sockets::not_accepted,
    locks::held,
    sessions::outside,
    tools::missing,
];

/// How often a container is looked at until something counts as found, and how long it may go on in between.
const LOOKS: usize = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(3);

/// Everything that was found about `scene`.
pub fn of_processes(scene: &Scene<'_>) -> Vec<Finding> {
    CHECKS.iter().flat_map(|check| check(scene)).collect()
}

/// Everything that was found about a container.
///
/// # Errors
/// [`Error::WrongState`] if it has no processes; [`Error::Call`] if they cannot be looked at.
pub fn of_container(container: &Container, asked: &Asked) -> Result<Vec<Finding>> {
    lasting(|| {
        let init = container.init_pid().ok_or_else(|| Error::WrongState {
            id: container.id().to_string(),
            status: container.status().to_string(),
            hint: "only a running or paused container can be checkpointed",
        })?;
        let pids = checkpoint::processes(container, init.as_raw())?;
        Ok(of_processes(&Scene::look(&pids, Some(container.config()), asked.clone())?))
    })
}

/// Everything that was found about a process and its descendants.
///
/// # Errors
/// [`Error::Call`] if it cannot be looked at.
pub fn of_tree(pid: i32, asked: &Asked) -> Result<Vec<Finding>> {
    lasting(|| Ok(of_processes(&Scene::look(&tasks::tree(pid), None, asked.clone())?)))
}

/// What is found by each of several looks. The processes run while they are looked at: one that ends between two lists, or a
/// socket made after the list of sockets was read, looks like what it is not, and not twice.
fn lasting(mut look: impl FnMut() -> Result<Vec<Finding>>) -> Result<Vec<Finding>> {
    let mut found = look()?;
    for _ in 1..LOOKS {
        if found.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN_LOOKS);
        let before = std::mem::take(&mut found);
        let same = |one: &Finding, other: &Finding| {
            one.kind == other.kind && one.weight == other.weight && one.blocker.pid == other.blocker.pid
        };
        found = look()?;
        found.retain(|finding| before.iter().any(|earlier| same(earlier, finding)));
    }
    Ok(found)
}

/// The look before a checkpoint: warnings are told, blockers end it.
pub(crate) fn before(container: &Container, options: &Options, tools: checkpoint::Tools<'_>) -> Result<()> {
    heed(of_container(container, &Asked::from(options).of(tools.criu.version()))?, tools.progress)
}

/// Tells the warnings among `findings`.
///
/// # Errors
/// [`Error::Blocked`] with the blockers among them.
pub(crate) fn heed(findings: Vec<Finding>, progress: &dyn Progress) -> Result<()> {
    for finding in findings.iter().filter(|finding| finding.weight == Weight::Warning) {
        progress.warn(&finding.blocker.to_string());
    }
    let blockers = blockers(findings);
    if blockers.is_empty() { Ok(()) } else { Err(Error::Blocked(blockers)) }
}

/// The blockers among `findings`.
pub fn blockers(findings: Vec<Finding>) -> Vec<Blocker> {
    let blocks = findings.into_iter().filter(|finding| finding.weight == Weight::Blocker);
    blocks.map(|finding| finding.blocker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_names_the_process_the_thing_and_the_remedy() {
        let blocker = Blocker {
            pid: Some(42),
            process: "redis-server".into(),
            what: "has an established TCP connection".into(),
            on: "127.0.0.1:6379 -> 127.0.0.1:40000".into(),
            hint: "pass --tcp established".into(),
        };
        assert_eq!(
            blocker.to_string(),
            "process 42 (redis-server): has an established TCP connection 127.0.0.1:6379 -> 127.0.0.1:40000; \
             pass --tcp established"
        );
    }

    #[test]
    fn what_passes_is_not_found() {
        let finding = |kind| Finding::general(kind, "is odd", "here", "look");
        let mut looks = 0;
        let found = lasting(|| {
            looks += 1;
            Ok(if looks == 2 {
                vec![finding("stays"), finding("new")]
            } else {
                vec![finding("stays"), finding("passes")]
            })
        });
        assert_eq!((found.unwrap(), looks), (vec![finding("stays")], LOOKS));
        let none = lasting(|| {
            looks += 1;
            Ok(Vec::new())
        });
        assert_eq!((none.unwrap().len(), looks), (0, LOOKS + 1));
    }

    #[test]
    fn warnings_do_not_block() {
        let one = Finding::general("x", "is odd", "here", "look");
        let two = one.clone().warning();
        assert_eq!(blockers(vec![one.clone(), two.clone()]), [one.blocker]);
        assert!(two.to_string().starts_with("warning: is odd here"));
        let value = serde_json::to_value(&two).unwrap();
        assert_eq!(
            (&value["kind"], &value["weight"], &value["on"]),
            (&"x".into(), &"warning".into(), &"here".into())
        );
    }
}
