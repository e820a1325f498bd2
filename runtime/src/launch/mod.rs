//! How a process of a container comes to life.
//!
//! Two programs talk over one socket: floe ([`launch`]) and itself once more ([`crate::init_main`]), which becomes the
//! container's process. It does so in two stages, because a process can't enter a new pid namespace itself, only its
//! children can; and because a user namespace must have its ids before anything is done in it.
//!
//! ```text
//!   floe                         stage 1 (floe init)          stage 2: the container's process
//!    │ spawn ([`Waiting`])        │ starts, waits
//!    │ its OOM score              │
//!    │ ── Bootstrap ───────────►  │
//!    │ (the name, the cgroup)     │ joins namespaces
//!    │ ◄── MapIds ────────────    │ unshared its user namespace
//!    │ writes uid_map, gid_map    │
//!    │ ── Mapped ──────────────►  │
//!    │ ◄── SetClocks ─────────    │ unshared its time namespace
//!    │ writes timens_offsets      │
//!    │ ── ClocksSet ───────────►  │
//!    │ ◄── Unshared ──────────    │ unshared the others
//!    │ ── Passed, descriptors ─►  │
//!    │                            │ clone3(CLONE_PARENT, CLONE_NEWPID, cgroup) ───► │ goes into its cgroup, waits
//!    │ ◄── Forked(pid) ───────    │ exits
//!    │ ParentSide::place: its cgroup, where it could not go itself; ParentSide::placed: limits
//!    │ ParentSide::network
//!    │ ── Config ────────────────────────────────────────────────────────► │ cgroup namespace, loopback, mounts
//!    │ ◄── WantTree(number) ─────────────────────────────────────────────  │ (for each mount that needs it)
//!    │ makes its source in the mount namespace
//!    │ ── Tree, a descriptor ────────────────────────────────────────────► │
//!    │ ◄── Mounted ──────────────────────────────────────────────────────  │ (not when joining)
//!    │ ParentSide::mounted: hooks
//!    │ ── ChangeRoot(state) ─────────────────────────────────────────────► │ hooks, root, names, protected paths
//!    │ ◄── WantLimits ───────────────────────────────────────────────────  │
//!    │ resource limits, scheduling
//!    │ ── LimitsSet ─────────────────────────────────────────────────────► │ user, capabilities; finds its program
//!    │ ◄── Listener(descriptor) ─────────────────────────────────────────  │ (if an agent decides about system calls)
//!    │ ParentSide::listener: the agent gets it
//!    │ ◄── Ready ────────────────────────────────────────────────────────  │
//!    │ ParentSide::created: the record
//!    │ ── Execute ───────────────────────────────────────────────────────► │ opens the exec fifo: waits for `start`
//!    │                                                                     │ hooks, execve
//! ```
//!
//! At every step the child may say `Failed` instead, and either side may be gone, which the other sees as the end of
//! the socket: a floe that dies leaves no half-made process behind, for the child goes on alone only after `Execute`,
//! when the container is on record. The process is a child of the calling floe (`CLONE_PARENT`), which may wait for it.
//!
//! A process that joins a container has no fifo, and the socket stays open until `execve(2)` closes it, so that its
//! failure is still told.

mod exe;
mod fifo;
mod id_maps;
pub(crate) mod message;
mod outside;
mod spawn;
mod user_namespace;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::unistd::Pid;

use crate::cgroup::Entrance;
use crate::config::{Config, MountIds, NamespaceKind, Seccomp};
use crate::error::{Error, Result};
use crate::seccomp::Filter;
use crate::{labels, pidfd, rootfs, scheduling, seccomp};
use message::{Bootstrap, FromChild, Join, Passed, Peer, ToChild};
use spawn::Guard;
use user_namespace::UserNamespaces;

pub use fifo::{EXEC_FIFO, make_exec_fifo, open_exec_fifo};
pub(crate) use fifo::{fail_at, waits_for_start};
pub use spawn::Waiting;

/// Tells the child under which number it finds the socket.
pub(crate) const SOCKET_VARIABLE: &str = "_FLOE_INIT_SOCKET";

/// What kind of process is made.
#[derive(Debug, Clone)]
pub enum LaunchKind {
    /// The container's first. It waits at the fifo in `state_dir`.
    Init {
        /// The container's folder.
        state_dir: PathBuf,
    },
    /// One more. It joins the namespaces of the container's first process.
    Exec {
        /// The first process.
        init: Pid,
    },
}

/// The standard streams of a process; what is `None` is the caller's.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard input.
    pub input: Option<OwnedFd>,
    /// Standard output.
    pub output: Option<OwnedFd>,
    /// Standard error.
    pub error: Option<OwnedFd>,
}

/// What is launched.
#[derive(Debug)]
pub struct LaunchPlan {
    /// The container, with the process in `config.process`.
    pub config: Config,
    /// Which kind of process.
    pub kind: LaunchKind,
    /// Where the master of its terminal is sent, if it has one.
    pub console: Option<OwnedFd>,
    /// The session keyring that it joins; `None` leaves it the caller's.
    pub keyring: Option<String>,
}

/// What the caller does for the new process while it waits.
pub trait ParentSide {
    /// How the process gets itself into its cgroup.
    fn entrance(&self) -> Entrance;

    /// Puts the process into its cgroup from outside, where it could not go by itself.
    ///
    /// # Errors
    /// Ends the launch.
    fn place(&mut self, pid: Pid) -> Result<()>;

    /// The process exists, and is in its cgroup before it does anything: it is time for limits.
    ///
    /// # Errors
    /// Ends the launch.
    fn placed(&mut self, _pid: Pid) -> Result<()> {
        Ok(())
    }

    /// Its share of the network: interfaces, addresses and routes, of which the process makes none itself.
    ///
    /// # Errors
    /// Ends the launch.
    fn network(&mut self, _pid: Pid) -> Result<()> {
        Ok(())
    }

    /// Everything is mounted and the root is still the host's: the point of the `prestart` and `createRuntime` hooks.
    /// Returns the state for those that follow in the container. Not for a process that joins.
    ///
    /// # Errors
    /// Ends the launch.
    fn mounted(&mut self, _pid: Pid) -> Result<serde_json::Value> {
        Ok(serde_json::Value::Null)
    }

    /// The process is under a filter, and an agent hears from `listener` of the system calls about which it is to decide.
    ///
    /// # Errors
    /// Ends the launch.
    fn listener(&mut self, pid: Pid, listener: OwnedFd) -> Result<()>;

    /// The process is ready and waits; it is time to write down that it exists.
    ///
    /// # Errors
    /// Ends the launch.
    fn created(&mut self, _pid: Pid) -> Result<()> {
        Ok(())
    }
}

/// A process that has heard what it is to be, and makes its namespaces. Dropped, it is ended.
#[derive(Debug)]
pub struct Begun {
    plan: LaunchPlan,
    guard: Guard,
    peer: Peer,
    /// The container that is joined.
    joined: Option<OwnedFd>,
}

/// Tells `waiting` what it is to be. It goes on up to the fork, for which it needs its cgroup.
///
/// # Errors
/// [`Error::Refused`] for what cannot be; [`Error::Call`].
pub fn begin(waiting: Waiting, plan: LaunchPlan) -> Result<Begun> {
    outside::check_ids(&plan.config)?;
    labels::check(&plan.config.process)?;
    let joined = match plan.kind {
        LaunchKind::Exec { init } => {
            Some(pidfd::open(init).map_err(Error::at("pidfd_open", init.to_string()))?)
        }
        LaunchKind::Init { .. } => None,
    };
    let Waiting { guard, mut peer, preserve_fds } = waiting;
    // It does nothing before it has heard what it is to be, and hands this on to the process that it makes.
    outside::set_oom_score(guard.stage1_pid(), &plan.config.process)?;
    if joined.is_some() {
        scheduling::set_initial_affinity(Pid::from_raw(guard.stage1_pid()), &plan.config.process)?;
    }
    peer.send(&ToChild::Bootstrap(bootstrap(&plan, preserve_fds)))?;
    Ok(Begun { plan, guard, peer, joined })
}

/// Makes of it the process, and returns that when it is ready: the first process waits for `start`, another one has
/// been executed. It is a child of the caller.
///
/// # Errors
/// [`Error::Child`] in the child's own words; [`Error::Refused`] for a limit that cannot be set; [`Error::Call`]. The
/// process is gone then, and reaped.
pub fn launch(begun: Begun, side: &mut dyn ParentSide) -> Result<Pid> {
    let Begun { plan, mut guard, mut peer, joined } = begun;
    let plan = &plan;
    let forked = until_forked(&mut peer, plan, side, &mut guard);
    if joined.as_ref().is_some_and(pidfd::has_ended) {
        // Then its number may be somebody else's, and so may the namespaces; or there was no fork into them any more,
        // which the kernel calls a lack of memory (pid_namespaces(7)).
        return Err(Error::start("the container's first process has ended"));
    }
    let (pid, placed, filter) = forked?;
    if !placed {
        side.place(pid)?;
    }
    side.placed(pid)?;
    side.network(pid)?;
    if joined.is_none() {
        rootfs::change_sources(&plan.config)?;
    }
    peer.send(&ToChild::Config(Box::new(Config { seccomp: None, ..plan.config.clone() }), filter))?;
    until_ready(&mut peer, plan, side, pid)?;
    side.created(pid)?;
    peer.send(&ToChild::Execute)?;
    if matches!(plan.kind, LaunchKind::Exec { .. }) {
        // The socket ends with execve(2); before that, only a failure is said.
        match peer.receive()? {
            None => {}
            Some(FromChild::Failed(what)) => return Err(Error::start(what)),
            Some(_) => return Err(out_of_order()),
        }
    }
    guard.child = None;
    Ok(pid)
}

/// Hands over the descriptors.
fn pass(peer: &mut Peer, plan: &LaunchPlan, entrance: &Entrance) -> Result<()> {
    let fifo = match &plan.kind {
        LaunchKind::Init { state_dir } => Some(fifo::for_child(state_dir)?),
        LaunchKind::Exec { .. } => None,
    };
    let doors = entrance.open()?;
    peer.send(&ToChild::Passed(Passed {
        fifo: fifo.is_some(),
        console: plan.console.is_some(),
        directory: doors.directory.is_some(),
        tasks: doors.tasks.iter().map(|(path, _)| path.clone()).collect(),
    }))?;
    let single = [&fifo, &plan.console, &doors.directory].into_iter().flatten();
    let fds: Vec<_> = single.chain(doors.tasks.iter().map(|(_, file)| file)).map(AsFd::as_fd).collect();
    peer.send_fds(&fds)
}

/// Stage 1's part. The process that comes out of it is the guard's.
/// Also says whether it is in its cgroup, and has the profile of system calls compiled.
fn until_forked(
    peer: &mut Peer,
    plan: &LaunchPlan,
    side: &dyn ParentSide,
    guard: &mut Guard,
) -> Result<(Pid, bool, Option<Filter>)> {
    let mut filter = None;
    loop {
        match heard(peer, plan)? {
            FromChild::MapIds => {
                id_maps::write(guard.stage1_pid(), &plan.config.uid_mappings, &plan.config.gid_mappings)?;
                peer.send(&ToChild::Mapped)?;
            }
            FromChild::SetClocks => {
                outside::set_clocks(guard.stage1_pid(), &plan.config.time_offsets)?;
                peer.send(&ToChild::ClocksSet)?;
            }
            FromChild::Unshared => {
                pass(peer, plan, &side.entrance())?;
                // While the other side forks.
                filter = plan.config.seccomp.as_ref().map(seccomp::compile).transpose()?;
            }
            FromChild::Forked { pid, placed } if pid > 0 => {
                let pid = Pid::from_raw(pid);
                guard.child = Some(pid);
                guard.reap_stage1();
                return Ok((pid, placed, filter));
            }
            _ => return Err(out_of_order()),
        }
    }
}

/// The part of the container's process, to where it waits.
fn until_ready(peer: &mut Peer, plan: &LaunchPlan, side: &mut dyn ParentSide, pid: Pid) -> Result<()> {
    let mut namespaces = UserNamespaces::default();
    loop {
        match heard(peer, plan)? {
            FromChild::WantTree(number) => {
                let tree = tree(plan, number, pid, &mut namespaces)?;
                peer.send(&ToChild::Tree)?;
                peer.send_fds(&[tree.as_fd()])?;
            }
            FromChild::Mounted => {
                let state = side.mounted(pid)?;
                peer.send(&ToChild::ChangeRoot(state))?;
            }
            FromChild::WantLimits => {
                outside::set_limits(pid, &plan.config.process)?;
                scheduling::set(pid, &plan.config.process)?;
                if matches!(plan.kind, LaunchKind::Exec { .. }) {
                    // It has gone into its cgroup meanwhile, which on kernels before 6.2 takes back what was set earlier.
                    scheduling::set_final_affinity(pid, &plan.config.process)?;
                }
                peer.send(&ToChild::LimitsSet)?;
            }
            FromChild::Listener(number) if plan.config.seccomp.as_ref().is_some_and(Seccomp::notifies) => {
                side.listener(pid, outside::take(pid, number)?)?
            }
            FromChild::Ready => return Ok(()),
            _ => return Err(out_of_order()),
        }
    }
}

/// The source of a mount, made with this process's rights. The user namespace whose ids it gets is the container's
/// own, unless the mount has maps.
fn tree(plan: &LaunchPlan, number: usize, pid: Pid, namespaces: &mut UserNamespaces) -> Result<OwnedFd> {
    let mount = plan.config.mounts.get(number).ok_or_else(out_of_order)?;
    if !nix::unistd::geteuid().is_root() {
        // Then floe may do no more than the child could.
        let what = if mount.ids.is_some() { "map the ids of" } else { "reach" };
        let source = mount.source.as_deref().unwrap_or(&mount.destination).display();
        return Err(Error::Refused {
            problem: format!("mounts[{number}]: only root can {what} {source}"),
            hint: "run floe as root, or choose a source that is yours, without a mapping of its ids",
        });
    }
    let own;
    let namespace = match &mount.ids {
        None => None,
        Some(MountIds { maps: Some(maps), .. }) => Some(namespaces.with(maps)?.as_fd()),
        Some(MountIds { maps: None, .. }) => {
            let path = format!("/proc/{pid}/ns/user");
            own = std::fs::File::open(&path).map_err(Error::at("open", &path))?;
            Some(own.as_fd())
        }
    };
    rootfs::tree_for(mount, pid, namespace)
}

/// What the child says, if it is no failure.
fn heard(peer: &mut Peer, plan: &LaunchPlan) -> Result<FromChild> {
    match peer.receive()? {
        Some(FromChild::Failed(what)) => Err(Error::start(what)),
        Some(message) => Ok(message),
        None if plan.config.seccomp.is_some() => Err(Error::start(
            "it ended without a word (killed, perhaps by its linux.seccomp, or out of memory)",
        )),
        None => Err(Error::start("it ended without a word (killed, or out of memory)")),
    }
}

fn out_of_order() -> Error {
    Error::start("it said something out of order")
}

fn bootstrap(plan: &LaunchPlan, preserve_fds: u32) -> Bootstrap {
    let join = match &plan.kind {
        LaunchKind::Exec { init } => NamespaceKind::ALL
            .iter()
            .map(|kind| Join {
                kind: *kind,
                path: PathBuf::from(format!("/proc/{init}/ns/{}", kind.proc_name())),
            })
            .collect(),
        LaunchKind::Init { .. } => NamespaceKind::ALL
            .iter()
            .filter_map(|kind| plan.config.namespace(*kind))
            .filter_map(|namespace| Some(Join { kind: namespace.kind, path: namespace.path.clone()? }))
            .collect(),
    };
    let create = match &plan.kind {
        LaunchKind::Exec { .. } => Vec::new(),
        LaunchKind::Init { .. } => {
            NamespaceKind::ALL.into_iter().filter(|kind| plan.config.creates(*kind)).collect()
        }
    };
    let exec = matches!(plan.kind, LaunchKind::Exec { .. });
    Bootstrap {
        join,
        create,
        exec,
        preserve_fds,
        keyring: plan.keyring.clone(),
        clocks: !exec && !plan.config.time_offsets.is_empty(),
        root: match plan.kind {
            // Its mount namespace is the host's, in which it only changed its root.
            LaunchKind::Exec { init } if plan.config.namespace(NamespaceKind::Mount).is_none() => {
                Some(PathBuf::from(format!("/proc/{init}/root")))
            }
            _ => None,
        },
    }
}
