//! The blackboard that the processes of a tree share: what is to be done now, and what each of them found.
//!
//! ```text
//! init                                   every process, init among them
//!   announce(step)      ─── futex ──►      wait(step before)
//!                                          works
//!   gather(step)        ◄── futex ───      finish(step, report)
//! ```
//!
//! All of it is anonymous shared memory, and all waiting is on futexes in it: that the tree answers at all after a
//! restore shows that both came back.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::unistd::Pid;
use rustix::thread::futex;

use crate::report::Report;
use crate::sys::Mapping;

/// Bytes that one process has for words about what it found.
const TEXT: usize = 2048;
/// Words of one process before its text: pid, step done, checks, failures, length of the text.
const HEAD: usize = 5;

/// The shared blackboard.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    words: &'static [AtomicU32],
    texts: &'static [AtomicU8],
    nodes: usize,
}

impl Board {
    /// Makes the board, to be inherited by the processes that are forked afterwards.
    ///
    /// # Errors
    /// `mmap(2)`'s.
    pub fn new(nodes: usize) -> Result<Self> {
        let words = Mapping::shared((1 + nodes * HEAD) * 4)?.words();
        let texts = Mapping::shared(nodes * TEXT)?.bytes();
        Ok(Self { words, texts, nodes })
    }

    fn head(&self, node: usize) -> &'static [AtomicU32] {
        &self.words[1 + node * HEAD..][..HEAD]
    }

    fn text(&self, node: usize) -> &'static [AtomicU8] {
        &self.texts[node * TEXT..][..TEXT]
    }

    /// Writes down which process a node is.
    pub fn set_pid(&self, node: usize, pid: Pid) {
        self.head(node)[0].store(pid.as_raw().cast_unsigned(), Release);
    }

    /// Which process a node is; `None` before it said so.
    #[must_use]
    pub fn pid(&self, node: usize) -> Option<Pid> {
        match self.head(node)[0].load(Acquire).cast_signed() {
            0 => None,
            pid => Some(Pid::from_raw(pid)),
        }
    }

    /// Makes everybody do the next step.
    ///
    /// # Errors
    /// `futex(2)`'s.
    pub fn announce(&self, step: u32) -> Result<()> {
        self.words[0].store(step, Release);
        futex::wake(&self.words[0], futex::Flags::empty(), i32::MAX.cast_unsigned())?;
        Ok(())
    }

    /// Sleeps until another step than the one that was done is announced, and returns it.
    ///
    /// # Errors
    /// `futex(2)`'s.
    pub fn wait(&self, done: u32) -> Result<u32> {
        loop {
            let step = self.words[0].load(Acquire);
            if step != done {
                return Ok(step);
            }
            sleep_on(&self.words[0], done, None)?;
        }
    }

    /// Says what a node found in a step.
    ///
    /// # Errors
    /// `futex(2)`'s.
    pub fn finish(&self, node: usize, step: u32, report: &Report) -> Result<()> {
        let head = self.head(node);
        let text = report.differences.join("\n");
        let length = text.len().min(TEXT);
        for (place, byte) in self.text(node).iter().zip(text.bytes()) {
            place.store(byte, Release);
        }
        head[2].store(report.checks, Release);
        head[3].store(report.failed, Release);
        head[4].store(u32::try_from(length)?, Release);
        head[1].store(step, Release);
        futex::wake(&head[1], futex::Flags::empty(), 1)?;
        Ok(())
    }

    /// Waits until all have finished a step, and collects what they found. Who does not finish in time is a
    /// difference too.
    ///
    /// # Errors
    /// `futex(2)`'s.
    pub fn gather(&self, step: u32, within: Duration) -> Result<Report> {
        ensure!(step != 0, "step 0 is what the board begins with");
        let end = Instant::now() + within;
        let mut all = Report::default();
        for node in 0..self.nodes {
            let head = self.head(node);
            loop {
                let done = head[1].load(Acquire);
                let left = end.saturating_duration_since(Instant::now());
                if done == step {
                    all.absorb(self.found(node));
                    break;
                }
                if left.is_zero() {
                    let pid = self.pid(node).map_or(0, Pid::as_raw);
                    all.note(format!("node {node} (pid {pid}) did not answer: at step {done}, not {step}"));
                    break;
                }
                sleep_on(&head[1], done, Some(left))?;
            }
        }
        Ok(all)
    }

    fn found(&self, node: usize) -> Report {
        let head = self.head(node);
        let length = (head[4].load(Acquire) as usize).min(TEXT);
        let text: Vec<u8> = self.text(node)[..length].iter().map(|byte| byte.load(Acquire)).collect();
        let text = String::from_utf8_lossy(&text);
        Report {
            checks: head[2].load(Acquire),
            failed: head[3].load(Acquire),
            differences: text.lines().map(|line| format!("node {node}: {line}")).collect(),
        }
    }
}

/// Sleeps on a shared word while it has a value; woken by anything, the caller looks again.
fn sleep_on(word: &AtomicU32, value: u32, within: Option<Duration>) -> Result<()> {
    let limit = within
        .map(|left| -> Result<_> {
            Ok(rustix::fs::Timespec {
                tv_sec: i64::try_from(left.as_secs())?,
                tv_nsec: left.subsec_nanos().into(),
            })
        })
        .transpose()?;
    match futex::wait(word, futex::Flags::empty(), value, limit.as_ref()) {
        Ok(()) => Ok(()),
        Err(error) => match error {
            rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::TIMEDOUT => Ok(()),
            other => Err(other.into()),
        },
    }
}
