//! System V shared memory, semaphores and message queues, which live in the IPC namespace and not in a process.

mod sys;

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};

use super::fabric::Fabric;
use super::{Node, Part};
use crate::report::Report;
use crate::seed;
use crate::sys::Mapping;

/// Keys start here; the namespace is the container's own.
const KEY: i32 = 0x0f10_e000;
const SEGMENT: usize = 64 * 1024;
const SEMAPHORES: i32 = 5;
const MESSAGES: usize = 5;
/// The node that writes the segment and the semaphores, and the ones that write and read messages.
const WRITER: usize = 0;
const SENDER: usize = 2;
const RECEIVER: usize = 13;

/// The ids of the objects.
#[derive(Debug, Clone, Copy)]
pub struct Objects {
    segment: i32,
    removed: i32,
    semaphores: i32,
    messages: i32,
}

impl Objects {
    /// Makes the objects.
    ///
    /// # Errors
    /// The kernel's; `EEXIST` where the IPC namespace is not a new one.
    pub fn new() -> Result<Self> {
        Ok(Self {
            segment: sys::segment(KEY, SEGMENT).context("shmget")?,
            removed: sys::segment(KEY + 1, SEGMENT).context("shmget")?,
            semaphores: sys::semaphores(KEY, SEMAPHORES).context("semget")?,
            messages: sys::messages(KEY).context("msgget")?,
        })
    }
}

/// Attaches segments where the node has a share in them.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, fabric: &Fabric, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let objects = fabric.objects;
    if node.index.is_multiple_of(11) {
        let memory = Mapping::segment(objects.segment, SEGMENT).context("shmat")?;
        parts.push(Box::new(Segment { memory, id: objects.segment, writes: node.index == WRITER }));
    }
    if node.index == WRITER {
        // Attached, and marked to be removed: it goes when this process does.
        let memory = Mapping::segment(objects.removed, SEGMENT).context("shmat")?;
        sys::forget_segment(objects.removed)?;
        parts.push(Box::new(Removed { memory }));
    }
    if node.index == WRITER || node.index == 1 {
        parts.push(Box::new(Semaphores { id: objects.semaphores, writes: node.index == WRITER }));
    }
    if node.index == SENDER || node.index == RECEIVER {
        parts.push(Box::new(Messages { id: objects.messages, sends: node.index == SENDER }));
    }
    Ok(())
}

fn look(memory: &Mapping, label: &str, round: u32, report: &mut Report) {
    let found: Vec<u8> = memory.bytes().iter().map(|byte| byte.load(Relaxed)).collect();
    report.content(label, &seed::bytes(label, round, SEGMENT), &found);
}

fn refill(memory: &Mapping, label: &str, round: u32) {
    let content = seed::bytes(label, round, SEGMENT);
    memory.bytes().iter().zip(content).for_each(|(place, byte)| place.store(byte, Relaxed));
}

struct Segment {
    memory: Mapping,
    id: i32,
    writes: bool,
}

impl Part for Segment {
    fn look(&mut self, round: u32, report: &mut Report) {
        look(&self.memory, "segment", round, report);
        if let Some(found) = report.works("find the segment by its key", sys::find_segment(KEY)) {
            report.same("segment by its key", &self.id, &found);
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        if self.writes {
            refill(&self.memory, "segment", round);
        }
        Ok(())
    }
}

struct Removed {
    memory: Mapping,
}

impl Part for Removed {
    fn look(&mut self, round: u32, report: &mut Report) {
        look(&self.memory, "removed segment", round, report);
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        refill(&self.memory, "removed segment", round);
        Ok(())
    }
}

struct Semaphores {
    id: i32,
    writes: bool,
}

fn value(round: u32, index: i32) -> i32 {
    (seed::number("semaphore", round + index.unsigned_abs()) % 1000) as i32
}

impl Part for Semaphores {
    fn look(&mut self, round: u32, report: &mut Report) {
        for index in 0..SEMAPHORES {
            if let Some(found) = report.works("semaphore", sys::semaphore(self.id, index)) {
                report.same(format!("semaphore {index}"), &value(round, index), &found);
            }
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        if self.writes {
            for index in 0..SEMAPHORES {
                sys::set_semaphore(self.id, index, value(round, index))?;
            }
        }
        Ok(())
    }
}

struct Messages {
    id: i32,
    sends: bool,
}

fn message(round: u32, number: usize) -> (i64, Vec<u8>) {
    let length = [1, 17, 0, 255, 256][number % MESSAGES];
    (number as i64 % 3 + 1, seed::bytes(&format!("message {number}"), round, length))
}

impl Part for Messages {
    fn look(&mut self, round: u32, report: &mut Report) {
        if self.sends {
            return;
        }
        for number in 0..MESSAGES {
            if let Some(found) = report.works("take a message", sys::receive(self.id)) {
                report.same(format!("message {number}"), &Some(message(round, number)), &found);
            }
        }
        if let Some(found) = report.works("take a message", sys::receive(self.id)) {
            report.same("end of the message queue", &None, &found);
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        if self.sends {
            for number in 0..MESSAGES {
                let (kind, content) = message(round, number);
                sys::send(self.id, kind, &content).context("msgsnd")?;
            }
        }
        Ok(())
    }
}
