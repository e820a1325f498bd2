//! Timers: far from their end, at it, and going on and on.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::sys::timerfd::{self, TimerFd, TimerFlags};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::alarm;

use super::{Node, Part};
use crate::report::Report;
use crate::sys;

/// What is left of a timer is compared with what was left and the time since; a checkpoint reads the one and sets the
/// other at other moments, and a loaded machine may be slow between them.
const TOLERANCE: f64 = 20.0;
/// Long enough to never end during a test.
const LONG: u64 = 5000;
/// Time that a timer which goes on gets to do so.
const NEXT: Duration = Duration::from_secs(10);

/// Makes the timers of a node.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let seconds = LONG + node.index as u64 * 10;
    if node.index.is_multiple_of(3) {
        parts.push(Box::new(Far::new(seconds)?));
    }
    match node.index % 6 {
        1 => parts.push(Box::new(Over::new(node.index)?)),
        2 => parts.push(Box::new(Ticking::new(node.index)?)),
        4 => parts.push(Box::new(Descriptor::new(seconds, node.settings.ticking)?)),
        5 => parts.push(Box::new(Alarm { seconds: seconds as u32, set: now()? })),
        _ => {}
    }
    Ok(())
}

/// The monotonic clock in seconds. A restore goes on from where the checkpoint stood: processes come back into a
/// time namespace.
fn now() -> Result<f64> {
    Ok(seconds(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

fn seconds(time: TimeSpec) -> f64 {
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

fn long(value: u64) -> TimeSpec {
    TimeSpec::from_duration(Duration::from_secs(value))
}

/// Compares what is left of a timer with what should be.
fn compare_left(what: &str, total: f64, set: f64, left: f64, report: &mut Report) {
    if let Some(now) = report.works("monotonic clock", now()) {
        let expected = total - (now - set);
        report.holds(
            format!("{what}: {left:.1} s are left of {total} s, not {expected:.1} s"),
            (left - expected).abs() < TOLERANCE,
        );
    }
}

/// A POSIX timer and one without a signal, both far from their end.
struct Far {
    signals: Timer,
    silent: Timer,
    seconds: u64,
    set: f64,
}

impl Far {
    fn new(seconds: u64) -> Result<Self> {
        let notify = SigevNotify::SigevSignal { signal: Signal::SIGVTALRM, si_value: 77 };
        Ok(Self {
            signals: Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?,
            silent: Timer::new(ClockId::CLOCK_REALTIME, SigEvent::new(SigevNotify::SigevNone))?,
            seconds,
            set: 0.0,
        })
    }
}

impl Part for Far {
    fn look(&mut self, _round: u32, report: &mut Report) {
        let (total, interval) = (self.seconds, long(self.seconds * 2));
        for (what, timer) in [("timer with a signal", &self.signals), ("timer without one", &self.silent)] {
            match timer.get() {
                Ok(Some(Expiration::IntervalDelayed(left, every))) => {
                    report.same(format!("interval of a {what}"), &interval, &every);
                    compare_left(what, total as f64, self.set, seconds(left), report);
                }
                other => report.note(format!("{what}: {other:?}")),
            }
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        let expiration = Expiration::IntervalDelayed(long(self.seconds), long(self.seconds * 2));
        self.signals.set(expiration, TimerSetTimeFlags::empty())?;
        self.silent.set(expiration, TimerSetTimeFlags::empty())?;
        self.set = now()?;
        Ok(())
    }
}

/// A POSIX timer that has ended: its signal is pending with its value.
struct Over {
    timer: Timer,
    value: usize,
}

const OVER: Signal = Signal::SIGXFSZ;

impl Over {
    fn new(index: usize) -> Result<Self> {
        let value = 4000 + index;
        let notify = SigevNotify::SigevSignal { signal: OVER, si_value: value as isize };
        Ok(Self { timer: Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?, value })
    }
}

impl Part for Over {
    fn look(&mut self, _round: u32, report: &mut Report) {
        if let Some(found) = report.works("signal of a timer", sys::take(&[OVER as i32], Duration::ZERO)) {
            let found = found.map(|signal| (signal.code, signal.value));
            report.same("signal of a timer that ended", &Some((libc::SI_TIMER, self.value)), &found);
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        self.timer.set(
            Expiration::OneShot(TimeSpec::from_duration(Duration::from_micros(1))),
            TimerSetTimeFlags::empty(),
        )?;
        wait_for_pending(OVER)
    }
}

/// Waits until a blocked signal is pending.
fn wait_for_pending(signal: Signal) -> Result<()> {
    for _ in 0..10_000 {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).context("no ShdPnd")?;
        if u64::from_str_radix(pending.trim(), 16)? & (1 << (signal as u32 - 1)) != 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("{signal} does not become pending")
}

/// A POSIX timer that goes on: its signal is pending, and after it has been taken there is another one soon.
struct Ticking {
    timer: Timer,
    value: usize,
}

const TICK: Signal = Signal::SIGPROF;

impl Ticking {
    fn new(index: usize) -> Result<Self> {
        let value = 5000 + index;
        let notify = SigevNotify::SigevSignal { signal: TICK, si_value: value as isize };
        Ok(Self { timer: Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?, value })
    }
}

impl Part for Ticking {
    fn look(&mut self, _round: u32, report: &mut Report) {
        for what in ["signal of a ticking timer", "next signal of a ticking timer"] {
            if let Some(found) = report.works(what, sys::take(&[TICK as i32], NEXT)) {
                report.same(
                    what,
                    &Some((libc::SI_TIMER, self.value)),
                    &found.map(|tick| (tick.code, tick.value)),
                );
            }
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        let every = TimeSpec::from_duration(Duration::from_millis(20));
        self.timer.set(Expiration::Interval(every), TimerSetTimeFlags::empty())?;
        wait_for_pending(TICK)
    }
}

/// Timers as descriptors: one far from its end, one that ended and was not read, one that goes on.
struct Descriptor {
    far: TimerFd,
    over: TimerFd,
    ticking: Option<TimerFd>,
    seconds: u64,
    set: f64,
}

impl Descriptor {
    fn new(seconds: u64, ticking: bool) -> Result<Self> {
        let make = |clock, flags| TimerFd::new(clock, flags);
        Ok(Self {
            far: make(timerfd::ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?,
            over: make(timerfd::ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?,
            ticking: ticking
                .then(|| make(timerfd::ClockId::CLOCK_REALTIME, TimerFlags::empty()))
                .transpose()?,
            seconds,
            set: 0.0,
        })
    }
}

impl Part for Descriptor {
    fn look(&mut self, _round: u32, report: &mut Report) {
        match self.far.get() {
            Ok(Some(timerfd::Expiration::IntervalDelayed(left, every))) => {
                report.same("interval of a timer descriptor", &long(self.seconds * 3), &every);
                compare_left("timer descriptor", self.seconds as f64, self.set, seconds(left), report);
            }
            other => report.note(format!("timer descriptor: {other:?}")),
        }
        if let Some(ticks) = report.works("timer descriptor that ended", ticks(&self.over)) {
            report.same("ticks of a timer descriptor that ended", &1, &ticks);
        }
        for timer in self.ticking.iter().chain(&self.ticking) {
            if let Some(ticks) = report.works("ticking timer descriptor", ticks(timer)) {
                report.holds("a timer descriptor ticks", ticks > 0);
            }
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        let flags = timerfd::TimerSetTimeFlags::empty();
        self.far
            .set(timerfd::Expiration::IntervalDelayed(long(self.seconds), long(self.seconds * 3)), flags)?;
        self.set = now()?;
        self.over
            .set(timerfd::Expiration::OneShot(TimeSpec::from_duration(Duration::from_micros(1))), flags)?;
        if let Some(timer) = &self.ticking {
            let every = TimeSpec::from_duration(Duration::from_millis(50));
            timer.set(timerfd::Expiration::Interval(every), flags)?;
        }
        Ok(())
    }
}

/// Reads how often a timer has ended; where it blocks, until it has.
fn ticks(timer: &TimerFd) -> Result<u64> {
    let mut value = [0; 8];
    std::fs::File::from(
        timer.as_fd().try_clone_to_owned().with_context(|| format!("dup {}", timer.as_fd().as_raw_fd()))?,
    )
    .read_exact(&mut value)?;
    Ok(u64::from_ne_bytes(value))
}

/// The old kind of timer.
struct Alarm {
    seconds: u32,
    set: f64,
}

impl Part for Alarm {
    fn look(&mut self, _round: u32, report: &mut Report) {
        let left = alarm::set(self.seconds).unwrap_or(0);
        compare_left("alarm", f64::from(self.seconds), self.set, f64::from(left), report);
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        alarm::set(self.seconds);
        self.set = now()?;
        Ok(())
    }
}
