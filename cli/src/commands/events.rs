//! `floe events`

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use floe_runtime::cgroup::{Notice, Stats, Watch};
use floe_runtime::{Container, Error, InterfaceUse, Status};
use serde::Serialize;

use crate::args::Globals;

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the container.
    id: String,
    /// Time between two lines about what it uses (5s, 500ms).
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// Print what it uses now, and end.
    #[arg(long)]
    stats: bool,
}

/// One line, in the form that engines know of runc.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

/// What is not the cgroup's is there, and empty: readers look for the keys.
#[derive(Serialize)]
struct Data {
    #[serde(flatten)]
    stats: Stats,
    intel_rdt: Empty,
    /// `null` where there are none, as with runc.
    network_interfaces: Option<Vec<InterfaceUse>>,
}

/// What is told of one moment.
struct Moment {
    stats: Stats,
    interfaces: Vec<InterfaceUse>,
}

impl Moment {
    fn of(container: &Container) -> Result<Self, Error> {
        Ok(Self { stats: container.stats()?, interfaces: container.network_use()? })
    }
}

#[derive(Serialize)]
struct Empty {}

pub fn run(globals: &Globals, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let container = super::container(globals, &arguments.id)?;
    if container.status() == Status::Stopped {
        bail!("container {} is not running", container.id());
    }
    if arguments.stats {
        say_stats(&container, Moment::of(&container)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match stream(&container, arguments.interval) {
        // Nobody listens any more.
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe) => {}
        other => other?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells until the container has ended.
fn stream(container: &Container, interval: Duration) -> anyhow::Result<()> {
    let mut memory = match container.cgroup().watch_out_of_memory() {
        Ok(watch) => Some(watch),
        // Its use is told all the same.
        Err(error) => {
            tracing::warn!("running out of memory cannot be told: {error}");
            None
        }
    };
    loop {
        let next = Instant::now() + interval;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            match notice(memory.as_mut(), left)? {
                Some(Notice::OutOfMemory) => {
                    say(&Event { kind: "oom", id: container.id().as_str(), data: None })?
                }
                Some(_) => return Ok(()),
                None if container.status() == Status::Stopped => return Ok(()),
                None => {}
            }
        }
        match Moment::of(container) {
            Ok(moment) => say_stats(container, moment)?,
            // It ended meanwhile; its cgroup may be gone as well.
            Err(_) if container.status() == Status::Stopped => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits, at most for a while that nobody minds when the container ends.
fn notice(memory: Option<&mut Watch>, left: Duration) -> Result<Option<Notice>, Error> {
    let wait = left.min(Duration::from_millis(500));
    match memory {
        Some(watch) => watch.wait(Some(wait)),
        None => {
            std::thread::sleep(wait);
            Ok(None)
        }
    }
}

fn say_stats(container: &Container, moment: Moment) -> anyhow::Result<()> {
    let Moment { stats, interfaces } = moment;
    let network_interfaces = Some(interfaces).filter(|all| !all.is_empty());
    let data = Data { stats, intel_rdt: Empty {}, network_interfaces };
    say(&Event { kind: "stats", id: container.id().as_str(), data: Some(data) })
}

fn say(event: &Event<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(event)?)?;
    Ok(out.flush()?)
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("is no time above 0, such as 5s or 500ms".to_owned()),
    }
}
