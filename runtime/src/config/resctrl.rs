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
