//! `floe create`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use floe_runtime::{Container, ContainerId, CreateOptions, Store};

use crate::args::Globals;
use crate::foreground::{Console, write_pid};

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
    let mut console = Console::choose(true, arguments.common.console_socket.as_deref(), true)?;
    create(globals, &arguments.common, &mut console)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the container. Its first process is our child.
pub fn create(globals: &Globals, common: &Common, console: &mut Console) -> anyhow::Result<(Container, Store)> {
    let id = ContainerId::parse(&common.id)?;
    let store = Store::open(&globals.root)?;
    let options = CreateOptions {
        console: console.take(),
        preserve_fds: common.preserve_fds,
        no_pivot: common.no_pivot,
        no_new_keyring: common.no_new_keyring,
    };
    let container = store.create(&id, &common.bundle, options)?;
    if let (Some(path), Some(pid)) = (&common.pid_file, container.init_pid()) {
        if let Err(error) = write_pid(Path::new(path), pid) {
            container.delete(true)?;
            return Err(error);
        }
    }
    Ok((container, store))
}
