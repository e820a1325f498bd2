//! Who hears of long work.

/// Hears how far long work is, and may stop it.
pub trait Progress: Sync {
    /// `done` of `total` plain bytes are through.
    fn bytes(&self, _done: u64, _total: u64) {}

    /// Whether to stop; asked often.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Hears nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unheard;

impl Progress for Unheard {}
