//! Dumps in several rounds: what changed between two of them is known only to kernels that track it.

use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::preflight::Blocker;

/// Whether this kernel tracks which memory changes, as dumps of memory only, and those that build on them, need it.
///
/// # Errors
/// [`Error::Blocked`] if it does not; [`Error::NotCriu`] if CRIU does not say.
pub fn needs_tracking(criu: &Criu) -> Result<()> {
    if criu.features()?.mem_track {
        return Ok(());
    }
    Err(Error::Blocked(vec![Blocker {
        pid: None,
        process: String::new(),
        what: "this kernel does not track which memory changes, so a dump of memory only is of no use"
            .to_owned(),
        on: String::new(),
        hint: "checkpoint it whole, or use a kernel with CONFIG_MEM_SOFT_DIRTY".to_owned(),
    }]))
}
