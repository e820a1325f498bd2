//! A container, brought back from an archive.
//!
//! 1. **unpack**: the archive is opened and every frame that is needed is verified while it goes into a tmpfs that
//!    nobody else sees. Nothing was started, nothing was taken.
//! 2. The name is reserved: a folder, a record that says "being restored", a cgroup without limits.
//! 3. **fork tree**, **files and namespaces**, **memory and threads**: CRIU works, from within that cgroup.
//! 4. At `post-restore` the tasks are complete and wait: limits are set, the container is recorded.
//! 5. **resume**.
//!
//! Whatever fails takes all of it back. The archive is only read.

mod arrived;
mod cgroups;
mod chain;
mod foreign;
mod hostname;
mod inherit;
mod joined;
mod mounts;
mod outside;
mod plan;
mod privileges;
mod request;
mod runc;

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use floe_runtime::config::NamespaceKind;
use floe_runtime::{Container, ContainerId, Reservation, RestoreRoot, Store};
use floe_snapshot_format::{Member, Source};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::application::{About, Hooks, Moment};
use crate::cancel::Cancel;
use crate::checkpoint::Tools;
use crate::error::{Error, Result};
use crate::failure::{self, Failure};
use crate::given::Direction;
use crate::leftover::Watch;
use crate::outside::Connection;
use crate::preflight;
use crate::progress::{Phase, Progress};
use crate::scratch::Scratch;
use crate::session::{Answer, Handler, Home, Outcome, Session};
use crate::work::WorkFolder;
use cgroups::Places;
use inherit::Inherited;
use outside::Held;
pub(crate) use plan::Plan;
pub use runc::RuncForm;

/// Where CRIU writes its figures.
const STATS: &str = "stats-restore";

/// How a restore is made.
#[derive(Debug)]
pub struct Options {
    /// The bundle that gives the root file system and the configuration; `None` takes the one that this host's
    /// record of the snapshot names.
    pub bundle: Option<PathBuf>,
    /// Where the masters of terminals go whose other end is lost.
    pub console: Option<OwnedFd>,
    /// Let systemd make the cgroup.
    pub systemd_cgroup: bool,
    /// Compare the snapshot with this host first, and refuse what CRIU would refuse.
    pub check: bool,
    /// Bind mounts whose source is elsewhere on this host: the source in the configuration, and the new one.
    pub map: Vec<(PathBuf, PathBuf)>,
    /// The host name that it gets instead of the one that it had.
    pub hostname: Option<String>,
    /// Close the TCP connections that were kept at the checkpoint.
    pub tcp_close: bool,
    /// Longest time without a sign from CRIU.
    pub timeout: Duration,
    /// Commands in and for the restored container, besides those of the configuration.
    pub hooks: Hooks,
    /// What runc's form has besides.
    pub form: RuncForm,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bundle: None,
            console: None,
            systemd_cgroup: false,
            check: true,
            map: Vec::new(),
            hostname: None,
            tcp_close: false,
            timeout: Duration::from_secs(60),
            hooks: Hooks::default(),
            form: RuncForm::default(),
        }
    }
}

/// What a finished restore has to tell.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// The container.
    pub container: String,
    /// Its first process, a child of the caller.
    pub pid: i32,
    /// How many processes came back.
    pub processes: usize,
    /// Verifying and unpacking, in microseconds.
    pub unpack_us: u64,
    /// From the call until the tasks ran, in microseconds.
    pub total_us: u64,
    /// Whether the container writes to what is the caller's standard output: what the caller printed there would
    /// stand among the container's own words.
    pub holds_stdout: bool,
    /// TCP connections, and what has become of them.
    pub connections: Vec<Connection>,
}

/// Restores the snapshot `archive` as the container `id`. Its first process is a child of the caller, which waits for
/// it, or ends and leaves it to init.
///
/// # Errors
/// Any of [`Error`]; nothing of the container is left then.
pub fn restore(
    store: &Store,
    id: &ContainerId,
    archive: &dyn Source,
    mut options: Options,
    tools: Tools<'_>,
) -> Result<(Container, Report)> {
    let began = Instant::now();
    tools.progress.phase(Phase::Unpack);
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot { verb: "restore" });
    }
    options.form.check()?;
    let work_folder = options.form.extra.work.as_deref().map(WorkFolder::open).transpose()?;
    let mut plan = Plan::make(archive, options.bundle.as_deref(), tools)?;
    // A native configuration may say so itself.
    plan.config.systemd_cgroup |= options.systemd_cgroup;
    options.form.extra.criu = options.form.extra.criu.with_file(&plan.config, tools.progress)?;
    options.form.extra.criu.check(Direction::Restore)?;
    options.form.settle(&mut plan.choices)?;
    outside::choose(&mut plan, &options)?;
    if options.check {
        preflight::heed(preflight::arrival::of_plan(archive, &plan, tools)?, tools.progress)?;
    }
    let hooks = options.hooks.of_container(&plan.config, (!plan.native).then_some(&plan.bundle))?;
    let clone = match archive.manifest().snapshot.as_str() {
        // Images that floe did not write have no id.
        "" => None,
        snapshot if hooks.any(Moment::AfterRestore) => Some(tools.records.next_clone(snapshot)?),
        _ => None,
    };
    crate::outside::remember(&mut plan.config, &plan.outside.interfaces);
    // The name is taken first: that it is taken already is known before a gigabyte is unpacked.
    let mut reservation = store.reserve(id, plan.blueprint())?;
    // Not before: of two that are restored at once, the later one at least sees the other.
    outside::demand_addresses_of_its_own(store, id, reservation.config())?;
    let scratch = unpack(archive, tools)?;
    if !plan.own {
        privileges::check(&|name| scratch.read(name).ok(), &plan.config)?;
    }
    plan.adapt(&scratch, tools.criu)?;
    chain::complete(archive, &scratch, plan::layout_for(tools.criu))?;
    let unpacked = began.elapsed();
    let root = RestoreRoot::prepare(reservation.config(), &reservation.restore_root())?;
    let network = outside::network(&mut reservation, &plan)?;
    let connections = outside::connections(archive.manifest(), &plan);
    outside::demand_addresses(&plan, &connections, network.as_ref())?;
    let inherited = Inherited::collect(&plan, network, tools.progress)?;
    inherited.adapt(&scratch)?;
    let holds_stdout = inherited.holds_stdout();

    let watch = tools.records.watch(None)?;
    let held = outside::held(&plan, &archive.manifest().snapshot, &connections);
    let tasks: Vec<u32> = archive.manifest().tasks.iter().map(|task| task.pid).collect();
    let work = Work {
        tasks: &tasks,
        held: held.as_ref(),
        plan: &plan,
        root: &root,
        scratch: &scratch,
        options: &options,
        tools,
    };
    let result = run(reservation, inherited, work, &watch);
    if let Some(folder) = work_folder {
        folder.keep(&scratch, &[request::LOG, STATS], tools.progress);
    }
    drop(root);
    watch.end();
    let (container, pid) = result?;
    let about = About { snapshot: &archive.manifest().snapshot, clone };
    if let Err(error) = hooks.run(Moment::AfterRestore, &container, about, tools.progress) {
        // A clone that has another's seeds and secrets, or its address, must not go on; the snapshot brings it back.
        container.delete(true)?;
        return Err(error.into());
    }
    if plan.paused && !options.form.runs {
        container.pause()?;
    }
    let report = Report {
        container: id.to_string(),
        pid,
        processes: archive.manifest().tasks.len(),
        unpack_us: micros(unpacked),
        total_us: micros(began.elapsed()),
        holds_stdout,
        connections,
    };
    Ok((container, report))
}

/// Every image into a tmpfs, each byte verified before it is written.
fn unpack(archive: &dyn Source, tools: Tools<'_>) -> Result<Scratch> {
    let scratch = Scratch::new()?;
    let image = |member: &Member| {
        member.name.as_str().strip_prefix("checkpoint/").is_some_and(|name| !name.contains('/'))
    };
    let mut place = |member: &Member| {
        let name = member.name.as_str().trim_start_matches("checkpoint/");
        scratch.create(name).map_err(std::io::Error::other)
    };
    archive.unpack(&image, &mut place, &Unpacking { progress: tools.progress, cancel: tools.cancel })?;
    Ok(scratch)
}

struct Unpacking<'a> {
    progress: &'a dyn Progress,
    cancel: Option<&'a Cancel>,
}

impl floe_snapshot_format::Progress for Unpacking<'_> {
    fn bytes(&self, done: u64, total: u64) {
        self.progress.bytes(done, Some(total));
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_some_and(Cancel::is_raised)
    }
}

/// What CRIU is to do, and with what.
#[derive(Clone, Copy)]
struct Work<'a> {
    tasks: &'a [u32],
    held: Option<&'a Held>,
    plan: &'a Plan,
    root: &'a RestoreRoot,
    scratch: &'a Scratch,
    options: &'a Options,
    tools: Tools<'a>,
}

fn run(
    reservation: Reservation,
    inherited: Inherited,
    work: Work<'_>,
    watch: &Watch,
) -> Result<(Container, i32)> {
    let Work { tasks, held, plan, root, scratch, options, tools } = work;
    let (keys, fds) = inherited.into_parts();
    let keyring = floe_runtime::keyring::name_for(reservation.id(), reservation.config());
    // CRIU works from within: what it forks is where it belongs from its first instruction on.
    let home = Home { note: Some(watch.pen()?), ..home(&reservation, keyring.as_deref(), tools.progress)? };
    let entered = !home.doors.is_empty();
    let (session, numbers) = Session::spawn_at(tools.criu.path(), fds, home)?;
    if !entered {
        reservation.cgroup().add(Pid::from_raw(session.pid()))?;
    }
    let places = Places::new(&plan.outside.cgroups, plan.own, tasks.to_vec(), session.pid())?;
    let mounts = plan.mounts(reservation.cgroup())?;
    let inherit: Vec<_> = keys.into_iter().zip(numbers).collect();
    let mut request =
        request::restore(plan, root.path(), &mounts, &inherit, crate::session::own_number(scratch));
    options.form.add_to_request(&mut request);
    joined::add_to_request(&plan.config, &mut request);
    let _file = options.form.extra.criu.add_to_request(&mut request, Direction::Restore)?;
    let mut handler = Restoring {
        reservation,
        progress: tools.progress,
        phase: Phase::Unpack,
        pid: None,
        console: options.console.as_ref(),
        trusted: plan.own,
        held,
        places,
        hostname: options.hostname.as_deref(),
        masters: Vec::new(),
    };
    let outcome = session.call(&request, &mut handler, tools.cancel, options.timeout);
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            handler.give_up(None);
            return Err(error);
        }
    };
    let replied = outcome
        .reply
        .as_ref()
        .and_then(|reply| reply.restore.as_ref())
        .map(|restore| restore.pid())
        .filter(|pid| *pid > 0);
    let (Some(pid), true) = (handler.pid.or(replied), outcome.succeeded()) else {
        let phase = handler.phase;
        let subject = handler.reservation.id().to_string();
        handler.give_up(replied);
        return Err(explain(outcome, phase, work, &subject));
    };
    let container = handler.reservation.keep()?;
    Ok((container, pid))
}

/// Where CRIU lives: in the container's cgroup, and if the container sees that as its root, in a namespace that begins
/// there. CRIU does not bring the namespace back, so the container gets it from CRIU; without it, it would see and mount
/// the host's whole tree.
fn home<'a>(
    reservation: &Reservation,
    keyring: Option<&'a str>,
    progress: &dyn Progress,
) -> Result<Home<'a>> {
    let entrance = reservation.cgroup().entrance();
    let procs = entrance.directory.iter().map(|directory| directory.join("cgroup.procs"));
    let open = |path: PathBuf| {
        OpenOptions::new().write(true).open(&path).map_err(|source| Error::call("open", &path, source))
    };
    let doors = procs.chain(entrance.tasks.iter().cloned()).map(open).collect::<Result<Vec<_>>>()?;
    let wanted = reservation.config().creates(NamespaceKind::Cgroup);
    if wanted && doors.is_empty() {
        // A scope of systemd begins with the process that is put into it.
        progress.warn("it has no cgroup namespace of its own any more, and sees the host's cgroups");
    }
    Ok(Home { note: None, keyring, cgroup_namespace: wanted && !doors.is_empty(), doors })
}

fn explain(outcome: Outcome, phase: Phase, work: Work<'_>, subject: &str) -> Error {
    if let Some(veto) = outcome.veto {
        return veto;
    }
    let log = work.scratch.read_text(request::LOG);
    let folder = work.tools.records.failures();
    let kept = failure::Work { folder: &folder, subject, verb: "restore", phase };
    Error::Criu(Box::new(Failure::explain(&outcome, kept, &log, &work.plan.names)))
}

/// Hears what CRIU does.
struct Restoring<'a> {
    reservation: Reservation,
    progress: &'a dyn Progress,
    phase: Phase,
    pid: Option<i32>,
    console: Option<&'a OwnedFd>,
    /// Whether what comes back needs no look at.
    trusted: bool,
    /// Where its processes are to be.
    places: Places,
    /// The host name that it gets.
    hostname: Option<&'a str>,
    /// What holds back packets for its connections until they are there.
    held: Option<&'a Held>,
    /// Masters of terminals that nobody asked for: held until the restore is over, then the terminal hangs up.
    masters: Vec<OwnedFd>,
}

impl Restoring<'_> {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.progress.phase(phase);
    }

    /// Ends what was started. The first process is our child (rst_sibling), and stays a zombie until it is waited for.
    fn give_up(self, replied: Option<i32>) {
        let Self { reservation, pid, .. } = self;
        if let Err(error) = reservation.cgroup().kill_all() {
            self.progress.warn(&format!("not everything of the failed restore could be ended: {error}"));
        }
        for pid in [pid, replied].into_iter().flatten() {
            let pid = Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
    }
}

impl Handler for Restoring<'_> {
    fn notify(&mut self, script: &str, pid: Option<i32>, fd: Option<OwnedFd>) -> Result<Answer> {
        match script {
            "pre-restore" => self.enter(Phase::ForkTree),
            "setup-namespaces" => {
                self.pid = pid;
                self.enter(Phase::FilesAndNamespaces);
                if let Some(pid) = pid {
                    self.reservation.run_hooks(Pid::from_raw(pid))?;
                }
            }
            "post-restore" => {
                self.enter(Phase::MemoryAndThreads);
                self.pid = pid.or(self.pid);
                // Everything is in memory and nothing runs yet: from here on the limits hold.
                self.reservation.apply_limits()?;
                if let Some(pid) = self.pid {
                    let pid = Pid::from_raw(pid);
                    floe_runtime::protect_restored(self.reservation.config(), pid)?;
                    self.places.settle(pid.as_raw(), self.reservation.cgroup(), self.progress)?;
                    self.hostname.map_or(Ok(()), |name| hostname::set(pid.as_raw(), name))?;
                    if !self.trusted {
                        arrived::check(self.reservation.config(), pid, self.reservation.cgroup())?;
                    }
                    self.reservation.record(pid)?;
                }
            }
            "orphan-pts-master" => {
                if let Some(master) = fd {
                    match self.console {
                        Some(socket) => floe_runtime::console::send(
                            std::os::fd::AsFd::as_fd(socket),
                            b"/dev/ptmx",
                            std::os::fd::AsFd::as_fd(&master),
                        )?,
                        None => self.masters.push(master),
                    }
                }
            }
            // The last one that CRIU heeds, with nothing left to be done for connections.
            "network-unlock" => {
                self.reservation.open_network()?;
                self.held.map_or(Ok(()), Held::lift)?;
            }
            "pre-resume" => self.enter(Phase::Resume),
            _ => {}
        }
        Ok(Answer::yes())
    }

    fn phase(&self) -> Phase {
        self.phase
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
