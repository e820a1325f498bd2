//! The cgroups that restored processes belong to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use floe_runtime::cgroup::{Cgroup, InnerCgroup, make_inner};
use floe_runtime::config::{Config, Resources};
use nix::unistd::Pid;

use crate::error::Result;
use crate::outside::places;
use crate::progress::Progress;
use crate::record::Record;

/// Limits as this host remembers them: `update` may have made them others than the configuration's. Devices are the
/// configuration's alone.
pub(super) fn as_they_were(config: &mut Config, record: &Record) {
    if let Some(resources) = &record.resources {
        let devices = std::mem::take(&mut config.resources.devices);
        config.resources = Resources { devices, ..resources.clone() };
    }
}

/// Where the processes of a snapshot are to be.
#[derive(Debug)]
pub(super) struct Places {
    /// Cgroups below the container's.
    groups: Vec<InnerCgroup>,
    /// The numbers of all processes in the container.
    numbers: Vec<u32>,
    /// The container's cgroup by hierarchy, as `/proc/PID/cgroup` shows it of one that is there.
    here: BTreeMap<String, PathBuf>,
}

impl Places {
    /// `there` is a process that is in the container's cgroup. With `trusted` the snapshot is this host's own.
    pub(super) fn new(groups: &[InnerCgroup], trusted: bool, numbers: Vec<u32>, there: i32) -> Result<Self> {
        // Who may write to a cgroup of this host is not for a snapshot from elsewhere to say.
        let owned =
            |group: &InnerCgroup| InnerCgroup { owner: group.owner.filter(|_| trusted), ..group.clone() };
        Ok(Self { groups: groups.iter().map(owned).collect(), numbers, here: places::cgroups(there)? })
    }

    /// Puts each process of the tree below `init`, which stands still, into the cgroup that it was in, and looks for it
    /// there.
    pub(super) fn settle(&self, init: i32, cgroup: &dyn Cgroup, progress: &dyn Progress) -> Result<()> {
        let found = places::tree(init);
        if !self.groups.is_empty() {
            let number = |number: u32| found.get(&number).copied().map(Pid::from_raw);
            for hierarchy in make_inner(cgroup, &self.groups, &number)? {
                progress.warn(&format!(
                    "it had cgroups of its own in the hierarchy {hierarchy:?}, which this host does not have"
                ));
            }
        }
        places::demand(cgroup, &self.here, &found, self.numbers.iter().copied())
    }
}
