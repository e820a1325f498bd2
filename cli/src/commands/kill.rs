//! `floe kill`

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use floe_runtime::Error;
use nix::libc;
use nix::sys::signal::Signal;

use crate::args::Globals;

/// Arguments of `kill`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
    /// The signal, by name (with or without SIG) or number.
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    signal: String,
    /// Send it to every process.
    #[arg(long, short)]
    all: bool,
}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let signal = parse(&arguments.signal)?;
    match super::container(globals, &arguments.id)?.kill(signal, arguments.all) {
        // By these words containerd and others know that there is nothing left to be signalled.
        Err(error @ Error::WrongStatus { .. }) => Err(error).context("container not running"),
        other => Ok(other.map(|()| ExitCode::SUCCESS)?),
    }
}

fn parse(text: &str) -> anyhow::Result<i32> {
    let largest = libc::SIGRTMAX();
    if let Ok(number) = text.parse::<i32>() {
        if (0..=largest).contains(&number) {
            return Ok(number);
        }
        bail!("{text} is no signal: they go from 1 to {largest}");
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: &str, number: i32| {
        let rest = name.strip_prefix(base)?;
        let offset = if rest.is_empty() { 0 } else { rest.parse::<i32>().ok()? };
        Some(number + offset).filter(|number| (libc::SIGRTMIN()..=largest).contains(number))
    };
    if let Some(number) = real_time("RTMIN", libc::SIGRTMIN()).or_else(|| real_time("RTMAX", largest)) {
        return Ok(number);
    }
    match format!("SIG{name}").parse::<Signal>() {
        Ok(signal) => Ok(signal as i32),
        Err(_) => bail!("{text:?} is no signal; name one as in `kill -l`, such as TERM"),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_are_read_in_every_spelling() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(parse(text).unwrap(), 15, "{text}");
        }
        assert_eq!(parse("RTMIN+3").unwrap(), nix::libc::SIGRTMIN() + 3);
        assert_eq!(parse("SIGRTMAX").unwrap(), nix::libc::SIGRTMAX());
        for bad in ["", "NOTHING", "65", "-1", "RTMIN+99"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
