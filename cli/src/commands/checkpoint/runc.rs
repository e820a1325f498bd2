//! What runc's `checkpoint` and `restore` tell CRIU besides.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use floe_criu_bridge::extra::{CgroupsMode, Extra};
use floe_criu_bridge::given::CriuOptions;

/// What both directions have.
#[derive(Debug, Args)]
pub struct Told {
    /// What CRIU does about cgroups.
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<Mode>,
    /// A namespace whose content is left to whoever sets it up afterwards.
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<Namespace>,
    /// Another option of CRIU's, by its name in criu(8); config-file=PATH names a configuration file of CRIU's.
    #[arg(long, value_name = "NAME[=VALUE]")]
    criu_option: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// What is missing is made, with its limits.
    Soft,
    /// What is there gets the limits of the dump too.
    Full,
    /// Nothing of them may be there.
    Strict,
    /// A dump holds none, and a restore makes none.
    Ignore,
}

/// CRIU can leave no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Namespace {
    /// Its interfaces, addresses, routes and rules.
    Network,
}

impl Told {
    /// What CRIU does about cgroups.
    fn cgroups(&self) -> CgroupsMode {
        match self.manage_cgroups_mode {
            None => CgroupsMode::Usual,
            Some(Mode::Soft) => CgroupsMode::Soft,
            Some(Mode::Full) => CgroupsMode::Full,
            Some(Mode::Strict) => CgroupsMode::Strict,
            Some(Mode::Ignore) => CgroupsMode::Ignore,
        }
    }

    /// As the bridge takes it.
    pub fn extra(&self, work: Option<PathBuf>) -> Extra {
        let criu = CriuOptions::of(&self.criu_option);
        Extra { work, cgroups: self.cgroups(), empty_network: self.empty_network(), criu, before: None }
    }

    /// Whether the network namespace is left empty.
    fn empty_network(&self) -> bool {
        self.empty_ns.contains(&Namespace::Network)
    }
}
