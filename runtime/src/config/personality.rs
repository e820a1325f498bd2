//! Which system processes take the kernel for.

use serde::{Deserialize, Serialize};

/// Which system a process takes its kernel for, `personality(2)`. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u32)]
pub enum Personality {
    /// What it is.
    #[serde(rename = "LINUX")]
    Linux = 0,
    /// A 32-bit one: `uname(2)` says so.
    #[serde(rename = "LINUX32")]
    Linux32 = 8,
}
