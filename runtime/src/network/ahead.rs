//! A network that is there before the processes that are to live in it: a restore's.
//!
//! Connections that come back need their addresses at once, and must not be reached before all of them are there: the
//! kernel answers a packet to a connection that it does not know yet with a reset, and the peer gives up. So the
//! interfaces, addresses and routes are made first, and the host's ends of the pairs stay down until the processes are
//! complete.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use super::namespace::Namespace;
use super::netlink::Socket;
use super::setup::{self, Port};
use super::{cannot, is_needed, link, notes};
use crate::config::{Config, NamespaceKind};
use crate::error::{Error, Result};
use crate::proc::Proc;
use crate::rootfs;
use crate::state::Folder;

/// Longest wait for the kernel to notice that a port is open. What is sent before is sent again by those who care.
const NOTICE: Duration = Duration::from_secs(1);

/// A network namespace with everything that the configuration gives it, and closed ports.
#[derive(Debug)]
pub(crate) struct Ahead {
    namespace: Namespace,
    ports: Vec<Port>,
}

impl Ahead {
    /// Makes it, or opens the one that is joined, if the configuration gives the container interfaces or routes. What was
    /// done until a failure is in the notes, and is for [`take_back`](super::take_back).
    ///
    /// # Errors
    /// As [`set_up`](super::set_up).
    pub(crate) fn make(config: &Config, folder: &Folder) -> Result<Option<Self>> {
        if !is_needed(config) {
            return Ok(None);
        }
        let namespace = match config.namespace(NamespaceKind::Network).map(|given| &given.path) {
            None => return Ok(None),
            Some(None) => {
                let new = Namespace::new()?;
                let mut inside = new.socket().map_err(cannot("enter it", "the container's network"))?;
                // A container's process does this itself where it is started.
                link::set_up(&mut inside, link::LOOPBACK_INDEX)
                    .map_err(cannot("bring it up", "interface lo in the container"))?;
                new
            }
            Some(Some(path)) => Namespace::open(path)?,
        };
        let ports = setup::build(config, folder, &namespace, true)?;
        if config.creates(NamespaceKind::Network) {
            parameters(config, &namespace)?;
        }
        Ok(Some(Self { namespace, ports }))
    }

    /// A descriptor of the namespace.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub(crate) fn descriptor(&self) -> Result<OwnedFd> {
        self.namespace.fd().try_clone_to_owned().map_err(Error::at("dup", "a network namespace"))
    }

    /// Lets packets in and out: the processes are there.
    ///
    /// # Errors
    /// [`Error::Network`].
    pub(crate) fn open(&self, config: &Config, folder: &Folder) -> Result<()> {
        let mut host = Socket::here().map_err(cannot("ask the kernel", "interfaces of the host"))?;
        self.ports.iter().try_for_each(|port| port.open(&mut host))?;
        self.wait()?;
        notes::settle(config, folder)
    }

    /// Waits until the other ends have noticed, which the kernel does a moment later: until then they drop what is sent.
    fn wait(&self) -> Result<()> {
        let cannot_ask = || cannot("ask for its state", "an interface of the container");
        let mut inside = self.namespace.socket().map_err(cannot_ask())?;
        let begun = Instant::now();
        for port in &self.ports {
            while !link::runs(&mut inside, &port.inside).map_err(cannot_ask())? && begun.elapsed() < NOTICE {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

/// Kernel parameters of the network, which the first process sets by itself where a container is started.
fn parameters(config: &Config, namespace: &Namespace) -> Result<()> {
    let of_network = |name: &str| name.starts_with("net.") || name.starts_with("net/");
    let own: BTreeMap<String, String> = config
        .sysctl
        .iter()
        .filter(|(name, _)| of_network(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if own.is_empty() {
        return Ok(());
    }
    within(namespace, || rootfs::set_parameters(&Proc::of_host()?, &own))
}

/// Does something on a thread that is in the namespace.
fn within(namespace: &Namespace, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            nix::sched::setns(namespace.fd(), CloneFlags::CLONE_NEWNET)
                .map_err(Error::at("setns", "the container's network namespace"))?;
            work()
        });
        done.join().unwrap_or_else(|_| {
            Err(Error::call(
                "run",
                "a thread in the container's network",
                std::io::Error::other("it panicked"),
            ))
        })
    })
}
