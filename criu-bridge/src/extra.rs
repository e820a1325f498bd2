//! What runc's form of `checkpoint` and `restore` has beside floe's: where logs go, and what CRIU is told besides.

use std::path::PathBuf;

use crate::given::CriuOptions;

/// What a caller may choose besides, for both directions.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// The folder that gets CRIU's log and figures as well, whether it succeeds or not.
    pub work: Option<PathBuf>,
    /// What CRIU does about cgroups.
    pub cgroups: CgroupsMode,
    /// Leave the content of the network namespace (interfaces, addresses, rules) to whoever sets it up afterwards.
    pub empty_network: bool,
    /// The folder of the round before, on which a dump builds.
    pub before: Option<PathBuf>,
    /// Options of CRIU's.
    pub criu: CriuOptions,
}

/// What CRIU does about cgroups (`--manage-cgroups` of criu(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupsMode {
    /// A dump names them, for runtimes whose restore wants them; floe's own restore makes them of the configuration.
    #[default]
    Usual,
    /// What is missing is made, with its limits.
    Soft,
    /// What is there gets the limits of the dump too.
    Full,
    /// Nothing of them may be there.
    Strict,
    /// A dump holds none, and a restore makes none.
    Ignore,
}
