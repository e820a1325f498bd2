//! A program that makes containers with the library: it runs a command in one, joins it, freezes it, reads what it uses.
//!
//! ```text
//! scripts/bundle-busybox /tmp/bundle
//! cargo run --package floe-runtime --example library -- /tmp/bundle echo hello
//! ```

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use floe_runtime::Blueprint;
use floe_runtime::factory::{self, Factory, Process};

fn main() -> ExitCode {
    // The container's process begins as this program, once more. It comes back here, and must not get further.
    if std::env::args().nth(1).is_some_and(|argument| argument == "init") {
        Factory::start_initialization();
    }
    match example() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("library: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn example() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bundle = arguments.next().ok_or("usage: library BUNDLE COMMAND [ARG...]")?;
    let command: Vec<String> = arguments.collect();
    let factory = Factory::new(Path::new("/run/floe-example"))?;
    let mut blueprint = Blueprint::of_bundle(Path::new(&bundle))?;
    // The first process only waits; the command joins it.
    blueprint.config.process.args = ["sleep".to_owned(), "60".to_owned()].to_vec();
    blueprint.config.process.terminal = false;

    let container = factory.create_of("example", blueprint)?;
    let first = container.run(Process::default())?;
    println!("{} is {} with process {}", container.id(), container.status()?, first.pid());

    let mut process = container.config().process;
    process.args = command;
    let joined = container.start(Process { process: Some(process), ..Process::default() })?;
    println!("the command ended: {:?}", joined.wait()?);

    container.pause()?;
    println!("frozen, it holds {:?}", container.processes()?);
    // A handle of its own sees the same container, from any process.
    let other = factory.load("example")?;
    match other.start(Process::default()) {
        Err(factory::Error::ContainerPaused(_)) => println!("nothing starts in a paused container"),
        other => println!("{other:?}"),
    }
    other.resume()?;
    println!("it has used {} ns of processor time", container.stats()?.cpu.usage.total);

    container.destroy()?;
    first.wait()?;
    match container.status() {
        Err(factory::Error::ContainerNotExists(_)) => println!("and now it is gone"),
        other => println!("{other:?}"),
    }
    Ok(())
}
