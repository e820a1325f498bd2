//! What keeps a container's processes away from floe's own, while floe's code runs in its namespaces: they must not attach
//! to it, nor reach its descriptors through /proc (CVE-2016-9962). `execve(2)` makes it an ordinary process again.

use crate::error::{Error, Result};

/// Whether this process can be looked into (`PR_SET_DUMPABLE` of `prctl(2)`), and by whom it has to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shield {
    /// By no process of its own user.
    up: bool,
    /// Whether floe, outside, is an ordinary user: then the files of a process that is shielded are closed to it too.
    ordinary: bool,
}

impl Shield {
    /// Raises it, in a process that is still in the caller's namespaces. An ordinary user's is raised only if other
    /// namespaces are joined: in new ones there is nobody, and hooks and agents of that user have to reach the process.
    pub(super) fn raise(only_new_namespaces: bool) -> Result<Self> {
        let ordinary = !nix::unistd::geteuid().is_root();
        let shield = Self { up: !ordinary || !only_new_namespaces, ordinary };
        shield.restore()?;
        nix::sys::prctl::set_name(super::NAME).map_err(Error::at("prctl", "PR_SET_NAME"))?;
        Ok(shield)
    }

    /// As it was raised: a change of user may have set it otherwise.
    pub(super) fn restore(&self) -> Result<()> {
        set(!self.up)
    }

    /// Lowers it for something that floe does from outside, until [`Shield::restore`], where it has to be.
    pub(super) fn lower(&self) -> Result<()> {
        if self.ordinary { set(true) } else { Ok(()) }
    }

    /// Whether floe can take a descriptor of this process from outside.
    pub(super) fn lets_take(&self) -> bool {
        !self.ordinary || !self.up
    }
}

fn set(dumpable: bool) -> Result<()> {
    nix::sys::prctl::set_dumpable(dumpable).map_err(Error::at("prctl", "PR_SET_DUMPABLE"))
}
