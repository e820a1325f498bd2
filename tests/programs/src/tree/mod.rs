//! A tree of processes with everything between them that a checkpoint has to carry.
//!
//! Its first process makes what is shared ([`fabric`]), forks the others by a fixed plan ([`plan`]), and then leads
//! them through rounds. A round has three steps, and nobody begins one before all have finished the one before:
//!
//! 1. *look*: each process compares itself with the portrait that it took at the end of the last round, and takes
//!    out of every pipe, socket, queue and timer what has to be in it. This is the check.
//! 2. *refill*: each process writes new content, different in every round, into all of them.
//! 3. *record*: now that everybody is at rest, each takes its portrait.
//!
//! Between rounds everything waits filled, and that is what is frozen. A look that follows a restore finds what was
//! frozen; the refill and the look of the round after it show that all of it still works.

pub mod channels;
pub mod events;
pub mod fabric;
pub mod files;
pub mod identity;
pub mod locks;
pub mod memory;
pub mod mutex;
pub mod plan;
pub mod signals;
pub mod sockets;
pub mod sysv;
pub mod threads;
pub mod timers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::getpid;

use crate::board::Board;
use crate::door::Door;
use crate::portrait::{MemoryMap, Portrait};
use crate::report::Report;
use crate::sys::{self, Side};
use fabric::Fabric;

/// A step takes a fraction of a second; this is for a machine that has much else to do.
const STEP: Duration = Duration::from_secs(60);

/// What the tree is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the conversation with the test, and of the tree's files.
    pub folder: PathBuf,
    /// Processes, the first among them.
    pub nodes: usize,
    /// File locks, which CRIU dumps only if it is asked to.
    pub locks: bool,
    /// Processes of other users. CRIU needs `CAP_SYS_RESOURCE` to ask for their limits (prlimit(2)).
    pub users: bool,
    /// Timer descriptors that go on and were not read when they last ended. CRIU 4.1 restores them stopped, as the
    /// kernel shows no time to the next end for them.
    pub ticking: bool,
}

/// One process of the tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number in the plan; 0 is the first process.
    pub index: usize,
    /// What the tree is built from.
    pub settings: Settings,
    /// What all share.
    pub board: Board,
}

/// Something that a process holds.
pub trait Part {
    /// Compares what is there with what the last refill put there, and takes it out.
    fn look(&mut self, round: u32, report: &mut Report);

    /// Puts the content of a round into it.
    ///
    /// # Errors
    /// The kernel's.
    fn refill(&mut self, round: u32) -> Result<()>;
}

/// Builds the tree around this process and answers questions until the end.
///
/// # Errors
/// It cannot be built: some limit of the container is too low.
pub fn run(settings: Settings) -> Result<()> {
    nix::sys::signal::SigSet::all().thread_block()?;
    let board = Board::new(settings.nodes)?;
    let fabric = Fabric::new(&settings).context("make what the processes share")?;
    live(Node { index: 0, settings, board }, fabric)
}

/// A process from its first moment on; the first one never comes back from it, the others neither.
fn live(node: Node, mut fabric: Fabric) -> Result<()> {
    node.board.set_pid(node.index, getpid());
    identity::before_children(&node)?;
    for child in plan::children(node.index, node.settings.nodes) {
        if fork_child(child)? == Side::Child {
            return live(Node { index: child, ..node }, fabric);
        }
    }
    let mut member = Member { parts: Vec::new(), portrait: None, map: MemoryMap::new(), node };
    let built = member.build(&mut fabric);
    drop(fabric);
    if member.node.index == 0 { lead(member, built) } else { follow(member, built) }
}

/// Forks a node, some of them by way of a process that leads a new session and is gone at once.
fn fork_child(child: usize) -> Result<Side> {
    if !plan::orphaned(child) {
        return Ok(sys::fork()?);
    }
    match sys::fork()? {
        Side::Parent(pid) => {
            nix::sys::wait::waitpid(pid, None)?;
            Ok(Side::Parent(pid))
        }
        Side::Child => {
            nix::unistd::setsid()?;
            match sys::fork()? {
                Side::Parent(_) => std::process::exit(0),
                Side::Child => {
                    // The parent has to be the first process before anything is recorded.
                    while nix::unistd::getppid().as_raw() != 1 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok(Side::Child)
                }
            }
        }
    }
}

/// A process with its parts.
struct Member {
    node: Node,
    parts: Vec<Box<dyn Part>>,
    portrait: Option<Portrait>,
    map: MemoryMap,
}

/// The three steps of a round.
#[derive(Clone, Copy)]
enum Step {
    Look,
    Refill,
    Record,
}

/// A step's number on the board; 0 is what the board begins with.
fn number(round: u32, step: Step) -> u32 {
    1 + round * 3 + step as u32
}

impl Member {
    fn build(&mut self, fabric: &mut Fabric) -> Result<()> {
        let node = &self.node;
        channels::build(node, fabric, &mut self.parts).context("pipes")?;
        sockets::build(node, fabric, &mut self.parts).context("sockets")?;
        memory::build(node, fabric, &mut self.parts).context("memory")?;
        sysv::build(node, fabric, &mut self.parts).context("System V")?;
        files::build(node, fabric, &mut self.parts).context("files")?;
        events::build(node, &mut self.parts).context("events")?;
        timers::build(node, &mut self.parts).context("timers")?;
        signals::build(node, &mut self.parts).context("signals")?;
        locks::build(node, &mut self.parts).context("locks")?;
        mutex::build(node, fabric, &mut self.parts).context("mutex")?;
        identity::build(node, &mut self.parts).context("identity")?;
        threads::build(node, &mut self.parts).context("threads")?;
        identity::at_last(node).context("identity")
    }

    fn work(&mut self, step: u32, report: &mut Report) {
        let round = (step - 1) / 3;
        match (step - 1) % 3 {
            // Round 0 finds nothing yet: that all come to its first step means that all are built.
            0 if round == 0 => {}
            0 => {
                let compared = self.map.compare(report);
                report.works("memory map", compared);
                if let Some(before) = &self.portrait
                    && let Some(now) = report.works("portrait", Portrait::take())
                {
                    before.compare(&now, report);
                }
                // What is found was put there in the round before.
                self.parts.iter_mut().for_each(|part| part.look(round - 1, report));
            }
            1 => {
                for part in &mut self.parts {
                    if let Err(error) = part.refill(round) {
                        report.note(format!("refill: {error:#}"));
                    }
                }
            }
            _ => {
                self.portrait = None;
                self.portrait = report.works("portrait", Portrait::settled());
                report.works("memory map", self.map.record());
            }
        }
    }
}

/// A process that is not the first: does what the board says. It may be told nothing more once the container is
/// stopped, so it has no end of its own.
fn follow(mut member: Member, built: Result<()>) -> Result<()> {
    let mut report = Report::default();
    report.works("build", built);
    let mut done = 0;
    loop {
        let step = member.node.board.wait(done)?;
        member.work(step, &mut report);
        member.node.board.finish(member.node.index, step, &report)?;
        (done, report) = (step, Report::default());
    }
}

/// The first process: leads rounds and answers.
fn lead(mut member: Member, built: Result<()>) -> Result<()> {
    let door = Door::new(member.node.settings.folder.clone());
    let mut report = Report::default();
    report.works("build", built);
    for first in [Step::Look, Step::Refill, Step::Record] {
        report.absorb(step(&mut member, 0, first)?);
    }
    door.ready(&summary(&report, 0))?;
    let mut round = 0;
    loop {
        let question = door.wait()?;
        round += 1;
        let mut report = step(&mut member, round, Step::Look)?;
        for next in [Step::Refill, Step::Record] {
            let other = step(&mut member, round, next)?;
            report.failed += other.failed;
            report.differences.extend(other.differences);
        }
        door.answer(&question, &summary(&report, round))?;
    }
}

/// Has everybody do one step.
fn step(member: &mut Member, round: u32, step: Step) -> Result<Report> {
    let (board, number) = (member.node.board, number(round, step));
    board.announce(number)?;
    let mut report = Report::default();
    member.work(number, &mut report);
    board.finish(member.node.index, number, &report)?;
    board.gather(number, STEP)
}

/// The answer's text: its first line is all a test needs.
fn summary(report: &Report, round: u32) -> String {
    if report.failed == 0 {
        return format!("ok {} checks round {round}\n", report.checks);
    }
    format!(
        "{} of {} checks failed in round {round}\n{}\n",
        report.failed,
        report.checks,
        report.differences.join("\n")
    )
}
