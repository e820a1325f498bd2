//! `floe exec`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use floe_runtime::config::{Process, oci};
use floe_runtime::{Container, ExecOptions};

use crate::args::Globals;
use crate::foreground::{Console, Waiter, write_pid};

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// A file with an OCI `process` object to execute instead.
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// A UNIX socket that gets the master of the terminal.
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container.
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Another environment variable, NAME=VALUE.
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal.
    #[arg(long, short)]
    tty: bool,
    /// User, and group, as numbers.
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Another group.
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Do not wait for its end.
    #[arg(long, short)]
    detach: bool,
    /// Write its pid here.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// It can never gain privileges.
    #[arg(long)]
    no_new_privs: bool,
    /// Another capability.
    #[arg(long, short, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// How many descriptors from 3 on it inherits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let container = super::container(globals, &arguments.id)?;
    let process = process(&container, &arguments)?;
    let waiter = if arguments.detach { None } else { Some(Waiter::new()?) };
    if process.terminal && arguments.detach && arguments.console_socket.is_none() {
        bail!("a terminal needs somebody who takes it; pass --console-socket, or leave out --detach");
    }
    let mut console = Console::choose(process.terminal, arguments.console_socket.as_deref(), arguments.detach)?;
    let options = ExecOptions { process, console: console.take(), preserve_fds: arguments.preserve_fds };
    let pid = container.exec(options)?;
    if let Some(path) = &arguments.pid_file {
        write_pid(path, pid)?;
    }
    let terminal = console.attach()?;
    match waiter {
        Some(waiter) => waiter.wait(pid, terminal.as_ref()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The container's own process, with what was typed in its place.
fn process(container: &Container, arguments: &Arguments) -> anyhow::Result<Process> {
    if let Some(path) = &arguments.process {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let mut process = oci::process_from_json(&text, path)?;
        process.terminal |= arguments.tty;
        return Ok(process);
    }
    if arguments.command.is_empty() {
        bail!("name the command to execute, or a file with --process");
    }
    let mut process = container.config().process.clone();
    process.args.clone_from(&arguments.command);
    process.terminal = arguments.tty;
    process.console_size = None;
    process.env.extend(arguments.env.iter().cloned());
    if let Some(cwd) = &arguments.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &arguments.user {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        let number = |text: &str| text.parse().with_context(|| format!("--user {user}: {text:?} is no number"));
        process.user.uid = number(uid)?;
        if !gid.is_empty() {
            process.user.gid = number(gid)?;
        }
    }
    process.user.additional_gids.extend(&arguments.additional_gids);
    process.no_new_privileges |= arguments.no_new_privs;
    for name in &arguments.cap {
        let capability = name.parse().with_context(|| format!("--cap {name}"))?;
        let sets = process.capabilities.get_or_insert_default();
        sets.bounding.insert(capability);
        sets.effective.insert(capability);
        sets.permitted.insert(capability);
    }
    Ok(process)
}
