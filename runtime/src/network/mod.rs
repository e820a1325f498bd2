//! A container's network: what floe does for it from outside, in the middle of a launch.
//!
//! A new network namespace has nothing but a loopback interface, which the container's process brings up itself
//! ([`crate::init`]). All else is done by its parent while it waits: interfaces of the host are the host's to give, and
//! a process that is to become a container's program need not carry the means.
//!
//! ```text
//!   parent                                                    kernel
//!    │ a thread of a moment enters the namespace and leaves a socket there
//!    │ Plan::new: names, of what is asked for and what is there
//!    │ network.json: what is about to be done
//!    │ ── pair, one end in the namespace ───────────────────► │   or: interface, into the namespace
//!    │ ── addresses, up, default routes (socket in there) ──► │
//!    │ ── routes ───────────────────────────────────────────► │
//! ```
//!
//! Nothing is done, and no file looked for, when the configuration asks for nothing of that.
//!
//! **What is taken back.** Each step is in `network.json` ([`notes`]) before it is done, so that a failure later on, a
//! `delete`, and a `delete` after a killed floe all undo it the same way. Pairs are removed. A `host-device` goes back
//! to the host under its name, with the addresses and settings that it had; until then a mount in the container's
//! folder keeps the namespace alive, since the kernel brings only hardware back by itself, and ends all else with the
//! namespace. What `linux.netDevices` names is brought back when the creation fails and when a checkpoint ends the
//! container (whose restore will ask for it), and never else: the specification leaves that to the owner of the namespace,
//! and to the kernel. What was added to a namespace that the
//! container only joined (routes, addresses of the loopback interface) is taken out of it; its loopback interface stays
//! up, for others may use it by then.
//!
//! What cannot be taken back as it was: an interface that somebody with rights over the container's network has renamed
//! *and* given another hardware address, or has moved on, or has replaced by one of the same kind and address, which
//! looks the same; and one that was a port of a bridge or a bond on the host comes back without that.

mod address;
mod ahead;
mod link;
mod namespace;
mod netlink;
mod notes;
mod plan;
mod route;
mod setup;
mod taken;
mod usage;

pub(crate) use ahead::Ahead;
pub use netlink::NetlinkError;
pub(crate) use notes::{hardware_addresses, hold, let_go, settle, take_back};
pub(crate) use setup::set_up;
pub(crate) use taken::in_common;
pub use usage::InterfaceUse;
pub(crate) use usage::usage;

use crate::config::Config;
use crate::error::Error;

/// Whether floe makes interfaces or routes of this configuration from outside, so that a restore makes them anew.
#[must_use]
pub fn is_needed(config: &Config) -> bool {
    plan::Plan::is_needed(config)
}

/// For `map_err`: what could not be done, and to which interface.
fn cannot(doing: impl Into<String>, on: impl ToString) -> impl FnOnce(NetlinkError) -> Error {
    move |source| Error::Network { on: on.to_string(), doing: doing.into(), source }
}
