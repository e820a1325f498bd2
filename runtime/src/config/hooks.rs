//! Programs that run at points of a container's life.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One program. It gets the container's OCI state as JSON on its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its arguments, `argv[0]` included; empty means just the path.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=VALUE` each; empty means the runtime's own, which in the container is none.
    pub env: Vec<String>,
    /// The folder that it begins in; `None` leaves it to where its runtime is. An OCI configuration has none.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// How long it may take before it is killed; `None` waits without limit.
    pub timeout: Option<Duration>,
}

/// The hooks by the point at which they run, each list in order (`config.md` of the OCI runtime specification).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// In the runtime's namespaces, after the namespaces exist and before the root is changed. Deprecated there, but
    /// still what network and device tools use.
    pub prestart: Vec<Hook>,
    /// As `prestart`, and after it.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the root is changed: the host's files are still there.
    pub create_container: Vec<Hook>,
    /// In the container, as part of `start`, before the program is executed and with its rights.
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces after the program was executed, before `start` returns; a failure ends the container.
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces after the container is deleted, or could not be created; a failure is a warning.
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Each list with the name of its point, in the order in which they run.
    #[must_use]
    pub fn by_point(&self) -> [(&'static str, &[Hook]); 6] {
        let Self { prestart, create_runtime, create_container, start_container, poststart, poststop } = self;
        [
            ("prestart", prestart),
            ("createRuntime", create_runtime),
            ("createContainer", create_container),
            ("startContainer", start_container),
            ("poststart", poststart),
            ("poststop", poststop),
        ]
    }
}
