//! Commands of the application around a freeze: the flags of `checkpoint` and of `restore`.

use std::time::Duration;

use clap::Args;
use floe_criu_bridge::Error;
use floe_criu_bridge::application::{Hooks, Moment, Side};

/// Commands around a freeze.
#[derive(Debug, Args)]
pub struct AroundFreeze {
    /// Run this in the container before it is frozen; if it fails, nothing is frozen.
    #[arg(long, value_name = "COMMAND")]
    before_freeze: Vec<String>,
    /// Run this in the container when it runs on, whatever became of the checkpoint.
    #[arg(long, value_name = "COMMAND")]
    after_freeze: Vec<String>,
    /// Run this on the host before the container is frozen; if it fails, nothing is frozen.
    #[arg(long, value_name = "COMMAND")]
    host_before_freeze: Vec<String>,
    /// Run this on the host when the checkpoint is over, whatever became of it.
    #[arg(long, value_name = "COMMAND")]
    host_after_freeze: Vec<String>,
    #[command(flatten)]
    limit: Limit,
}

impl AroundFreeze {
    pub fn hooks(&self) -> Result<Hooks, Error> {
        self.limit.hooks([
            (Moment::BeforeFreeze, Side::Host, &self.host_before_freeze),
            (Moment::BeforeFreeze, Side::Container, &self.before_freeze),
            (Moment::AfterFreeze, Side::Container, &self.after_freeze),
            (Moment::AfterFreeze, Side::Host, &self.host_after_freeze),
        ])
    }
}

/// Commands after a restore.
#[derive(Debug, Args)]
pub struct AfterRestore {
    /// Run this in the restored container; if it fails, the restore is taken back.
    #[arg(long, value_name = "COMMAND")]
    after_restore: Vec<String>,
    /// Run this on the host when the restored container runs; if it fails, the restore is taken back.
    #[arg(long, value_name = "COMMAND")]
    host_after_restore: Vec<String>,
    #[command(flatten)]
    limit: Limit,
}

impl AfterRestore {
    pub fn hooks(&self) -> Result<Hooks, Error> {
        self.limit.hooks([
            (Moment::AfterRestore, Side::Container, &self.after_restore),
            (Moment::AfterRestore, Side::Host, &self.host_after_restore),
        ])
    }
}

#[derive(Debug, Args)]
struct Limit {
    /// How long each of the commands may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    hook_timeout: u64,
}

impl Limit {
    fn hooks<const N: usize>(&self, given: [(Moment, Side, &Vec<String>); N]) -> Result<Hooks, Error> {
        let mut hooks = Hooks::default();
        hooks.timeout = Duration::from_secs(self.hook_timeout);
        for (moment, side, lines) in given {
            lines.iter().try_for_each(|line| hooks.add(moment, side, line))?;
        }
        Ok(hooks)
    }
}
