//! `floe completion` and `floe man`

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::say;
use crate::args::Cli;

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// A verb; without one, floe as a whole.
    verb: Option<String>,
}

/// Prints a script that completes floe's verbs and flags: `source <(floe completion bash)`.
pub fn completion(arguments: &Completion) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "floe", &mut script);
    say(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a page of the manual in the form of man(7): `floe man checkpoint | man -l -`.
pub fn man(arguments: &Man) -> anyhow::Result<ExitCode> {
    let mut floe = Cli::command();
    floe.build();
    let command = match &arguments.verb {
        None => floe,
        Some(verb) => match floe.find_subcommand(verb) {
            Some(found) => found.clone(),
            None => bail!("floe has no verb {verb:?}; `floe --help` lists them"),
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("write a page of the manual")?;
    say(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_is_completed() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "floe", &mut script);
        let script = String::from_utf8(script).unwrap();
        for verb in Cli::command().get_subcommands() {
            assert!(script.contains(verb.get_name()), "{} is not completed", verb.get_name());
            let mut page = Vec::new();
            clap_mangen::Man::new(verb.clone()).render(&mut page).unwrap();
            assert!(String::from_utf8(page).unwrap().contains(".SH NAME"));
        }
    }
}
