//! The look at a container before it is frozen: what CRIU has to be told, and what stands in the way.

use std::path::PathBuf;

use floe_runtime::Container;
use floe_runtime::config::{Config, NamespaceKind};

use super::options::{Options, Tcp};
use crate::error::{Error, Result};
use crate::outside::{self, LockMethod, OutsideInterface, OutsideMount, OutsideNamespace};
use crate::preflight::Blocker;
use crate::tasks;

/// What was found. It is a plan: nothing was changed for it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The container's first process, in floe's pid namespace.
    pub init: i32,
    /// Every process, the first one first.
    pub pids: Vec<i32>,
    /// The root file system, as a path on this host.
    pub root: PathBuf,
    /// What the freezer of both cgroup versions is reached by.
    pub freezer: Option<PathBuf>,
    /// Mounts whose content is the host's.
    pub mounts: Vec<OutsideMount>,
    /// Namespaces that are shared with others, with their inode numbers.
    pub namespaces: Vec<(OutsideNamespace, u64)>,
    /// Interfaces that floe made for it.
    pub interfaces: Vec<OutsideInterface>,
    /// What descriptors 0 to 2 of the first process lead to.
    pub stdio: Vec<String>,
    /// About how many bytes of memory CRIU will find.
    pub memory: u64,
    /// TCP connections.
    pub(crate) connections: Vec<tasks::Connection>,
    /// Whether TCP connections are to be kept, so that packets must be held back meanwhile.
    pub lock_network: bool,
    /// How they are.
    pub(crate) lock: LockMethod,
}

/// Looks at `container`.
///
/// # Errors
/// [`Error::WrongState`] if it has no processes; [`Error::Blocked`] with everything that stands in the way.
pub fn collect(container: &Container, options: &Options) -> Result<Plan> {
    let init = container.init_pid().ok_or_else(|| Error::WrongState {
        id: container.id().to_string(),
        status: container.status().to_string(),
        hint: "only a running or paused container can be checkpointed",
    })?;
    let init = init.as_raw();
    let pids = processes(container, init)?;

    let host = std::process::id().cast_signed();
    let own_cgroups = tasks::namespace(init, "cgroup")? != tasks::namespace(host, "cgroup")?;
    let mounts = outside::mounts_of(&tasks::mounts(init)?, &tasks::mounts(host)?, own_cgroups);
    if let Some(blocker) = interfaces(container.config()) {
        return Err(Error::Blocked(vec![blocker]));
    }
    Ok(Plan {
        init,
        root: container.rootfs().to_owned(),
        freezer: container.cgroup().freezer_path(),
        mounts,
        namespaces: joined(container, init)?,
        interfaces: outside::interfaces(container)?,
        stdio: outside::stdio_of(init),
        memory: tasks::memory(&pids),
        connections: tasks::connections(&pids),
        lock: LockMethod::None,
        lock_network: options.tcp == Tcp::Established && tasks::has_tcp(&pids),
        pids,
    })
}

/// The processes of `container`, the first of which is `init`.
pub(crate) fn processes(container: &Container, init: i32) -> Result<Vec<i32>> {
    let listed = container.cgroup().processes()?.into_iter().map(|pid| pid.as_raw());
    Ok(std::iter::once(init).chain(listed.filter(|pid| *pid != init)).collect())
}

/// Namespaces that the configuration names by path, of the kinds that CRIU can leave to others; and a network that floe has
/// made from outside, as it will again.
fn joined(container: &Container, init: i32) -> Result<Vec<(OutsideNamespace, u64)>> {
    let mut found = Vec::new();
    for (namespace, key) in [(NamespaceKind::Network, "extRootNetNS"), (NamespaceKind::Pid, "extRootPidNS")] {
        let kind = namespace.proc_name();
        let config = container.config();
        let made = namespace == NamespaceKind::Network && floe_runtime::network_is_made(config);
        if config.namespace(namespace).is_some_and(|namespace| made || namespace.path.is_some()) {
            let namespace = OutsideNamespace { kind: kind.to_owned(), key: key.to_owned() };
            found.push((namespace, tasks::namespace(init, kind)?));
        }
    }
    Ok(found)
}

/// A network that is made before the processes belongs to floe's user namespace: in one of their own they would have
/// fewer rights over it than before. A container that could not be restored is better left running.
fn interfaces(config: &Config) -> Option<Blocker> {
    let made = floe_runtime::network_is_made(config) && config.creates(NamespaceKind::Network);
    (made && config.namespace(NamespaceKind::User).is_some()).then(|| Blocker {
        pid: None,
        process: String::new(),
        what: "has a user namespace and interfaces that floe made, which are not brought back together:"
            .to_owned(),
        on: "networks, routes or linux.netDevices".to_owned(),
        hint: "join a network namespace that is made outside (`path` of the namespace)".to_owned(),
    })
}
