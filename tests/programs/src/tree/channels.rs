//! A ring of pipes: each node writes to the next, and leaves bytes in flight.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, fcntl};

use super::fabric::Fabric;
use super::{Node, Part};
use crate::report::Report;
use crate::seed;

/// What a pipe holds where nobody sets its size: sixteen pages.
const USUAL: usize = 64 * 1024;
/// Of a pipe that was made larger.
const LARGE: i32 = 128 * 1024;

/// The size that the pipe out of a node is given, where it is given one.
#[must_use]
pub fn pipe_size(node: usize) -> Option<i32> {
    (node % 20 == 7).then_some(LARGE)
}

/// Bytes in flight from a node to the next: from one to a pipe that is full to the brim.
fn length(node: usize) -> usize {
    match node % 25 {
        0 => USUAL,
        7 if pipe_size(node).is_some() => USUAL + 20_000,
        _ => 1 + node * 617 % 16_000,
    }
}

struct Outgoing {
    pipe: File,
    node: usize,
}

struct Incoming {
    pipe: File,
    from: usize,
}

/// Takes this node's two ends.
///
/// # Errors
/// They were taken already.
pub fn build(node: &Node, fabric: &mut Fabric, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let from = (node.index + node.settings.nodes - 1) % node.settings.nodes;
    let write = fabric.pipes[node.index].1.take().context("the end for writing is gone")?;
    let read = fabric.pipes[from].0.take().context("the end for reading is gone")?;
    parts.push(Box::new(Incoming { pipe: read.into(), from }));
    parts.push(Box::new(Outgoing { pipe: write.into(), node: node.index }));
    Ok(())
}

impl Part for Outgoing {
    fn look(&mut self, _round: u32, report: &mut Report) {
        let size = pipe_size(self.node).unwrap_or(USUAL as i32);
        if let Some(found) = report.works("size of a pipe", fcntl(&self.pipe, FcntlArg::F_GETPIPE_SZ)) {
            report.same("size of a pipe", &size, &found);
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        let content = seed::bytes(&format!("pipe {}", self.node), round, length(self.node));
        self.pipe.write_all(&content).context("write to a pipe")
    }
}

impl Part for Incoming {
    fn look(&mut self, round: u32, report: &mut Report) {
        let what = format!("pipe from node {}", self.from);
        let mut found = vec![0; length(self.from)];
        if report.works(&what, self.pipe.read_exact(&mut found)).is_some() {
            report.content(&what, &seed::bytes(&format!("pipe {}", self.from), round, found.len()), &found);
        }
        let rest = self.pipe.read(&mut [0]).map_err(|error| error.kind());
        report.same(format!("end of {what}"), &Err(ErrorKind::WouldBlock), &rest);
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        Ok(())
    }
}
