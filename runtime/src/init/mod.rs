//! The child's side of a launch: `floe init`, which becomes the container's process.
//!
//! Nothing here runs with a second thread, and nothing is printed: what fails is said over the socket, in words that
//! name the thing ([`crate::launch`] draws the conversation).

mod build;
mod filter;
mod identity;
mod program;
mod shield;
mod stage1;
mod streams;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::config::Config;
use crate::container::Status;
use crate::error::{Error, Result};
use crate::launch::message::{Bootstrap, FromChild, Peer, ToChild};
use crate::launch::{SOCKET_VARIABLE, fail_at};
use crate::proc::Proc;
use crate::{hooks, labels, sys};
use filter::{FilterOnce, Moment};
use shield::Shield;
use stage1::Handed;

/// What the hidden verb `init` does, before anything else and with one thread. Does not return: it becomes the
/// container's program or exits.
pub fn init_main() -> ! {
    let code = match passed() {
        Ok(peer) => run(peer),
        Err(error) => {
            eprintln!("floe init is not for people: {}", error.in_full());
            2
        }
    };
    std::process::exit(code)
}

/// The socket.
fn passed() -> Result<Peer> {
    let number = number(&std::env::var(SOCKET_VARIABLE).unwrap_or_default())
        .ok_or_else(|| Error::start(format!("{SOCKET_VARIABLE} names no descriptor")))?;
    // What floe's own starter left open is not the container's: a directory of the host among it would be a way out,
    // as long as this process lives (CVE-2024-21626).
    sys::close_inherited_from(number.unsigned_abs() + 1)
        .map_err(Error::at("close_range", "inherited descriptors"))?;
    let socket =
        sys::take_inherited(number).map_err(Error::at("take over", format!("descriptor {number}")))?;
    Ok(Peer::new(UnixStream::from(socket)))
}

/// The number of a descriptor behind the standard streams.
fn number(text: &str) -> Option<i32> {
    text.parse().ok().filter(|number| (3..i32::MAX).contains(number))
}

fn run(mut peer: Peer) -> i32 {
    let error = match stages(&mut peer) {
        Ok(()) => return 0,
        Err(error) => error,
    };
    // If floe is gone too, nobody is left to be told.
    let _ = peer.send(&FromChild::failed(words(&error)));
    1
}

/// An error as it is told: the one who hears it adds where it comes from.
fn words(error: &Error) -> String {
    match error {
        Error::Child { message, .. } => message.clone(),
        other => other.in_full(),
    }
}

fn stages(peer: &mut Peer) -> Result<()> {
    let Some(ToChild::Bootstrap(bootstrap)) = peer.receive()? else { return Err(gone()) };
    let shield = Shield::raise(bootstrap.join.is_empty())?;
    // Before anything of a container's could be in its place.
    let proc = Proc::of_host()?;
    match stage1::enter(peer, &bootstrap, &shield)? {
        Some(handed) => stage2(peer, &bootstrap, &shield, proc, handed),
        None => Ok(()),
    }
}

/// The name (`/proc/PID/comm`) of a process that runs floe's code still; `execve(2)` gives it the program's.
pub(crate) const NAME: &std::ffi::CStr = c"floe:init";

/// The other side is gone, or out of order.
fn gone() -> Error {
    Error::start("floe is gone".to_owned())
}

/// The container's process itself.
fn stage2(
    peer: &mut Peer,
    bootstrap: &Bootstrap,
    shield: &Shield,
    proc: Proc,
    Handed { fifo, console }: Handed,
) -> Result<()> {
    let Some(ToChild::Config(config, filter)) = peer.receive()? else { return Err(gone()) };
    sys::reset_signals().map_err(Error::at("reset", "signals"))?;
    nix::unistd::setsid().map_err(Error::at("setsid", ""))?;
    let keyring = bootstrap.keyring.as_deref();
    let state = match bootstrap.exec {
        false => build::container(peer, &config, &proc, console.as_ref(), keyring)?,
        true => build::joining(&config, console.as_ref(), keyring).map(|()| Value::Null)?,
    };
    drop(console);
    streams::reopen_null()?;
    peer.send(&FromChild::WantLimits)?;
    let Some(ToChild::LimitsSet) = peer.receive()? else { return Err(gone()) };
    let mut filter = FilterOnce::new(filter, &config.process, shield);
    let program = program::prepare(&config.process, !bootstrap.exec, || {
        labels::set(&proc, &config.process)?;
        filter.load_if_due(Moment::Privileged, peer)
    })?;
    filter.restore_shield();
    if let Some(signal) = config.parent_death_signal.filter(|_| !bootstrap.exec) {
        // After the change of user, which clears it. A floe that is gone already ends the conversation below.
        sys::set_parent_death_signal(signal)
            .map_err(Error::at("prctl", format!("PR_SET_PDEATHSIG {signal} (parent_death_signal)")))?;
    }
    sys::close_on_exec_from(3 + bootstrap.preserve_fds).map_err(Error::at("close_range", "descriptors"))?;
    filter.load_if_due(Moment::Heard, peer)?;
    peer.send(&FromChild::Ready)?;
    let Some(ToChild::Execute) = peer.receive()? else { return Err(gone()) };
    filter.agent_is_told();
    let Some(fifo) = fifo else {
        // Its path could lead through this directory of the host.
        drop(proc);
        filter.load_if_due(Moment::Last, peer)?;
        return program.execute();
    };
    let start = program::wait_at(fifo, proc).inspect_err(complain)?;
    if let Err(error) = start_container(&config, state) {
        fail_at(start.as_fd(), &error.in_full());
        return Err(error);
    }
    filter.load_if_due(Moment::Last, peer).and_then(|()| program.execute()).inspect_err(complain)
}

/// The hooks that are part of `start`, with the rights and the view of the program.
fn start_container(config: &Config, mut state: Value) -> Result<()> {
    state["status"] = Status::Created.to_string().into();
    hooks::run("startContainer", &config.hooks.start_container, &state)
}

/// Floe has left with `create`; what happens at `start` can be said to the container's standard error only.
fn complain(error: &Error) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "floe: {}", error.in_full());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_that_can_be_ours_is_taken() {
        assert_eq!(number("3"), Some(3));
        assert_eq!(number("13"), Some(13));
        for bad in ["", "2", "-1", "3,1", "2147483647", "4294967295", "x"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
