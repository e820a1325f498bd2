//! The scheduling priority of one thread.

use rustix::process::{getpriority_process, setpriority_process};

/// The nice value at which a thread gets what others leave over (setpriority(2)).
const LOWEST: i32 = 19;

/// The calling thread's priority: its usual one, or the lowest. On Linux the nice value is a thread's, not a
/// process's (setpriority(2), "C library/kernel differences").
#[derive(Debug)]
pub(crate) struct Priority {
    usual: i32,
    low: bool,
}

impl Priority {
    /// As it is now.
    pub(crate) fn usual() -> Self {
        // A thread whose priority cannot be read is never changed to another than this.
        Self { usual: getpriority_process(None).unwrap_or(LOWEST), low: false }
    }

    /// The usual one where somebody waits. Without the right to come back from it (CAP_SYS_NICE, RLIMIT_NICE) the
    /// lowest one stays: the work is done all the same.
    pub(crate) fn set(&mut self, urgent: bool) {
        if urgent == self.low {
            let wanted = if urgent { self.usual } else { LOWEST };
            if setpriority_process(None, wanted).is_ok() {
                self.low = !urgent;
            }
        }
    }
}
