//! A mutex in shared memory that one process holds while another waits for it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::errno::Errno;
use rustix::thread::futex;

use super::fabric::Fabric;
use super::{Node, Part};
use crate::report::Report;
use crate::sys::SharedMutex;

/// The node that holds the mutex between rounds, and the one that waits for it.
const HOLDER: usize = 5;
const WAITER: usize = 8;
/// Time that the waiter gets to take the mutex.
const HAND_OVER: Duration = Duration::from_secs(20);

/// Makes a node the holder or the waiter.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, fabric: &Fabric, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let [passed, turn, ..] = fabric.turns.words() else { return Ok(()) };
    match node.index {
        HOLDER => {
            // Nobody waits before the first turn is given.
            fabric.mutex.lock()?;
            parts.push(Box::new(Holder { mutex: fabric.mutex, passed, turn }));
        }
        WAITER => {
            let mutex = fabric.mutex;
            std::thread::Builder::new().name("mutex waiter".into()).spawn(move || {
                // Ends with a mutex that is broken; the holder then says that nobody took it.
                let mut seen = 0;
                while wait_for_turn(mutex, passed, turn, &mut seen).is_ok() {}
            })?;
        }
        _ => {}
    }
    Ok(())
}

/// Waits for the next turn, then for the mutex, and passes it back.
fn wait_for_turn(mutex: SharedMutex, passed: &AtomicU32, turn: &AtomicU32, seen: &mut u32) -> Result<()> {
    while turn.load(Acquire) == *seen {
        match futex::wait(turn, futex::Flags::empty(), *seen, None) {
            Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    *seen = turn.load(Acquire);
    mutex.lock()?;
    passed.fetch_add(1, AcqRel);
    Ok(mutex.unlock()?)
}

struct Holder {
    mutex: SharedMutex,
    passed: &'static AtomicU32,
    turn: &'static AtomicU32,
}

impl Holder {
    /// Gives the mutex away and gets it back.
    fn pass(&self) -> Result<()> {
        let before = self.passed.load(Acquire);
        self.mutex.unlock()?;
        let begun = Instant::now();
        while self.passed.load(Acquire) == before {
            ensure!(begun.elapsed() < HAND_OVER, "nobody took the mutex");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.mutex.lock()?)
    }
}

impl Part for Holder {
    fn look(&mut self, round: u32, report: &mut Report) {
        // The mutex knows its owner by thread id.
        let again = self.mutex.lock().map_err(|error| error.raw_os_error());
        report.same("a mutex that this thread holds", &Err(Some(Errno::EDEADLK as i32)), &again);
        report.same("how often the mutex was passed on", &round, &self.passed.load(Acquire));
        report.works("pass the mutex on", self.pass());
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        // From here on the other one waits for what this thread holds.
        self.turn.fetch_add(1, AcqRel);
        futex::wake(self.turn, futex::Flags::empty(), 1)?;
        Ok(())
    }
}
