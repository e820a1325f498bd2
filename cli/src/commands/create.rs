//! `floe create`

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use floe_runtime::foreground::Foreground;
use floe_runtime::{Container, ContainerId, CreateOptions, Store};

use crate::args::Globals;
use crate::foreground::{console_socket, write_pid};

/// What `create` and `run` have in common.
#[derive(Debug, Args)]
pub struct Common {
    /// Name of the container.
    pub id: String,
    /// The bundle: a folder with config.json and a root file system.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// A UNIX socket that gets the master of the container's terminal.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the pid of the container's first process here.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Change the root without pivot_root(2), for hosts that run from an initramfs.
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the container inherits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let console = console_socket(arguments.common.console_socket.as_deref())?;
    let mut uninterrupted = Foreground::prepare(false)?;
    let container = create(globals, &arguments.common, console)?;
    record_pid(&arguments.common, &container)?;
    take_back_if_interrupted(&mut uninterrupted, &container)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the container. Its first process is our child.
pub fn create(globals: &Globals, common: &Common, console: Option<OwnedFd>) -> anyhow::Result<Container> {
    let id = ContainerId::parse(&common.id)?;
    let options = CreateOptions {
        console,
        preserve_fds: common.preserve_fds,
        no_pivot: common.no_pivot,
        no_new_keyring: common.no_new_keyring,
    };
    Ok(Store::open(&globals.root)?.create(&id, &common.bundle, options)?)
}

/// A signal that came while the container was made: whoever sent it doesn't want the container.
pub fn take_back_if_interrupted(uninterrupted: &mut Foreground, container: &Container) -> anyhow::Result<()> {
    let Some(signal) = uninterrupted.interrupted() else { return Ok(()) };
    container.delete(true)?;
    anyhow::bail!("interrupted by signal {signal}; container {} is taken back", container.id())
}

/// Writes `--pid-file`. A container that its engine can't find the process of is taken back.
pub fn record_pid(common: &Common, container: &Container) -> anyhow::Result<()> {
    let (Some(path), Some(pid)) = (&common.pid_file, container.recorded_pid()) else { return Ok(()) };
    if let Err(error) = write_pid(path, pid) {
        container.delete(true)?;
        return Err(error);
    }
    Ok(())
}
