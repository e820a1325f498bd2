//! How a process of a container comes to life.
//!
//! Two programs talk over one socket: floe ([`launch`]) and itself once more ([`crate::init_main`]), which becomes the
//! container's process. It does so in two stages, because a process can't enter a new pid namespace itself, only its
//! children can; and because a user namespace must have its ids before anything is done in it.
//!
//! ```text
//!   floe                         stage 1 (floe init)          stage 2: the container's process
//!    │ spawn; its OOM score
//!    │ Bootstrap ──────────────►  │
//!    │                            │ joins namespaces
//!    │ ◄── MapIds ────────────    │ unshared its user namespace
//!    │ writes uid_map, gid_map    │
//!    │ ── Mapped ──────────────►  │
//!    │ ◄── SetClocks ─────────    │ unshared its time namespace
//!    │ writes timens_offsets      │
//!    │ ── ClocksSet ───────────►  │
//!    │                            │ clone3(CLONE_PARENT, new namespaces, cgroup) ─► │ goes into its cgroup, waits
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
mod user_namespace;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use nix::unistd::Pid;

use crate::cgroup::Entrance;
use crate::config::{Config, MountIds, NamespaceKind, Seccomp};
use crate::error::{Error, Result};
use crate::{labels, pidfd, rootfs, scheduling, seccomp};
use message::{Bootstrap, FromChild, Join, Peer, ToChild};
use user_namespace::UserNamespaces;

pub use fifo::{EXEC_FIFO, make_exec_fifo, open_exec_fifo};
pub(crate) use fifo::{fail_at, waits_for_start};

/// Tells the child under which number it finds the socket, and how many descriptors from there on are for it.
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
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: u32,
    /// Its standard streams.
    pub streams: Streams,
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

/// Launches the process and returns it when it is ready: the first process waits for `start`, another one has been
/// executed. It is a child of the caller.
///
/// # Errors
/// [`Error::Child`] in the child's own words; [`Error::Refused`] for a limit that cannot be set; [`Error::Call`]. The
/// process is gone then, and reaped.
pub fn launch(plan: &LaunchPlan, side: &mut dyn ParentSide) -> Result<Pid> {
    outside::check_preserved(plan.preserve_fds)?;
    outside::check_ids(&plan.config)?;
    labels::check(&plan.config.process)?;
    let joined = match plan.kind {
        LaunchKind::Exec { init } => {
            Some(pidfd::open(init).map_err(Error::at("pidfd_open", init.to_string()))?)
        }
        LaunchKind::Init { .. } => None,
    };
    let entrance = side.entrance();
    let (ours, theirs) = UnixStream::pair().map_err(Error::at("socketpair", ""))?;
    let mut guard = Guard { stage1: Some(spawn(plan, theirs)?), child: None };
    // It does nothing before it has heard what it is to be, and hands this on to the process that it makes.
    outside::set_oom_score(guard.stage1_pid(), &plan.config.process)?;
    if joined.is_some() {
        scheduling::set_initial_affinity(Pid::from_raw(guard.stage1_pid()), &plan.config.process)?;
    }
    let mut peer = Peer::new(ours);
    peer.send(&ToChild::Bootstrap(bootstrap(plan, entrance)))?;
    // While the other side starts.
    let filter = plan.config.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let forked = until_forked(&mut peer, plan, &mut guard);
    if joined.as_ref().is_some_and(pidfd::has_ended) {
        // Then its number may be somebody else's, and so may the namespaces; or there was no fork into them any more,
        // which the kernel calls a lack of memory (pid_namespaces(7)).
        return Err(Error::start("the container's first process has ended"));
    }
    let (pid, placed) = forked?;
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

/// Stage 1's part. The process that comes out of it is the guard's.
/// Also says whether it is in its cgroup.
fn until_forked(peer: &mut Peer, plan: &LaunchPlan, guard: &mut Guard) -> Result<(Pid, bool)> {
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
            FromChild::Forked { pid, placed } if pid > 0 => {
                let pid = Pid::from_raw(pid);
                guard.child = Some(pid);
                guard.reap_stage1();
                return Ok((pid, placed));
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
                peer.send_fd(tree.as_fd())?;
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

fn spawn(plan: &LaunchPlan, socket: UnixStream) -> Result<Child> {
    let first = 3 + i32::try_from(plan.preserve_fds).unwrap_or(0);
    let mut passed = vec![OwnedFd::from(socket)];
    if let LaunchKind::Init { state_dir } = &plan.kind {
        passed.push(fifo::for_child(state_dir)?);
    }
    if let Some(console) = &plan.console {
        passed.push(console.try_clone().map_err(Error::at("duplicate", "the console socket"))?);
    }
    spawn_init(passed, first, &plan.streams)
}

/// Starts `floe init` with these descriptors, from number `first` on; the first of them is its socket.
fn spawn_init(passed: Vec<OwnedFd>, first: i32, streams: &Streams) -> Result<Child> {
    let program_file = exe::OwnProgram::open(first + 3)?;
    let program = program_file.path();
    let mut command = Command::new(&program);
    command.arg("init").env_clear().env(SOCKET_VARIABLE, format!("{first},{}", passed.len()));
    let mappings =
        (first..).zip(passed).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).map_err(|error| {
        Error::call("pass descriptors to", program.display(), std::io::Error::other(error.to_string()))
    })?;
    let Streams { input, output, error } = streams;
    let own = |stream: &Option<OwnedFd>| match stream {
        Some(stream) => {
            Ok(Stdio::from(stream.try_clone().map_err(Error::at("duplicate", "a standard stream"))?))
        }
        None => Ok(Stdio::inherit()),
    };
    command.stdin(own(input)?).stdout(own(output)?).stderr(own(error)?);
    let child = command.spawn().map_err(Error::at("exec", &program))?;
    drop(program_file);
    Ok(child)
}

fn bootstrap(plan: &LaunchPlan, cgroup: Entrance) -> Bootstrap {
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
        cgroup,
        join,
        create,
        exec,
        fifo: !exec,
        console: plan.console.is_some(),
        preserve_fds: plan.preserve_fds,
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

/// Ends what was started when the launch fails.
struct Guard {
    stage1: Option<Child>,
    child: Option<Pid>,
}

impl Guard {
    fn stage1_pid(&self) -> i32 {
        self.stage1.as_ref().map_or(0, |child| i32::try_from(child.id()).unwrap_or(0))
    }

    fn reap_stage1(&mut self) {
        if let Some(mut child) = self.stage1.take() {
            // It has nothing left to do but to exit.
            let _ = child.wait();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut child) = self.stage1.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pid) = self.child.take() {
            // Not yet waited for, so the number is still this process's.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
    }
}
