//! One file a verb: its arguments, what it calls, what it prints.

mod check;
mod checkpoint;
mod completion;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod hooks;
mod inspect;
mod kill;
mod list;
mod looked;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod tree;
mod update;
mod verify;
mod watched;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command, Subcommand};
use floe_criu_bridge::outside::Connection;
use floe_criu_bridge::record::Records;
use floe_runtime::{Container, ContainerId, Store};

use crate::args::{Cli, Globals};
use crate::exit::AsJson;

/// What floe does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a container of a bundle; `start` lets its process run.
    Create(create::Arguments),
    /// Let a created container's process run.
    Start(start::Arguments),
    /// Create a container and start it.
    Run(run::Arguments),
    /// Print a container's state.
    State(state::Arguments),
    /// List the containers.
    List(list::Arguments),
    /// Send a signal to a container's first process.
    Kill(kill::Arguments),
    /// Remove a container.
    Delete(delete::Arguments),
    /// Run another process in a container.
    Exec(exec::Arguments),
    /// Show what a container uses, and when it runs out of memory.
    Events(events::Arguments),
    /// Change the limits of a container.
    Update(update::Arguments),
    /// Print what this runtime can do, as JSON.
    Features,
    /// Show the processes of a container.
    Ps(ps::Arguments),
    /// Freeze every process of a container.
    Pause(pause::Arguments),
    /// Let the processes of a paused container go on.
    Resume(pause::Arguments),
    /// Write a configuration to start from.
    Spec(spec::Arguments),
    /// Freeze a container into an archive.
    Checkpoint(checkpoint::Arguments),
    /// Bring a container back from an archive.
    Restore(restore::Arguments),
    /// Check every byte of an archive.
    Verify(verify::Arguments),
    /// Tell whether this host, a container or an archive is fit.
    Check(check::Arguments),
    /// Show what an archive holds.
    Inspect(inspect::Arguments),
    /// Print a script that completes floe's verbs and flags in a shell.
    Completion(completion::Completion),
    /// Print a page of the manual, for `man -l -`.
    Man(completion::Man),
}

/// The grammar of a verb that engines call for every container, by its name.
pub fn frequent(name: &str) -> Option<Command> {
    let (name, augment): (&'static str, fn(Command) -> Command) = match name {
        "create" => ("create", create::Arguments::augment_args),
        "start" => ("start", start::Arguments::augment_args),
        "run" => ("run", run::Arguments::augment_args),
        "state" => ("state", state::Arguments::augment_args),
        "kill" => ("kill", kill::Arguments::augment_args),
        "delete" => ("delete", delete::Arguments::augment_args),
        "exec" => ("exec", exec::Arguments::augment_args),
        _ => return None,
    };
    Some(augment(Command::new(name)))
}

/// Does what was typed.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let globals = &cli.globals;
    Records::of(&globals.root).sweep();
    match cli.verb {
        Verb::Create(arguments) => create::run(globals, arguments),
        Verb::Start(arguments) => start::run(globals, &arguments),
        Verb::Run(arguments) => run::run(globals, arguments),
        Verb::State(arguments) => state::run(globals, &arguments),
        Verb::List(arguments) => list::run(globals, &arguments),
        Verb::Kill(arguments) => kill::run(globals, &arguments),
        Verb::Delete(arguments) => delete::run(globals, &arguments),
        Verb::Exec(arguments) => exec::run(globals, arguments),
        Verb::Events(arguments) => events::run(globals, &arguments),
        Verb::Update(arguments) => update::run(globals, &arguments),
        Verb::Features => features::run(),
        Verb::Ps(arguments) => ps::run(globals, &arguments),
        Verb::Pause(arguments) => pause::pause(globals, &arguments),
        Verb::Resume(arguments) => pause::resume(globals, &arguments),
        Verb::Spec(arguments) => spec::run(&arguments),
        Verb::Checkpoint(arguments) => checkpoint::run(globals, &arguments),
        Verb::Restore(arguments) => restore::run(globals, arguments),
        Verb::Verify(arguments) => verify::run(globals, &arguments),
        Verb::Check(arguments) => check::run(globals, &arguments),
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::Completion(arguments) => completion::completion(&arguments),
        Verb::Man(arguments) => completion::man(&arguments),
    }
}

fn container(globals: &Globals, id: &str) -> anyhow::Result<Container> {
    Ok(Store::open(&globals.root)?.container(&ContainerId::parse(id)?)?)
}

/// Writes to standard output. A reader that has gone away (`floe list | head`) ends it quietly.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("write to standard output"),
    }
}

/// Errors of a verb whose answer is JSON are JSON too.
fn in_form<T>(json: bool, result: anyhow::Result<T>) -> anyhow::Result<T> {
    if json { result.map_err(|error| AsJson(error).into()) } else { result }
}

/// TCP connections and their fates, a line each.
fn connections(all: &[Connection]) -> String {
    let line = |one: &Connection| {
        let Connection { local, peer, process, pid, fate, .. } = one;
        format!("  connection {local} -> {peer} of {process} ({pid}): {fate}\n")
    };
    all.iter().map(line).collect()
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A time as people read it.
fn time(micros: u64) -> String {
    if micros < 1_000_000 {
        format!("{:.1} ms", micros as f64 / 1e3)
    } else {
        format!("{:.2} s", micros as f64 / 1e6)
    }
}
