//! When the filter of system calls is loaded: as late as can be, since what the process does from then on has to be in
//! the container's profile.

use std::os::fd::{AsRawFd, OwnedFd};

use super::shield::Shield;
use crate::config::Process;
use crate::error::{Error, Result};
use crate::launch::message::{FromChild, Peer};
use crate::seccomp::Filter;

/// The moments at which a filter may be loaded, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the process gives up its capabilities. Without "no new privileges" loading needs `CAP_SYS_ADMIN`
    /// (`seccomp(2)`).
    Privileged,
    /// Before floe is told that all is ready. Later on nobody might be there who hands the agent its descriptor.
    Heard,
    /// Before `execve(2)`.
    Last,
}

/// A filter that is loaded once.
#[derive(Debug)]
pub(super) struct FilterOnce {
    filter: Option<Filter>,
    due: Moment,
    /// What the agent hears from, until it has it: a container's process that keeps it would not see that its agent is
    /// gone.
    listener: Option<OwnedFd>,
    shield: Shield,
    /// Whether prctl(2) ends the process, for all that is known: a filter is in force under which it was not needed yet.
    no_prctl: bool,
}

impl FilterOnce {
    pub(super) fn new(filter: Option<Filter>, process: &Process, shield: &Shield) -> Self {
        let notifies = filter.as_ref().is_some_and(Filter::notifies);
        let due = due(process.no_new_privileges, notifies);
        // The change of capabilities needs it.
        let no_prctl = filter.is_some() && due == Moment::Privileged && process.capabilities.is_none();
        Self { filter, due, listener: None, shield: *shield, no_prctl }
    }

    /// Has the shield as it was before the change of user. Raised by that, it would hide a process from the ordinary user
    /// whose container it is, where the host hides processes (`hidepid` of proc(5)).
    pub(super) fn restore_shield(&self) {
        // A filter that is in force may refuse it. Then floe says so if it cannot see the process.
        if !self.no_prctl {
            let _ = self.shield.restore();
        }
    }

    /// Loads the filter if this is its moment, and tells floe of the listener.
    pub(super) fn load_if_due(&mut self, now: Moment, peer: &mut Peer) -> Result<()> {
        let Some(filter) = self.filter.take_if(|_| self.due == now) else { return Ok(()) };
        if filter.notifies() {
            if !self.shield.lets_take() {
                return Err(Error::start(
                    "linux.seccomp: an agent's descriptor cannot be had of a process that joins other namespaces, \
                     unless floe is run by root",
                ));
            }
            // The change of user may have raised it, and under the filter prctl(2) may be refused.
            self.shield.restore()?;
        }
        self.listener = filter.load()?;
        match &self.listener {
            Some(listener) => peer.send(&FromChild::Listener(listener.as_raw_fd())),
            None => Ok(()),
        }
    }

    /// Floe has handed the listener on.
    pub(super) fn agent_is_told(&mut self) {
        self.listener = None;
    }
}

fn due(no_new_privileges: bool, notifies: bool) -> Moment {
    match (no_new_privileges, notifies) {
        (false, _) => Moment::Privileged,
        (true, true) => Moment::Heard,
        (true, false) => Moment::Last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_loaded_as_late_as_can_be() {
        assert_eq!(due(false, false), Moment::Privileged);
        assert_eq!(due(false, true), Moment::Privileged);
        assert_eq!(due(true, true), Moment::Heard);
        assert_eq!(due(true, false), Moment::Last);
    }
}
