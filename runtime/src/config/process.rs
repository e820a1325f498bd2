//! A process of the container: the first one or one that `exec` adds.

use std::path::PathBuf;

use nix::sys::resource::Resource;
use serde::{Deserialize, Serialize};

use super::{Capabilities, CpuAffinity, IoPriority, Scheduler};

/// What is executed, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program (looked up in the container's `PATH` unless it has a slash) and its arguments. Never empty.
    pub args: Vec<String>,
    /// The whole environment, `NAME=VALUE` each.
    pub env: Vec<String>,
    /// Working directory inside the container, absolute.
    pub cwd: PathBuf,
    /// User and groups, as ids inside the container.
    pub user: User,
    /// The five capability sets; `None` keeps nothing.
    pub capabilities: Option<Capabilities>,
    /// Limits of `setrlimit(2)`, at most one of a kind. What isn't named is inherited.
    pub rlimits: Vec<Rlimit>,
    /// Set `PR_SET_NO_NEW_PRIVS`: nothing executed later can gain privileges.
    pub no_new_privileges: bool,
    /// Give it a pseudo-terminal as its controlling one.
    pub terminal: bool,
    /// The terminal's size at the start; `None` leaves the kernel's 0×0.
    pub console_size: Option<ConsoleSize>,
    /// `/proc/PID/oom_score_adj`, −1000 to 1000; `None` leaves it as inherited.
    pub oom_score_adj: Option<i32>,
    /// The AppArmor profile that it gets when its program is executed; `unconfined` is none.
    #[serde(default)]
    pub apparmor_profile: Option<String>,
    /// The SELinux label that it gets when its program is executed.
    #[serde(default)]
    pub selinux_label: Option<String>,
    /// How it is scheduled; `None` as whoever calls floe.
    #[serde(default)]
    pub scheduler: Option<Scheduler>,
    /// How early its input and output come; `None` as those of whoever calls floe.
    #[serde(default)]
    pub io_priority: Option<IoPriority>,
    /// The processors that it runs on, if it joins a container.
    #[serde(default)]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

impl Process {
    /// Takes from `first`, the container's first process, what this one says nothing of. A process that joins a container
    /// is no less confined than the container.
    pub(crate) fn inherit(&mut self, first: &Self) {
        fn or<T: Clone>(own: &mut Option<T>, theirs: &Option<T>) {
            if own.is_none() {
                own.clone_from(theirs);
            }
        }
        or(&mut self.apparmor_profile, &first.apparmor_profile);
        or(&mut self.selinux_label, &first.selinux_label);
        or(&mut self.scheduler, &first.scheduler);
        or(&mut self.io_priority, &first.io_priority);
        or(&mut self.exec_cpu_affinity, &first.exec_cpu_affinity);
    }
}

#[cfg(test)]
impl Process {
    /// One to start from.
    pub(crate) fn sample() -> Self {
        Self {
            args: vec!["sh".to_owned()],
            env: Vec::new(),
            cwd: "/".into(),
            user: User::default(),
            capabilities: None,
            rlimits: Vec::new(),
            no_new_privileges: false,
            terminal: false,
            console_size: None,
            oom_score_adj: None,
            apparmor_profile: None,
            selinux_label: None,
            scheduler: None,
            io_priority: None,
            exec_cpu_affinity: None,
        }
    }
}

/// Whose rights a process has; all ids are inside the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask; `None` means 0022.
    pub umask: Option<u32>,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// One limit of `setrlimit(2)`; `u64::MAX` is `RLIM_INFINITY`. Units are those of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited.
    pub kind: RlimitKind,
    /// What the kernel enforces.
    pub soft: u64,
    /// How far an unprivileged process may raise it.
    pub hard: u64,
}

/// The resources of `setrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is named as in setrlimit(2), which documents it")]
pub enum RlimitKind {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl RlimitKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Locks,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    /// The resource with this number of the kernel's.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource() as u32 == number)
    }

    /// Its name in `getrlimit(2)` and in OCI configurations.
    #[must_use]
    pub fn name(self) -> String {
        format!("RLIMIT_{self:?}").to_uppercase()
    }

    /// The resource as `nix` names it.
    #[must_use]
    pub fn resource(self) -> Resource {
        match self {
            Self::As => Resource::RLIMIT_AS,
            Self::Core => Resource::RLIMIT_CORE,
            Self::Cpu => Resource::RLIMIT_CPU,
            Self::Data => Resource::RLIMIT_DATA,
            Self::Fsize => Resource::RLIMIT_FSIZE,
            Self::Locks => Resource::RLIMIT_LOCKS,
            Self::Memlock => Resource::RLIMIT_MEMLOCK,
            Self::Msgqueue => Resource::RLIMIT_MSGQUEUE,
            Self::Nice => Resource::RLIMIT_NICE,
            Self::Nofile => Resource::RLIMIT_NOFILE,
            Self::Nproc => Resource::RLIMIT_NPROC,
            Self::Rss => Resource::RLIMIT_RSS,
            Self::Rtprio => Resource::RLIMIT_RTPRIO,
            Self::Rttime => Resource::RLIMIT_RTTIME,
            Self::Sigpending => Resource::RLIMIT_SIGPENDING,
            Self::Stack => Resource::RLIMIT_STACK,
        }
    }
}
