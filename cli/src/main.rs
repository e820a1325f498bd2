//! The floe command line: what was typed becomes calls of the libraries, and their answers become words and exit
//! codes. No decision about containers is made here.
//!
//! A process that is to become a container's is made by copying this one, so until that is done there is one thread:
//! verbs start others (progress, signals) only afterwards, or when they make no process.

mod activation;
mod args;
mod commands;
mod exit;
mod foreground;
mod logging;
mod places;
mod progress;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The child of a launch comes here again; nothing else may happen before.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "init") && std::env::args_os().len() == 2 {
        floe_runtime::init_main();
    }
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(error) => return args::usage(&error),
    };
    let globals = cli.globals.clone();
    logging::begin(&globals);
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => exit::report(&error, &globals),
    }
}
