//! The child's side of a launch: `floe init`, which becomes the container's process.
//!
//! Nothing here runs with a second thread, and nothing is printed: what fails is said over the socket, in words that
//! name the thing ([`crate::launch`] draws the conversation).

mod process;
mod stage1;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::config::{Config, NamespaceKind};
use crate::error::{Error, Result};
use crate::launch::SOCKET_VARIABLE;
use crate::launch::message::{Bootstrap, FromChild, Peer, ToChild};
use crate::{console, rootfs, sys};

/// What the hidden verb `init` does, before anything else and with one thread. Does not return: it becomes the
/// container's program or exits.
pub fn init_main() -> ! {
    let code = match socket() {
        Ok((peer, first)) => run(peer, first),
        Err(error) => {
            eprintln!("floe init is not for people: {error}");
            2
        }
    };
    std::process::exit(code)
}

fn socket() -> Result<(Peer, i32)> {
    let missing = || Error::start(format!("{SOCKET_VARIABLE} names no socket"));
    let number =
        std::env::var(SOCKET_VARIABLE).ok().and_then(|text| text.parse::<i32>().ok()).ok_or_else(missing)?;
    let fd = sys::take_inherited(number).map_err(Error::at("take over", "the start-up socket"))?;
    Ok((Peer::new(UnixStream::from(fd)), number))
}

fn run(mut peer: Peer, first: i32) -> i32 {
    let error = match stages(&mut peer, first) {
        Ok(()) => return 0,
        Err(error) => error,
    };
    // If floe is gone too, nobody is left to be told.
    let _ = peer.send(&FromChild::Failed(error.in_full()));
    1
}

fn stages(peer: &mut Peer, first: i32) -> Result<()> {
    let Some(ToChild::Bootstrap(bootstrap)) = peer.receive()? else { return Err(out_of_order()) };
    // Everything but the standard streams and what is to be preserved stays out of the container's program.
    sys::close_on_exec_from(3 + bootstrap.preserve_fds).map_err(Error::at("close_range", "descriptors"))?;
    let fifo = if bootstrap.exec { None } else { Some(take(first + 1, "the exec fifo")?) };
    let console = if bootstrap.console { Some(take(first + 2, "the console socket")?) } else { None };
    if !stage1::enter(peer, &bootstrap)? {
        return Ok(());
    }
    stage2(peer, &bootstrap, fifo, console)
}

fn take(number: i32, what: &str) -> Result<OwnedFd> {
    sys::take_inherited(number).map_err(Error::at("take over", what))
}

pub(crate) fn out_of_order() -> Error {
    Error::start("floe is gone".to_owned())
}

/// The container's process itself.
fn stage2(
    peer: &mut Peer,
    bootstrap: &Bootstrap,
    fifo: Option<OwnedFd>,
    console_socket: Option<OwnedFd>,
) -> Result<()> {
    let Some(ToChild::Config(config)) = peer.receive()? else { return Err(out_of_order()) };
    sys::reset_signals().map_err(Error::at("reset", "signals"))?;
    nix::unistd::setsid().map_err(Error::at("setsid", ""))?;
    if bootstrap.exec {
        enter(&config, console_socket)?;
    } else {
        build(&config, console_socket)?;
    }
    process::reopen_null()?;
    let program = process::become_user(&config.process)?;
    peer.send(&FromChild::Ready)?;
    let Some(ToChild::Execute) = peer.receive()? else { return Err(out_of_order()) };
    if let Some(fifo) = fifo {
        process::wait_at(&fifo)?;
    }
    process::execute(&program, &config.process)
}

/// Another process of a running container: the namespaces are joined, and with them the root.
fn enter(config: &Config, console_socket: Option<OwnedFd>) -> Result<()> {
    process::set_oom_score(&config.process)?;
    if let Some(socket) = &console_socket {
        console::open(socket, &config.process, false)?;
    }
    process::set_limits(&config.process)?;
    new_keyring(config)
}

/// The first process: everything that makes the container.
fn build(config: &Config, console_socket: Option<OwnedFd>) -> Result<()> {
    if config.creates(NamespaceKind::Cgroup) {
        // Only now, since its root is the cgroup that the process is in at this moment.
        nix::sched::unshare(NamespaceKind::Cgroup.flag())
            .map_err(Error::at("unshare", "the cgroup namespace"))?;
    }
    if config.creates(NamespaceKind::Network) {
        loopback()?;
    }
    process::set_oom_score(&config.process)?;
    new_keyring(config)?;
    let has_mounts = config.namespace(NamespaceKind::Mount).is_some();
    if has_mounts {
        rootfs::prepare(config)?;
        rootfs::enter(config)?;
    } else {
        nix::unistd::chroot(&config.rootfs).map_err(Error::at("chroot", &config.rootfs))?;
        nix::unistd::chdir("/").map_err(Error::at("chdir", "/"))?;
    }
    if let Some(socket) = &console_socket {
        console::open(socket, &config.process, has_mounts)?;
    }
    if let Some(name) = &config.hostname {
        nix::unistd::sethostname(name).map_err(Error::at("sethostname", name))?;
    }
    if let Some(name) = &config.domainname {
        sys::set_domain_name(name).map_err(Error::at("setdomainname", name))?;
    }
    rootfs::set_parameters(&config.sysctl)?;
    if has_mounts {
        rootfs::protect(config)?;
    }
    process::set_limits(&config.process)
}

fn loopback() -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(Error::at("socket", "for the loopback interface"))?;
    sys::loopback_up(std::os::fd::AsFd::as_fd(&socket)).map_err(Error::at("bring up", "lo"))
}

fn new_keyring(config: &Config) -> Result<()> {
    if config.no_new_keyring {
        return Ok(());
    }
    match sys::new_session_keyring() {
        Ok(()) | Err(nix::errno::Errno::ENOSYS) => Ok(()),
        Err(error) => Err(Error::call("join", "a new session keyring", error)),
    }
}
