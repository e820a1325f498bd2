//! What long work is watched by: flags that `checkpoint` and `restore` share.

use std::time::Duration;

use clap::Args;

use crate::args::{Format, ProgressForm};

/// How the work is watched, and its result told.
#[derive(Debug, Args)]
pub struct Watched {
    /// Longest time without a sign from CRIU, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// How progress is shown.
    #[arg(long, value_name = "FORM", default_value = "auto")]
    pub progress: ProgressForm,
}

impl Watched {
    /// Whether the result is JSON.
    pub fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Longest time without a sign from CRIU.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.max(1))
    }
}
