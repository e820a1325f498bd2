//! How a process of a container comes to life.
//!
//! ```text
//!   floe                         stage 1 (floe init)          stage 2: the container's process
//!    │ spawn, Bootstrap ───────►  │
//!    │                            │ joins namespaces
//!    │ ◄── MapIds ────────────    │ unshared its user namespace
//!    │ writes uid_map, gid_map
//!    │ ── Mapped ──────────────►  │
//!    │                            │ clone3(CLONE_PARENT, new namespaces) ─► │ waits
//!    │ ◄── Forked(pid) ───────    │ exits
//!    │ cgroup, network
//!    │ ── Config ────────────────────────────────────────────────────────► │ mounts, root, security
//!    │ ◄── Ready ───────────────────────────────────────────────────────   │
//!    │ records the container                                               │ opens the exec fifo: waits for `start`
//!    │                                                                     │ execve
//! ```
//!
//! At every step either side may say `Failed` or be gone, which the other sees as the end of the socket: a floe that
//! dies leaves no half-made process behind. The process is a child of the calling floe (`CLONE_PARENT`), which may
//! wait for it.

mod exe;
pub(crate) mod message;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use command_fds::{CommandFdExt, FdMapping};
use nix::unistd::Pid;

use crate::config::{Config, IdMapping, NamespaceKind};
use crate::error::{Error, Result};
use message::{Bootstrap, FromChild, Join, ToChild};

/// Name of the fifo in a container's folder at which the first process waits for `start`.
pub const EXEC_FIFO: &str = "exec.fifo";

/// Tells the child under which number it finds the socket; the console socket and the fifo follow it.
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
}

/// What the caller does for the new process while it waits.
pub trait ParentSide {
    /// Puts the process into its cgroup.
    ///
    /// # Errors
    /// Ends the launch.
    fn place(&mut self, pid: Pid) -> Result<()>;

    /// Its share of the network: devices are moved into the namespace, hooks are run.
    ///
    /// # Errors
    /// Ends the launch.
    fn network(&mut self, _pid: Pid) -> Result<()> {
        Ok(())
    }

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
/// The caller must have one thread (a new one would be lost in the copy).
///
/// # Errors
/// [`Error::Child`] in the child's own words; [`Error::Call`]. The process is gone then.
pub fn launch(plan: &LaunchPlan, side: &mut dyn ParentSide) -> Result<Pid> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::at("socketpair", ""))?;
    let stage1 = spawn(plan, theirs)?;
    let mut guard = Guard { stage1: Some(stage1), child: None };
    let mut peer = message::Peer::new(ours);
    peer.send(&ToChild::Bootstrap(bootstrap(plan)))?;
    let pid = loop {
        match peer.receive::<FromChild>()? {
            Some(FromChild::MapIds) => {
                map_ids(guard.stage1_pid(), &plan.config)?;
                peer.send(&ToChild::Mapped)?;
            }
            Some(FromChild::Forked(pid)) => break Pid::from_raw(pid),
            Some(FromChild::Failed(what)) => return Err(Error::start(what)),
            Some(FromChild::Ready) | None => return Err(gone()),
        }
    };
    guard.child = Some(pid);
    guard.reap_stage1();
    side.place(pid)?;
    side.network(pid)?;
    peer.send(&ToChild::Config(Box::new(plan.config.clone())))?;
    match peer.receive::<FromChild>()? {
        Some(FromChild::Ready) => {}
        Some(FromChild::Failed(what)) => return Err(Error::start(what)),
        _ => return Err(gone()),
    }
    side.created(pid)?;
    if matches!(plan.kind, LaunchKind::Exec { .. }) {
        peer.send(&ToChild::Execute)?;
        // The socket ends with execve(2); before that, only a failure is said.
        if let Some(FromChild::Failed(what)) = peer.receive::<FromChild>()? {
            return Err(Error::start(what));
        }
    } else {
        peer.send(&ToChild::Execute)?;
    }
    guard.child = None;
    Ok(pid)
}

/// Lets the first process go on from the fifo in `state_dir` to its program.
///
/// # Errors
/// [`Error::Call`] if it does not wait there (any more).
pub fn open_exec_fifo(state_dir: &Path) -> Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let path = state_dir.join(EXEC_FIFO);
    let fifo = openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::at("open", &path))?;
    let mut byte = [0u8; 1];
    rustix::io::read(&fifo, &mut byte).map_err(Error::at("read", &path))?;
    std::fs::remove_file(&path).map_err(Error::at("remove", &path))
}

/// Makes the fifo.
///
/// # Errors
/// [`Error::Call`].
pub fn make_exec_fifo(state_dir: &Path) -> Result<()> {
    let path = state_dir.join(EXEC_FIFO);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o622);
    nix::unistd::mkfifo(&path, mode).map_err(Error::at("mkfifo", &path))?;
    // The umask is not to take the writers' bit away: in a user namespace the process has another user id.
    nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, &path, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
        .map_err(Error::at("chmod", &path))
}

fn gone() -> Error {
    Error::start("it ended without a word (killed, or out of memory)".to_owned())
}

fn spawn(plan: &LaunchPlan, socket: UnixStream) -> Result<Child> {
    let first = 3 + i32::try_from(plan.preserve_fds).unwrap_or(0);
    let (program, keep) = exe::sealed(first + 3)?;
    let mut mappings = vec![FdMapping { parent_fd: OwnedFd::from(socket), child_fd: first }];
    if let LaunchKind::Init { state_dir } = &plan.kind {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let path = state_dir.join(EXEC_FIFO);
        let fifo = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::at("open", &path))?;
        mappings.push(FdMapping { parent_fd: fifo, child_fd: first + 1 });
    }
    if let Some(console) = &plan.console {
        let console = console.try_clone().map_err(Error::at("duplicate", "the console socket"))?;
        mappings.push(FdMapping { parent_fd: console, child_fd: first + 2 });
    }
    // What the caller passes on has to be without close-on-exec in it already, as its own parent gave it.
    let mut command = Command::new(&program);
    command.arg("init").env_clear().env(SOCKET_VARIABLE, first.to_string());
    command.fd_mappings(mappings).map_err(|error| {
        Error::call("pass descriptors to", program.display(), std::io::Error::other(error.to_string()))
    })?;
    let child = command.spawn().map_err(Error::at("exec", &program))?;
    drop(keep);
    Ok(child)
}

fn bootstrap(plan: &LaunchPlan) -> Bootstrap {
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
    Bootstrap {
        join,
        create,
        exec: matches!(plan.kind, LaunchKind::Exec { .. }),
        console: plan.console.is_some(),
        preserve_fds: plan.preserve_fds,
    }
}

/// Writes the id maps of `pid`'s new user namespace. The outer side is privileged, so setgroups(2) stays allowed.
fn map_ids(pid: i32, config: &Config) -> Result<()> {
    for (file, mappings) in [("uid_map", &config.uid_mappings), ("gid_map", &config.gid_mappings)] {
        let path = format!("/proc/{pid}/{file}");
        let mut text = String::new();
        for IdMapping { container, host, count } in mappings {
            text.push_str(&format!("{container} {host} {count}\n"));
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).open(&path).map_err(Error::at("open", &path))?;
        // The kernel takes a map in one write only.
        file.write_all(text.as_bytes()).map_err(Error::at("write", &path))?;
    }
    Ok(())
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
