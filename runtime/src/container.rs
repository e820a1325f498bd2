//! A container and what can be done with it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a container is doing, as `state` of the OCI runtime specification shows it (`Paused` is runc's addition).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its name is taken and it is being made, or whoever made it died.
    Creating,
    /// Everything is set up, its first process waits for `start`.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process runs and is frozen.
    Paused,
    /// Its first process has ended (a zombie counts as ended).
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}
