//! `floe exec`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use floe_runtime::cgroup::Below;
use floe_runtime::config::{Process, oci};
use floe_runtime::foreground::Foreground;
use floe_runtime::{Container, ExecOptions};
use nix::unistd::Pid;

use crate::activation;
use crate::args::Globals;
use crate::exit::{self, NoProcess};
use crate::foreground::{PidfdSocket, console_socket, write_pid};

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
    /// A UNIX socket that gets a descriptor of the process.
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
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
    /// AppArmor profile that it gets.
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux label that it gets.
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// How many descriptors from 3 on it inherits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// A cgroup below the container's that it goes to; it exists already.
    #[arg(long, value_name = "[CONTROLLER,…:]PATH")]
    cgroup: Vec<String>,
    /// Join a paused container too; the process waits there until it is resumed.
    #[arg(long)]
    ignore_paused: bool,
}

pub fn run(globals: &Globals, arguments: Arguments) -> anyhow::Result<ExitCode> {
    Ok(exec(globals, &arguments).map_err(NoProcess)?)
}

fn exec(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let container = super::container(globals, &arguments.id)?;
    let mut process = process(&container, arguments)?;
    // Of both kinds: a process with less protection than was asked for would be worse than none.
    let given = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    process.apparmor_profile = given(&arguments.apparmor).or(process.apparmor_profile);
    process.selinux_label = given(&arguments.process_label).or(process.selinux_label);
    if process.terminal && arguments.detach && arguments.console_socket.is_none() {
        bail!("a terminal needs somebody who takes it; pass --console-socket, or leave out --detach");
    }
    let console = console_socket(arguments.console_socket.as_deref())?;
    let pidfd_socket = PidfdSocket::connect(arguments.pidfd_socket.as_deref())?;
    let mut options = ExecOptions {
        process,
        console,
        preserve_fds: arguments.preserve_fds,
        below: Below::parse(&arguments.cgroup)?,
        ignore_paused: arguments.ignore_paused,
    };
    let tell = |pid| {
        pidfd_socket.send("setns", pid).and_then(|()| record_pid(arguments, pid)).inspect_err(|_| {
            // Nobody would know of it. It is a child that nobody has waited for, so the number is its own.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        })
    };
    if arguments.detach {
        let pid = container.exec(options)?;
        tell(pid)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut foreground = Foreground::prepare(false)?;
    if options.process.terminal && options.console.is_none() {
        options.console = Some(foreground.console_socket()?);
        options.process.console_size = foreground.terminal_size().or(options.process.console_size);
    }
    let pid = container.exec(options)?;
    tell(pid)?;
    Ok(exit::of_process(foreground.stay(pid, || Ok(()))?))
}

fn record_pid(arguments: &Arguments, pid: Pid) -> anyhow::Result<()> {
    arguments.pid_file.as_ref().map_or(Ok(()), |path| write_pid(path, pid))
}

/// The last word on a variable wins.
fn set_variable(env: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next().unwrap_or(variable);
    env.retain(|other| other.split('=').next() != Some(name));
    env.push(variable.to_owned());
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
    process.env.retain(|variable| !activation::is_about_it(variable));
    process.args.clone_from(&arguments.command);
    process.terminal = arguments.tty;
    process.console_size = None;
    arguments.env.iter().for_each(|variable| set_variable(&mut process.env, variable));
    if let Some(cwd) = &arguments.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &arguments.user {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        let number =
            |text: &str| text.parse().with_context(|| format!("--user {user}: {text:?} is no number"));
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

#[cfg(test)]
mod tests {
    use super::set_variable;

    #[test]
    fn a_variable_replaces_the_one_of_its_name() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set_variable(&mut env, "A=3=4");
        assert_eq!(env, ["AB=2", "A=3=4"]);
    }
}
