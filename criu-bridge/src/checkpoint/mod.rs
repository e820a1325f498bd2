//! A container, dumped into one archive.
//!
//! 1. **collect**: the container is looked at while it runs ([`collect`]); a leftover of a killed dump is removed.
//! 2. A journal entry is written: should floe be killed from here on, the next floe command thaws the container.
//! 3. **freeze**, **dump pages**: CRIU works; pages flow through [`crate::pages`] into the archive.
//! 4. **seal**: manifest, index, table; fsync; rename.
//!
//! Whatever fails before the rename leaves the container as it was and no file. With `leave_running` the container
//! runs again before pages that still wait are compressed; otherwise CRIU kills it only after the rename.

mod budget;
mod collect;
mod dump;
mod options;
mod request;
pub(crate) mod rounds;
pub(crate) mod seal;

use std::cell::Cell;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use floe_runtime::config::{Config, NamespaceKind};
use floe_runtime::{Container, Status, Verb};
use floe_snapshot_format::{Destination, Sink};
use nix::sys::socket::{setsockopt, sockopt};

pub(crate) use collect::processes;
pub use collect::{Plan, collect};
pub use options::{Options, Tcp};
pub use rounds::{needs_tracking, pre_dump};
pub use seal::cpu_features;

use crate::application::{About, Moment};
use crate::cancel::Cancel;
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::failure::{Failure, Work};
use crate::given::Direction;
use crate::leftover::Watch;
use crate::outside::rules::Lock;
use crate::outside::{Connection, Fate};
use crate::pages::PageReceiver;
use crate::preflight;
use crate::progress::{Phase, Progress};
use crate::record::Records;
use crate::scratch::Scratch;
use crate::session::{Home, Outcome, Session, own_number};
use crate::tasks::Task;
use crate::work::WorkFolder;
use dump::{Dump, Job};
use rounds::Before;
use seal::Seal;

/// Room in the page socket: what CRIU sends while the receiver looks elsewhere, several times over.
const PAGE_SOCKET_BUFFER: usize = 8 << 20;

/// What a finished checkpoint has to tell.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// The archive.
    pub path: PathBuf,
    /// Its id.
    pub snapshot: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes before compression.
    pub plain_bytes: u64,
    /// Bytes of memory pages.
    pub page_bytes: u64,
    /// How many processes were dumped.
    pub processes: usize,
    /// How long the container stood still, in microseconds: CRIU's own figure where the container runs on, else
    /// from the order to freeze until everything was dumped.
    pub frozen_us: u64,
    /// From the call to the end, in microseconds.
    pub total_us: u64,
    /// Most bytes of pages that waited in memory.
    pub spool_peak: u64,
    /// Whether the container runs on.
    pub running: bool,
    /// TCP connections, and what becomes of them in the restored container.
    pub connections: Vec<Connection>,
}

/// Who makes a checkpoint, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Tools<'a> {
    /// The CRIU to drive.
    pub criu: &'a Criu,
    /// The records of this host.
    pub records: &'a Records,
    /// Hears how far the work is.
    pub progress: &'a dyn Progress,
    /// Stops it.
    pub cancel: Option<&'a Cancel>,
}

/// Dumps `container` into a snapshot at `destination`.
///
/// # Errors
/// Any of [`Error`]. [`Error::SetRunningAgain`] around it says that the container had been frozen meanwhile; without
/// it nothing was changed.
pub fn checkpoint(
    container: &mut Container,
    destination: &dyn Destination,
    options: &Options,
    tools: Tools<'_>,
) -> Result<Report> {
    let began = Instant::now();
    tools.progress.phase(Phase::Collect);
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot { verb: "checkpoint" });
    }
    let status = container.status();
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(Error::WrongState {
            id: container.id().to_string(),
            status: status.to_string(),
            hint: "only a running or paused container can be checkpointed",
        });
    }
    let options = &options.settled(container.config(), tools.progress)?;
    let own_bundle = (!container.is_native()).then(|| container.bundle());
    let hooks = options.hooks.of_container(container.config(), own_bundle)?;
    let snapshot = seal::new_id()?;
    let journal = container.begin_journal(Verb::Checkpoint)?;
    let about = About { snapshot: &snapshot, clone: None };
    let result = match hooks.run(Moment::BeforeFreeze, container, about, tools.progress) {
        Ok(()) => frozen(container, destination, options, tools, &snapshot),
        Err(error) => Err(Error::NotReady(error)),
    };
    // What was made quiet goes on, whatever became of the snapshot; that is whole or not there by now.
    if let Err(error) = hooks.run(Moment::AfterFreeze, container, about, tools.progress) {
        tools.progress.warn(&error.to_string());
    }
    journal.end()?;
    let done = result?;
    let sealed = done.sealed;
    Ok(Report {
        path: sealed.path,
        snapshot,
        bytes: sealed.bytes,
        plain_bytes: sealed.plain_bytes,
        page_bytes: done.page_bytes,
        processes: done.processes,
        frozen_us: micros(done.frozen),
        total_us: micros(began.elapsed()),
        spool_peak: sealed.spool_peak,
        running: options.leave_running,
        connections: done.connections,
    })
}

/// From the first look until the container is gone, runs on, or is as it was.
fn frozen(
    container: &mut Container,
    destination: &dyn Destination,
    options: &Options,
    tools: Tools<'_>,
    snapshot: &str,
) -> Result<Done> {
    let was_paused = container.status() == Status::Paused;
    if options.extra.before.is_some() {
        needs_tracking(tools.criu)?;
    }
    if options.check {
        preflight::before(container, options, tools)?;
    }
    let mut plan = collect(container, options)?;
    plan.lock =
        crate::outside::choose_lock(options.network_lock, plan.lock_network, tools.criu, tools.progress)?;
    remove_leftovers(&plan, was_paused, tools.progress);
    let lock = match plan.lock_network {
        true => Lock::of(plan.lock, &plan.pids, joined_network(container.config()), &plan.connections)?,
        false => None,
    };
    let mut watch = tools.records.watch(lock.clone())?;
    let froze = Cell::new(false);
    let leave_running = options.leave_running;
    container.hold_network()?;
    let job = Job { plan: &plan, tools, destination, leave_running, snapshot, froze: &froze };
    let result = run(container, options, job, &watch);
    if let (Ok(done), Some(lock), false) = (&result, &lock, options.leave_running) {
        watch.network_is_settled();
        if let Err(failure) = lock.narrow(snapshot, &done.connections) {
            tools.progress.warn(&format!(
                "packets for its connections could not be held back in the network namespace that it shared, whose peers \
                 may end them before the restore: {failure}"
            ));
        }
    }
    watch.end();
    if let Err(failure) = container.release_network() {
        tools.progress.warn(&format!("its network is still there until it is deleted: {failure}"));
    }
    result.map_err(|error| set_back_after(error, container, was_paused, &froze, tools.progress))
}

/// Where the configuration has the network namespace that it joins.
fn joined_network(config: &Config) -> Option<&Path> {
    config.namespace(NamespaceKind::Network)?.path.as_deref()
}

/// What came of a dump.
struct Done {
    sealed: floe_snapshot_format::Sealed,
    page_bytes: u64,
    processes: usize,
    frozen: Duration,
    connections: Vec<Connection>,
}

fn run(container: &mut Container, options: &Options, job: Job<'_>, watch: &Watch) -> Result<Done> {
    let scratch = Scratch::new()?;
    let work = options.extra.work.as_deref().map(WorkFolder::open).transpose()?;
    let result = run_in(container, options, job, watch, &scratch);
    if let Some(work) = work {
        work.keep(&scratch, &[request::LOG, seal::STATS], job.tools.progress);
    }
    result
}

fn run_in(
    container: &mut Container,
    options: &Options,
    job: Job<'_>,
    watch: &Watch,
    scratch: &Scratch,
) -> Result<Done> {
    let Job { plan, tools, destination, .. } = job;
    let before = options.extra.before.as_deref().map(Before::open).transpose()?;
    let mut seal = Seal::new(container, tools.criu, scratch, options, job.snapshot.to_owned())?;
    seal.follows(before.as_ref());
    let archive = seal.begin(destination, options, plan)?;
    let cancelled = || tools.cancel.is_some_and(Cancel::is_raised);
    archive.reserve(plan.memory, &cancelled)?;
    if cancelled() {
        return Err(Error::Interrupted { phase: Phase::Collect });
    }
    let Begun { receiver, session, pages } = begin(archive, before.as_ref(), watch, tools)?;
    let mut request = request::dump(plan, options, request::Numbers { scratch: own_number(scratch), pages });
    if let Some(before) = &before {
        before.add_to_request(&mut request);
    }
    let _file = options.extra.criu.add_to_request(&mut request, Direction::Dump)?;
    let mut dump = Dump::new(container, job, seal, receiver);
    let outcome = session.call(&request, &mut dump, tools.cancel, options.timeout)?;
    if !outcome.succeeded() {
        if outcome.reply.is_some() || !dump.has_begun_to_end() {
            return Err(failed(dump, outcome, scratch));
        }
        dump.end_the_rest(&outcome)?;
    }
    if options.leave_running
        && let Err(error) = dump.finish()
    {
        dump.take_back();
        return Err(error);
    }
    let Some(sealed) = dump.sealed.take() else {
        return Err(Error::NotCriu {
            path: tools.criu.path().to_owned(),
            detail: "it said that it had dumped, and never asked at post-dump".to_owned(),
        });
    };
    Ok(Done {
        page_bytes: dump.page_bytes,
        processes: dump.pids.len(),
        frozen: dump.frozen,
        connections: dump.connections(if options.tcp == Tcp::Close { Fate::Closed } else { Fate::Kept }),
        sealed,
    })
}

/// A CRIU that waits for its request, and who takes its pages.
struct Begun {
    receiver: PageReceiver,
    session: Session,
    /// The number that CRIU has its end of their socket by.
    pages: RawFd,
}

/// Starts CRIU, and with it what writes its pages to `sink`.
fn begin(sink: Box<dyn Sink>, before: Option<&Before>, watch: &Watch, tools: Tools<'_>) -> Result<Begun> {
    let (ours, theirs) =
        UnixStream::pair().map_err(|source| Error::call("socketpair", "for pages", source))?;
    widen(&theirs);
    let left = before.map(Before::pages).unwrap_or_default();
    let receiver = PageReceiver::start(ours, tools.criu.version().page_wire(), sink, left)?;
    let home = Home { note: Some(watch.pen()?), ..Home::default() };
    let (session, numbers) = Session::spawn_at(tools.criu.path(), vec![OwnedFd::from(theirs)], home)?;
    Ok(Begun { receiver, session, pages: numbers.first().copied().unwrap_or(-1) })
}

/// CRIU's pipes hold a megabyte; a socket that takes less than that at once makes it wait for the reader.
fn widen(socket: &UnixStream) {
    // Beyond net.core.wmem_max this needs CAP_NET_ADMIN; a smaller buffer only costs time.
    let _ = setsockopt(socket, sockopt::SndBufForce, &PAGE_SOCKET_BUFFER);
}

/// The nearest cause of a failed dump. An archive that got its name in the last moment is taken back.
fn failed(mut dump: Dump<'_>, outcome: Outcome, scratch: &Scratch) -> Error {
    let phase = crate::session::Handler::phase(&dump);
    dump.take_back();
    let pages = dump.take_pages().and_then(|(_, received)| received.err());
    let cut = matches!(outcome.veto, Some(Error::Interrupted { .. } | Error::TimedOut { .. }));
    if let Some(veto) = outcome.veto {
        return veto;
    }
    match pages {
        // What stopped the receiver (a full disk, most often) made CRIU fail, not the other way round.
        Some(error @ Error::Snapshot(_)) if !cut => error,
        _ => {
            let pids: Vec<i32> = dump.pids.iter().chain(&dump.plan().pids).copied().collect();
            explain(&outcome, phase, &dump.container_id(), &pids, dump.tools(), scratch)
        }
    }
}

/// What CRIU says of its failure.
fn explain(
    outcome: &Outcome,
    phase: Phase,
    subject: &str,
    pids: &[i32],
    tools: Tools<'_>,
    scratch: &Scratch,
) -> Error {
    let log = scratch.read_text(request::LOG);
    let work = Work { folder: &tools.records.failures(), subject, verb: "dump", phase };
    let names = pids.iter().map(|pid| (*pid, Task::look(*pid).name)).collect();
    Error::Criu(Box::new(Failure::explain(outcome, work, &log, &names)))
}

/// The error of a checkpoint whose container was set back to what it was.
fn set_back_after(
    error: Error,
    container: &Container,
    was_paused: bool,
    froze: &Cell<bool>,
    progress: &dyn Progress,
) -> Error {
    let as_before = set_back(container, was_paused, progress);
    if froze.get() && as_before { error.set_running_again() } else { error }
}

/// After a failure the container is what it was: running, or paused. `false` if it cannot be, which is told.
fn set_back(container: &Container, was_paused: bool, progress: &dyn Progress) -> bool {
    let cgroup = container.cgroup();
    let back = match (was_paused, cgroup.is_frozen()) {
        (true, Ok(false)) => cgroup.freeze(),
        (false, Ok(true)) => cgroup.thaw(),
        (_, Err(failure)) => Err(failure),
        _ => Ok(()),
    };
    if let Err(failure) = back {
        progress.warn(&format!(
            "the container could not be set going again: {failure}; try `floe resume {}`",
            container.id()
        ));
        return false;
    }
    if container.init_pid().is_none() {
        progress.warn(&format!("the first process of {} ended meanwhile", container.id()));
        return false;
    }
    true
}

/// Mappings that a killed dump left are taken out before the next one. A paused container's tasks cannot be made to
/// run even one instruction; theirs wait for the first checkpoint when they run.
fn remove_leftovers(plan: &Plan, was_paused: bool, progress: &dyn Progress) {
    if was_paused {
        return;
    }
    for pid in &plan.pids {
        match crate::parasite::remove(*pid) {
            Ok(0) => {}
            Ok(count) => progress.warn(&format!(
                "process {pid}: {count} mappings that a killed checkpoint had left were removed"
            )),
            Err(error) => progress.warn(&format!("a leftover of a killed checkpoint stays: {error}")),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
