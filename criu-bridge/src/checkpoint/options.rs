//! What a caller may choose about a checkpoint.

use std::time::Duration;

use floe_runtime::config::Config;

use crate::application::Hooks;
use crate::error::Result;
use crate::extra::Extra;
use crate::given::Direction;
use crate::outside::NetworkLock;
use crate::progress::Progress;

/// What is done about TCP connections that are open at the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tcp {
    /// Refuse, naming them. Nothing is frozen.
    #[default]
    Fail,
    /// Keep them: they go on after the restore if the address is there and the other side waited.
    Established,
    /// Close them: the container finds them reset after the restore.
    Close,
    /// Leave out those that the container has not accepted yet; refuse the others, naming them.
    SkipInFlight,
}

/// How a checkpoint is made. The defaults are those of `floe checkpoint` without flags.
#[derive(Debug, Clone)]
pub struct Options {
    /// Let the container go on afterwards; otherwise it is gone once the archive is safe.
    pub leave_running: bool,
    /// What is done about TCP connections.
    pub tcp: Tcp,
    /// Leave out TCP connections that the container has not accepted yet, whatever is done about the others.
    pub tcp_skip_in_flight: bool,
    /// How packets are held back while connections that are to be kept are taken.
    pub network_lock: NetworkLock,
    /// Keep file locks (flock(2), fcntl(2)) that the container holds.
    pub file_locks: bool,
    /// Let UNIX sockets go whose other side is outside the container.
    pub ext_unix_sk: bool,
    /// The container's session or terminal belongs to a process outside.
    pub shell_job: bool,
    /// Give deleted files that are still open a name for the time of the snapshot, instead of a copy in it.
    pub link_remap: bool,
    /// Look first for what CRIU cannot take, and refuse it.
    pub check: bool,
    /// Longest time without a sign from CRIU.
    pub timeout: Duration,
    /// Level of zstd, 1 to 19.
    pub level: i32,
    /// Bytes of pages that may wait in memory for compression; `None` takes up to half of what the host has available,
    /// and less than the container has itself.
    pub spool_budget: Option<u64>,
    /// Commands around the freeze, besides those of the configuration.
    pub hooks: Hooks,
    /// What runc's form has besides.
    pub extra: Extra,
}

impl Options {
    /// With the options of CRIU that the configuration file holds which `config` names, and with what all of them say of
    /// floe's own choices.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for one that is not taken; [`crate::Error::Call`] if the file cannot be read.
    pub fn settled(&self, config: &Config, progress: &dyn Progress) -> Result<Self> {
        let mut options = self.clone();
        options.extra.criu = self.extra.criu.with_file(config, progress)?;
        options.extra.criu.check(Direction::Dump)?;
        let flags = options.extra.criu.flags()?;
        match (flags.tcp_established, flags.tcp_close) {
            (Some(true), _) => options.tcp = Tcp::Established,
            (_, Some(true)) => options.tcp = Tcp::Close,
            _ => {}
        }
        let fields = [
            (&mut options.file_locks, flags.file_locks),
            (&mut options.ext_unix_sk, flags.ext_unix_sk),
            (&mut options.shell_job, flags.shell_job),
            (&mut options.link_remap, flags.link_remap),
        ];
        fields.into_iter().for_each(|(field, said)| *field = said.unwrap_or(*field));
        Ok(options)
    }
}

impl Options {
    /// Whether connections that were not accepted yet are left out. Where the others are closed, these are too.
    pub(crate) fn skips_in_flight(&self) -> bool {
        self.tcp_skip_in_flight || matches!(self.tcp, Tcp::SkipInFlight | Tcp::Close)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            leave_running: false,
            tcp: Tcp::Fail,
            tcp_skip_in_flight: false,
            network_lock: NetworkLock::Auto,
            file_locks: false,
            ext_unix_sk: false,
            shell_job: false,
            link_remap: false,
            check: true,
            timeout: Duration::from_secs(60),
            level: 1,
            spool_budget: None,
            hooks: Hooks::default(),
            extra: Extra::default(),
        }
    }
}
