//! Everything that makes the container, as an ordered list.

use std::os::fd::{AsFd, OwnedFd};

use serde_json::Value;

use super::gone;
use crate::config::{Config, NamespaceKind, NumberSet};
use crate::error::{Error, Result};
use crate::launch::message::{FromChild, Peer, ToChild};
use crate::proc::Proc;
use crate::rootfs::Root;
use crate::{console, hooks, keyring, rootfs, sys};

/// The first process. `proc` is none that the container had a hand in. Returns the state that the hooks of `start` are
/// told.
pub(super) fn container(
    peer: &mut Peer,
    config: &Config,
    proc: &Proc,
    console_socket: Option<&OwnedFd>,
    keyring: Option<&str>,
) -> Result<Value> {
    let has_mounts = config.namespace(NamespaceKind::Mount).is_some();
    inherited(config)?;
    cgroup_namespace(config)?;
    loopback(config)?;
    new_keyring(config, keyring)?;
    let root = if has_mounts { Some(rootfs::prepare(config, &mut Floe(peer))?) } else { None };
    peer.send(&FromChild::Mounted)?;
    let Some(ToChild::ChangeRoot(mut state)) = peer.receive()? else { return Err(gone()) };
    // As it is seen from in here, like everything that these hooks see.
    state["pid"] = std::process::id().into();
    hooks::run("createContainer", &config.hooks.create_container, &state)?;
    let root = change_root(config, root)?;
    if let Some(socket) = console_socket {
        console::open(socket, &config.process, root.as_ref().filter(|_| has_console(config)))?;
    }
    names(config)?;
    rootfs::set_parameters(proc, &config.sysctl)?;
    if let Some(root) = root {
        rootfs::protect(config, &root)?;
    }
    Ok(state)
}

/// The other side, where mounts are concerned.
struct Floe<'a>(&'a mut Peer);

impl rootfs::Outside for Floe<'_> {
    fn tree(&mut self, number: usize) -> Result<OwnedFd> {
        self.0.send(&FromChild::WantTree(number))?;
        let Some(ToChild::Tree) = self.0.receive()? else { return Err(gone()) };
        self.0.receive_fds(1)?.pop().ok_or_else(gone)
    }
}

/// Whether /dev/console is the container's to be made: in a /dev that is bound it would be made on the host.
fn has_console(config: &Config) -> bool {
    !rootfs::dev_is_bound(config) || std::fs::symlink_metadata("/dev/console").is_ok()
}

/// Another process of a running container: the namespaces are joined, and with them the root.
pub(super) fn joining(
    config: &Config,
    console_socket: Option<&OwnedFd>,
    keyring: Option<&str>,
) -> Result<()> {
    inherited(config)?;
    if let Some(socket) = console_socket {
        console::open(socket, &config.process, None)?;
    }
    new_keyring(config, keyring)
}

/// What every process of the container hands on to those that it makes, and only it itself can set.
fn inherited(config: &Config) -> Result<()> {
    if let Some(policy) = &config.memory_policy {
        let nodes = policy.nodes.as_ref().map_or(&[] as &[u64], NumberSet::mask);
        let flags = policy.flags.iter().fold(0, |all, flag| all | *flag as i32);
        sys::set_memory_policy(policy.mode as i32 | flags, nodes).map_err(|errno| {
            let shown = policy.nodes.as_ref().map(|nodes| format!(", nodes {nodes}")).unwrap_or_default();
            Error::call("set_mempolicy", format!("linux.memoryPolicy {:?}{shown}", policy.mode), errno)
        })?;
    }
    if let Some(personality) = config.personality {
        sys::set_personality(personality as u32).map_err(Error::at("personality", "linux.personality"))?;
    }
    Ok(())
}

/// Only now, since its root is the cgroup that the process is in at this moment.
fn cgroup_namespace(config: &Config) -> Result<()> {
    if !config.creates(NamespaceKind::Cgroup) {
        return Ok(());
    }
    nix::sched::unshare(NamespaceKind::Cgroup.flag()).map_err(Error::at("unshare", "the cgroup namespace"))
}

fn loopback(config: &Config) -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    if !config.creates(NamespaceKind::Network) {
        return Ok(());
    }
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(Error::at("socket", "for the loopback interface"))?;
    sys::loopback_up(socket.as_fd()).map_err(Error::at("bring up", "lo"))
}

fn new_keyring(config: &Config, name: Option<&str>) -> Result<()> {
    name.map_or(Ok(()), |name| keyring::join(name, config.namespace(NamespaceKind::User).is_some()))
}

fn change_root(config: &Config, root: Option<Root>) -> Result<Option<Root>> {
    if let Some(root) = root {
        rootfs::enter(config, &root)?;
        return root.entered().map(Some);
    }
    nix::unistd::chroot(&config.rootfs).map_err(Error::at("chroot", &config.rootfs))?;
    nix::unistd::chdir("/").map_err(Error::at("chdir", "/"))?;
    Ok(None)
}

fn names(config: &Config) -> Result<()> {
    if let Some(name) = &config.hostname {
        nix::unistd::sethostname(name).map_err(Error::at("sethostname", name))?;
    }
    if let Some(name) = &config.domainname {
        sys::set_domain_name(name).map_err(Error::at("setdomainname", name))?;
    }
    Ok(())
}
