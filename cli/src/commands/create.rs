//! `floe create`

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use floe_runtime::config::native::ProcessArguments;
use floe_runtime::foreground::Foreground;
use floe_runtime::{Blueprint, Container, ContainerId, CreateOptions, Store};

use crate::activation;
use crate::args::Globals;
use crate::foreground::{PidfdSocket, console_socket, write_pid};

/// What `create` and `run` have in common.
#[derive(Debug, Args)]
pub struct Common {
    /// Name of the container.
    pub id: String,
    /// The bundle: a folder with config.json and a root file system.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// A native configuration (the JSON of libcontainer's Config) instead of a bundle; what is executed follows the name.
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    pub config: Option<PathBuf>,
    /// With --config: the command and its arguments.
    #[arg(trailing_var_arg = true, requires = "config")]
    pub command: Vec<String>,
    /// With --config: an environment variable, NAME=VALUE.
    #[arg(long, short, value_name = "NAME=VALUE", requires = "config")]
    pub env: Vec<String>,
    /// With --config: the working directory in the container.
    #[arg(long, value_name = "DIR", requires = "config")]
    pub cwd: Option<PathBuf>,
    /// With --config: user and group, as numbers or as the container's /etc/passwd names them.
    #[arg(long, short, value_name = "USER[:GROUP]", requires = "config")]
    pub user: Option<String>,
    /// With --config: give it a terminal.
    #[arg(long, short, requires = "config")]
    pub tty: bool,
    /// A UNIX socket that gets the master of the container's terminal.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// A UNIX socket that gets a descriptor of the container's first process.
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
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
    let pidfd_socket = PidfdSocket::connect(arguments.common.pidfd_socket.as_deref())?;
    let mut uninterrupted = Foreground::prepare(false)?;
    let container = create(globals, &arguments.common, || blueprint(&arguments.common), console)?;
    tell(&arguments.common, &pidfd_socket, &container)?;
    take_back_if_interrupted(&mut uninterrupted, &container)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the container. Its first process is our child, and starts while the blueprint is read.
pub fn create(
    globals: &Globals,
    common: &Common,
    blueprint: impl FnOnce() -> floe_runtime::Result<Blueprint>,
    console: Option<OwnedFd>,
) -> anyhow::Result<Container> {
    let id = ContainerId::parse(&common.id)?;
    let sockets = activation::descriptors();
    let told = || {
        let mut blueprint = blueprint()?;
        activation::tell(&mut blueprint.config.process, sockets);
        Ok(blueprint)
    };
    let options = CreateOptions {
        console,
        streams: Default::default(),
        preserve_fds: common.preserve_fds.saturating_add(sockets),
        no_pivot: common.no_pivot,
        no_new_keyring: common.no_new_keyring,
        systemd_cgroup: globals.systemd_cgroup,
    };
    Ok(Store::open(&globals.root)?.create_of(&id, told, options)?)
}

/// What the container is to be made of.
pub fn blueprint(common: &Common) -> floe_runtime::Result<Blueprint> {
    let Some(file) = &common.config else { return Blueprint::of_bundle(&common.bundle) };
    let process = ProcessArguments {
        args: common.command.clone(),
        env: common.env.clone(),
        cwd: common.cwd.clone(),
        user: common.user.clone(),
        terminal: common.tty,
    };
    Blueprint::native(file, &process)
}

/// A signal that came while the container was made: whoever sent it doesn't want the container.
pub fn take_back_if_interrupted(uninterrupted: &mut Foreground, container: &Container) -> anyhow::Result<()> {
    let Some(signal) = uninterrupted.interrupted() else { return Ok(()) };
    container.delete(true)?;
    anyhow::bail!("interrupted by signal {signal}; container {} is taken back", container.id())
}

/// Tells who the first process is, where that was asked for. A container that its engine can't find the process of is
/// taken back.
pub fn tell(common: &Common, pidfd_socket: &PidfdSocket, container: &Container) -> anyhow::Result<()> {
    let Some(pid) = container.recorded_pid() else { return Ok(()) };
    let written = common.pid_file.as_ref().map_or(Ok(()), |path| write_pid(path, pid));
    if let Err(error) = written.and_then(|()| pidfd_socket.send("standard", pid)) {
        container.delete(true)?;
        return Err(error);
    }
    Ok(())
}
