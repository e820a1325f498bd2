//! From which memory nodes a process's memory comes, `set_mempolicy(2)`.

use serde::{Deserialize, Serialize};

use super::NumberSet;

/// A policy, which every process of the container inherits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// The mode.
    pub mode: MemoryPolicyMode,
    /// The nodes that it is about; `None` for [`MemoryPolicyMode::Default`] and [`MemoryPolicyMode::Local`].
    pub nodes: Option<NumberSet>,
    /// Flags.
    pub flags: Vec<MemoryPolicyFlag>,
}

/// A mode of `set_mempolicy(2)`. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named as in set_mempolicy(2), which documents it")]
#[repr(i32)]
pub enum MemoryPolicyMode {
    #[serde(rename = "MPOL_DEFAULT")]
    Default = 0,
    #[serde(rename = "MPOL_PREFERRED")]
    Preferred = 1,
    #[serde(rename = "MPOL_BIND")]
    Bind = 2,
    #[serde(rename = "MPOL_INTERLEAVE")]
    Interleave = 3,
    #[serde(rename = "MPOL_LOCAL")]
    Local = 4,
    /// Linux 5.15.
    #[serde(rename = "MPOL_PREFERRED_MANY")]
    PreferredMany = 5,
    /// Linux 6.9.
    #[serde(rename = "MPOL_WEIGHTED_INTERLEAVE")]
    WeightedInterleave = 6,
}

/// A flag of `set_mempolicy(2)`. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named as in set_mempolicy(2), which documents it")]
#[repr(i32)]
pub enum MemoryPolicyFlag {
    /// Linux 5.12.
    #[serde(rename = "MPOL_F_NUMA_BALANCING")]
    NumaBalancing = 1 << 13,
    #[serde(rename = "MPOL_F_RELATIVE_NODES")]
    RelativeNodes = 1 << 14,
    #[serde(rename = "MPOL_F_STATIC_NODES")]
    StaticNodes = 1 << 15,
}
