//! What a checkpoint was asked to allow, as far as the looks before it care.

use crate::checkpoint::{Options, Tcp};
use crate::version::Version;

/// What is copied of a deleted file at most, unless `ghost-limit` says otherwise (`DEFAULT_GHOST_LIMIT` of CRIU), in bytes.
const GHOST_LIMIT: u64 = 1 << 20;

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whether TCP connections may be there.
    pub tcp: bool,
    /// Whether connections that nobody has accepted may be lost.
    pub skip_in_flight: bool,
    /// Whether file locks are kept.
    pub file_locks: bool,
    /// Whether UNIX datagram sockets may lead outside.
    pub ext_unix_sk: bool,
    /// Whether session and terminal may be outside.
    pub shell_job: bool,
    /// Whether deleted files may be given names.
    pub link_remap: bool,
    /// Largest deleted file that is copied, in bytes.
    pub ghost_limit: u64,
    /// Whether watched files are looked up by their paths.
    pub force_irmap: bool,
    /// The CRIU that would dump; `None` if nobody asked for one yet.
    pub criu: Option<Version>,
}

impl Asked {
    /// The same for this CRIU.
    pub fn of(mut self, criu: Version) -> Self {
        self.criu = Some(criu);
        self
    }
}

impl From<&Options> for Asked {
    fn from(options: &Options) -> Self {
        Self {
            tcp: matches!(options.tcp, Tcp::Established | Tcp::Close),
            skip_in_flight: options.skips_in_flight(),
            file_locks: options.file_locks,
            ext_unix_sk: options.ext_unix_sk,
            shell_job: options.shell_job,
            link_remap: options.link_remap,
            ghost_limit: options.extra.criu.ghost_limit().unwrap_or(GHOST_LIMIT),
            force_irmap: options.extra.criu.force_irmap(),
            criu: None,
        }
    }
}

impl Default for Asked {
    fn default() -> Self {
        Self::from(&Options::default())
    }
}
