//! `linux.memoryPolicy`.

use oci_spec::runtime::{Linux, MemoryPolicyFlagType, MemoryPolicyModeType};

use super::{Source, scheduling};
use crate::config::{MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode};
use crate::error::Result;

pub(super) fn convert(linux: &Linux, source: Source<'_>) -> Result<Option<MemoryPolicy>> {
    let Some(given) = linux.memory_policy() else { return Ok(None) };
    let mode = match given.mode() {
        MemoryPolicyModeType::MpolDefault => MemoryPolicyMode::Default,
        MemoryPolicyModeType::MpolBind => MemoryPolicyMode::Bind,
        MemoryPolicyModeType::MpolInterleave => MemoryPolicyMode::Interleave,
        MemoryPolicyModeType::MpolWeightedInterleave => MemoryPolicyMode::WeightedInterleave,
        MemoryPolicyModeType::MpolPreferred => MemoryPolicyMode::Preferred,
        MemoryPolicyModeType::MpolPreferredMany => MemoryPolicyMode::PreferredMany,
        MemoryPolicyModeType::MpolLocal => MemoryPolicyMode::Local,
    };
    let key = "linux.memoryPolicy.nodes";
    let nodes = scheduling::numbers(given.nodes(), key, source)?;
    match (mode, &nodes) {
        (MemoryPolicyMode::Default | MemoryPolicyMode::Local, Some(_)) => {
            return Err(source.bad(key, "is set, and this mode takes no nodes"));
        }
        // Then it is the node that asks.
        (MemoryPolicyMode::Default | MemoryPolicyMode::Local | MemoryPolicyMode::Preferred, None) => {}
        (_, None) => return Err(source.bad(key, "is missing, and this mode needs it")),
        (_, Some(_)) => {}
    }
    let flag = |flag: &MemoryPolicyFlagType| match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => MemoryPolicyFlag::NumaBalancing,
        MemoryPolicyFlagType::MpolFRelativeNodes => MemoryPolicyFlag::RelativeNodes,
        MemoryPolicyFlagType::MpolFStaticNodes => MemoryPolicyFlag::StaticNodes,
    };
    let flags: Vec<MemoryPolicyFlag> = given.flags().iter().flatten().map(flag).collect();
    let has = |flag| flags.contains(&flag);
    if has(MemoryPolicyFlag::RelativeNodes) && has(MemoryPolicyFlag::StaticNodes) {
        return Err(source.bad(
            "linux.memoryPolicy.flags",
            "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other",
        ));
    }
    Ok(Some(MemoryPolicy { mode, nodes, flags }))
}
