//! Threads: each waits for its orders in another way, and looks at itself when it gets one.

use std::cell::Cell;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, gettid};
use rustix::thread::futex;

use super::{Node, Part};
use crate::report::Report;
use crate::seed;
use crate::sys;

/// A thread answers at once; this is for a machine that has much else to do.
const ANSWER: Duration = Duration::from_secs(20);
/// The node whose thread never rests for long.
const COMPUTING: usize = 40;
/// A signal for one thread only, pending between rounds.
const OWN: Signal = Signal::SIGIO;
/// A signal that wakes a thread.
const WAKE: Signal = Signal::SIGUSR2;

thread_local! {
    /// Each thread has its own, at another place.
    static MINE: Cell<u64> = const { Cell::new(0) };
}

/// Starts the threads of a node: none in most, several in every fourth.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    if !node.index.is_multiple_of(4) {
        return Ok(());
    }
    let kinds = [Kind::Condition, Kind::Pipe, Kind::Poll, Kind::Futex, Kind::Sleep, Kind::Signal];
    let count = 2 + node.index / 4 % 5;
    for (number, kind) in kinds.iter().cycle().skip(node.index / 4).take(count).enumerate() {
        parts.push(Box::new(Worker::start(node.index, number, *kind)?));
    }
    if node.index == COMPUTING {
        parts.push(Box::new(Computer::start()?));
    }
    Ok(())
}

/// How a thread waits.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// On a condition variable.
    Condition,
    /// In `read(2)` on a pipe.
    Pipe,
    /// In `poll(2)` on a pipe.
    Poll,
    /// In `futex(2)`, with a time limit that the kernel has to carry on.
    Futex,
    /// In `clock_nanosleep(2)`, again and again.
    Sleep,
    /// In `sigtimedwait(2)`.
    Signal,
}

/// What both sides of an order need.
struct Bell {
    kind: Kind,
    word: AtomicU32,
    order: Mutex<u32>,
    condition: Condvar,
    read: Mutex<PipeReader>,
    write: Mutex<PipeWriter>,
}

impl Bell {
    fn new(kind: Kind) -> Result<Self> {
        let (read, write) = std::io::pipe()?;
        let (read, write) = (Mutex::new(read), Mutex::new(write));
        Ok(Self {
            kind,
            word: AtomicU32::new(0),
            order: Mutex::new(0),
            condition: Condvar::new(),
            read,
            write,
        })
    }

    /// Wakes the thread.
    fn ring(&self, thread: Pid) -> Result<()> {
        match self.kind {
            Kind::Condition => {
                *self.order.lock().map_err(|_| anyhow!("a thread has panicked"))? += 1;
                self.condition.notify_one();
            }
            Kind::Pipe | Kind::Poll => {
                self.write.lock().map_err(|_| anyhow!("a thread has panicked"))?.write_all(b"!")?;
            }
            Kind::Futex => {
                self.word.fetch_add(1, AcqRel);
                futex::wake(&self.word, futex::Flags::PRIVATE, 1)?;
            }
            Kind::Sleep => {
                self.word.fetch_add(1, AcqRel);
            }
            Kind::Signal => sys::signal_thread(thread, WAKE as i32)?,
        }
        Ok(())
    }

    /// Waits for the order after `done`.
    fn wait(&self, done: u32) -> Result<()> {
        match self.kind {
            Kind::Condition => {
                let order = self.order.lock().map_err(|_| anyhow!("a thread has panicked"))?;
                drop(self.condition.wait_while(order, |order| *order == done));
            }
            Kind::Pipe => {
                self.read.lock().map_err(|_| anyhow!("a thread has panicked"))?.read_exact(&mut [0])?;
            }
            Kind::Poll => {
                let mut read = self.read.lock().map_err(|_| anyhow!("a thread has panicked"))?;
                let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&*read), PollFlags::POLLIN)];
                while matches!(poll(&mut ready, PollTimeout::NONE), Ok(0) | Err(Errno::EINTR)) {}
                read.read_exact(&mut [0])?;
            }
            Kind::Futex => {
                let limit = rustix::fs::Timespec { tv_sec: 3000, tv_nsec: 0 };
                while self.word.load(Acquire) == done {
                    match futex::wait(&self.word, futex::Flags::PRIVATE, done, Some(&limit)) {
                        Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Kind::Sleep => {
                while self.word.load(Acquire) == done {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Kind::Signal => while sys::take(&[WAKE as i32], Duration::from_secs(3000))?.is_none() {},
        }
        Ok(())
    }
}

/// The main thread's side of a thread.
struct Worker {
    bell: Arc<Bell>,
    answers: Receiver<Report>,
    thread: Pid,
    label: String,
}

impl Worker {
    fn start(node: usize, number: usize, kind: Kind) -> Result<Self> {
        let bell = Arc::new(Bell::new(kind)?);
        let (answer, answers) = channel();
        let (told, tell) = channel();
        let label = format!("worker {node}.{number}");
        let (its_bell, its_label) = (Arc::clone(&bell), label.clone());
        std::thread::Builder::new().name(label.clone()).spawn(move || {
            // The main thread misses the answer of a thread that ends with an error.
            let _ = work(&its_label, number, &its_bell, &told, &answer);
        })?;
        let thread = tell.recv_timeout(ANSWER).with_context(|| format!("{label} did not start"))?;
        Ok(Self { bell, answers, thread, label })
    }
}

impl Part for Worker {
    fn look(&mut self, _round: u32, report: &mut Report) {
        if report.works(&self.label, self.bell.ring(self.thread)).is_none() {
            return;
        }
        let what = format!("{} ({:?})", self.label, self.bell.kind);
        if let Some(found) = report.works(what, self.answers.recv_timeout(ANSWER)) {
            report.absorb(found);
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        Ok(sys::signal_thread(self.thread, OWN as i32)?)
    }
}

/// A thread's life: remember who I am, then compare at each order.
fn work(label: &str, number: usize, bell: &Bell, told: &Sender<Pid>, answer: &Sender<Report>) -> Result<()> {
    let mine = seed::number(label, 0);
    MINE.set(mine);
    // Masks that differ; these are ignored where they are not blocked.
    let mut open = SigSet::empty();
    open.add([Signal::SIGURG, Signal::SIGCONT, Signal::SIGCHLD][number % 3]);
    open.thread_unblock()?;
    let (thread, name, mask) = (gettid(), prctl::get_name()?, SigSet::thread_get_mask()?);
    let stack = sys::signal_stack()?;
    told.send(thread)?;
    let mut done = 0;
    loop {
        bell.wait(done)?;
        done += 1;
        let mut report = Report::default();
        report.same(format!("id of {label}"), &thread, &gettid());
        report.same(format!("own value of {label}"), &mine, &MINE.get());
        report.same(format!("name of {label}"), &Some(&name), &prctl::get_name().ok().as_ref());
        report.same(format!("mask of {label}"), &Some(mask), &SigSet::thread_get_mask().ok());
        report.same(format!("signal stack of {label}"), &Some(stack), &sys::signal_stack().ok());
        if let Some(found) =
            report.works(format!("own signal of {label}"), sys::take(&[OWN as i32], Duration::ZERO))
        {
            report.same(
                format!("own signal of {label}"),
                &Some((OWN as i32, nix::libc::SI_TKILL)),
                &found.map(|taken| (taken.signal, taken.code)),
            );
        }
        answer.send(report)?;
    }
}

/// A thread that computes: it is frozen in the middle of it, with its numbers in registers.
struct Computer {
    rounds: Arc<AtomicU32>,
    wrong: Arc<AtomicU32>,
}

impl Computer {
    fn start() -> Result<Self> {
        let (rounds, wrong) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (its_rounds, its_wrong) = (Arc::clone(&rounds), Arc::clone(&wrong));
        let right = chain();
        std::thread::Builder::new().name("computer".into()).spawn(move || {
            loop {
                if chain() != right {
                    its_wrong.fetch_add(1, Relaxed);
                }
                its_rounds.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(3));
            }
        })?;
        Ok(Self { rounds, wrong })
    }
}

/// A millisecond or more of arithmetic in integers and floating point, where every step needs the one before.
fn chain() -> (u64, [u64; 4]) {
    let mut word = std::hint::black_box(0x1234_5678_9abc_def0_u64);
    let mut lanes = std::hint::black_box([0.1_f64, 0.2, 0.3, 0.4]);
    for step in 0..100_000_u64 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
        for lane in &mut lanes {
            *lane = *lane * 3.7 * (1.0 - *lane);
        }
    }
    (word, lanes.map(f64::to_bits))
}

impl Part for Computer {
    fn look(&mut self, _round: u32, report: &mut Report) {
        report.same("wrong results of a computing thread", &0, &self.wrong.load(Relaxed));
        let before = self.rounds.load(Relaxed);
        let mut waited = 0;
        while self.rounds.load(Relaxed) == before && waited < 2000 {
            std::thread::sleep(Duration::from_millis(5));
            waited += 1;
        }
        report.holds("the computing thread goes on", self.rounds.load(Relaxed) != before);
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        Ok(())
    }
}
