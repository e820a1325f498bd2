//! The container's share of caches and memory bandwidth: `linux.intelRdt` of the OCI runtime specification, the
//! kernel's `resctrl` (`Documentation/filesystems/resctrl.rst`).

use serde::{Deserialize, Serialize};

/// What the container's group in `resctrl` is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntelRdt {
    /// The group's name, one path component; `/` is the group of everybody. `None` makes one that is named after the
    /// container and goes with it.
    pub clos_id: Option<String>,
    /// Lines of `schemata` about caches, as a rule one: `L3:…`.
    pub l3_cache_schema: Option<String>,
    /// A line of `schemata` about memory bandwidth, `MB:…`.
    pub mem_bw_schema: Option<String>,
    /// Further lines of `schemata`, which go last.
    pub schemata: Vec<String>,
    /// Give the container a monitoring group of its own.
    pub enable_monitoring: bool,
}

/// A change of it, while the container runs. What is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    /// Lines of `schemata` about caches.
    pub l3_cache_schema: Option<String>,
    /// A line of `schemata` about memory bandwidth.
    pub mem_bw_schema: Option<String>,
}

impl Shares {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.l3_cache_schema.is_none() && self.mem_bw_schema.is_none()
    }

    /// Changes what is wanted.
    pub(crate) fn put_into(&self, wanted: &mut IntelRdt) {
        for (new, old) in [
            (&self.l3_cache_schema, &mut wanted.l3_cache_schema),
            (&self.mem_bw_schema, &mut wanted.mem_bw_schema),
        ] {
            if new.is_some() {
                old.clone_from(new);
            }
        }
    }
}
