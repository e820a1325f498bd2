//! Which devices a cgroup's processes may open and make.
//!
//! Version 1 keeps a list in the kernel; version 2 asks an eBPF program. Both come from the same rules, and both mean
//! what version 1's list means: a [`DeviceList`].

mod attach;
mod list;
mod program;
mod sys;
mod unit;
mod v1;

pub(super) use attach::enforce as enforce_v2;
pub(super) use list::DeviceList;
pub(super) use unit::rules as unit_rules;
pub(super) use v1::enforce as enforce_v1;

use crate::config::DeviceAccess;
use crate::privilege;

/// Letters of an access, in the kernel's order.
fn letters(access: DeviceAccess) -> String {
    [(access.read, 'r'), (access.write, 'w'), (access.mknod, 'm')]
        .into_iter()
        .filter_map(|(wanted, letter)| wanted.then_some(letter))
        .collect()
}

/// Whether device rules may be passed over when the kernel doesn't take them. In a user namespace, and without being
/// root, nobody may set them; nor can a device node be made there that the host didn't give.
pub(super) fn may_be_without() -> bool {
    !privilege::is_host_root()
}
