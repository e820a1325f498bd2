//! Signals that one process has sent to another, which blocks them: pending, in order, with values and senders.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Node, Part, identity};
use crate::board::Board;
use crate::report::Report;
use crate::seed;
use crate::sys::{self, Taken};

/// How far apart sender and receiver are.
const DISTANCE: usize = 37;
/// Signals with the same number keep their order, and lower numbers come first.
const QUEUED: [i32; 4] = [3, 3, 3, 4];

/// Makes a node the sender to one, and the receiver from another.
///
/// # Errors
/// None so far.
pub fn build(node: &Node, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let nodes = node.settings.nodes;
    let from = (node.index + nodes - DISTANCE % nodes) % nodes;
    // Who has given up root may not send to others.
    if !identity::gives_up_root(node.index, &node.settings) {
        parts.push(Box::new(Sender {
            board: node.board,
            from: node.index,
            to: (node.index + DISTANCE) % nodes,
        }));
    }
    if !identity::gives_up_root(from, &node.settings) {
        parts.push(Box::new(Receiver { board: node.board, from, to: node.index }));
    }
    Ok(())
}

fn value(to: usize, number: usize, round: u32) -> usize {
    seed::number(&format!("signal {number} to {to}"), round) as usize
}

struct Sender {
    board: Board,
    from: usize,
    to: usize,
}

impl Part for Sender {
    fn look(&mut self, _round: u32, _report: &mut Report) {}

    fn refill(&mut self, round: u32) -> Result<()> {
        let pid: Pid = self.board.pid(self.to).with_context(|| format!("node {} has no pid", self.to))?;
        kill(pid, Signal::SIGUSR1).with_context(|| format!("kill {pid} from node {}", self.from))?;
        for (number, signal) in QUEUED.iter().enumerate() {
            sys::queue(pid, sys::first_realtime() + signal, value(self.to, number, round))?;
        }
        Ok(())
    }
}

struct Receiver {
    board: Board,
    from: usize,
    to: usize,
}

impl Part for Receiver {
    fn look(&mut self, round: u32, report: &mut Report) {
        let first = sys::first_realtime();
        let set = [Signal::SIGUSR1 as i32, first + 3, first + 4];
        let pid = self.board.pid(self.from).map_or(0, Pid::as_raw);
        let mut expected = vec![(Signal::SIGUSR1 as i32, libc::SI_USER, pid, None)];
        expected.extend(QUEUED.iter().enumerate().map(|(number, signal)| {
            (first + signal, libc::SI_QUEUE, pid, Some(value(self.to, number, round)))
        }));
        for wanted in expected {
            if let Some(found) = report.works("take a signal", sys::take(&set, Duration::ZERO)) {
                report.same("pending signal", &Some(wanted), &found.map(plain));
            }
        }
        if let Some(found) = report.works("take a signal", sys::take(&set, Duration::ZERO)) {
            report.same("end of the pending signals", &None, &found);
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        Ok(())
    }
}

/// Only a queued signal carries a value.
fn plain(signal: Taken) -> (i32, i32, i32, Option<usize>) {
    let value = (signal.code == libc::SI_QUEUE).then_some(signal.value);
    (signal.signal, signal.code, signal.pid, value)
}
