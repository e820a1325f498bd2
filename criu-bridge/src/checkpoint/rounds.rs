//! Dumps in several rounds: the first take memory only, while the container runs on in between, and each that follows holds
//! what has changed since. What changed is known only to kernels that track it (`CONFIG_MEM_SOFT_DIRTY`).
//!
//! A round is a folder of images like that of a whole dump, without anything but memory; the next one has CRIU's link `parent`
//! to it, as runc and podman make them, and its manifest the digest of the other's.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use floe_runtime::{Container, Status, Verb};
use floe_snapshot_format::{Destination, Directory, Source};
use rust_criu::rust_criu_protobuf::rpc::{Criu_req, Criu_req_type};

use super::collect::collect;
use super::dump::Job;
use super::options::Options;
use super::seal::{Contents, Seal, new_id};
use super::{Begun, Tools, begin, explain, request, set_back_after};
use crate::cancel::Cancel;
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::leftover::Watch;
use crate::outside::HostFiles;
use crate::pages::{Owner, ReceiverHandle};
use crate::preflight::Blocker;
use crate::progress::Phase;
use crate::scratch::Scratch;
use crate::session::{Answer, Handler, own_number};
use crate::work::WorkFolder;

/// Key of the manifest under which the digest of the round before stands.
pub(crate) const BEFORE_KEY: &str = "before";

/// Key of the manifest of a round that holds memory only.
pub(crate) const MEMORY_KEY: &str = "memory_only";

/// The round before, opened.
#[derive(Debug)]
pub(crate) struct Before {
    folder: File,
    pub(crate) snapshot: String,
    pub(crate) digest: String,
    pages: HashSet<Owner>,
}

impl Before {
    /// Opens the round in the folder `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let images = Directory::open(path)?;
        let folder = File::open(path).map_err(|source| Error::call("open", path, source))?;
        let owner = |name: &str| {
            let name = name.strip_prefix("checkpoint/pagemap-")?.strip_suffix(".img")?;
            match name.strip_prefix("shmem-") {
                Some(id) => Some(Owner::SharedMemory(id.parse().ok()?)),
                None => Some(Owner::Task(name.parse().ok()?)),
            }
        };
        let pages = images.members().iter().filter_map(|member| owner(member.name.as_str())).collect();
        let (snapshot, digest) = (images.manifest().snapshot.clone(), images.manifest_digest().to_owned());
        Ok(Self { folder, snapshot, digest, pages })
    }

    /// Whose pages it has.
    pub(crate) fn pages(&self) -> HashSet<Owner> {
        self.pages.clone()
    }

    /// Tells CRIU of it. It is looked for as the folder that we have open, wherever CRIU's own images are.
    pub(crate) fn add_to_request(&self, request: &mut Criu_req) {
        let opts = request.opts.mut_or_insert_default();
        opts.set_parent_img(format!("/proc/{}/fd/{}", std::process::id(), self.folder.as_raw_fd()));
        opts.set_track_mem(true);
    }
}

/// Whether this kernel tracks which memory changes.
///
/// # Errors
/// [`Error::Blocked`] if it does not; [`Error::NotCriu`] if CRIU does not say.
pub fn needs_tracking(criu: &Criu) -> Result<()> {
    if criu.features()?.mem_track {
        return Ok(());
    }
    Err(Error::Blocked(vec![Blocker {
        pid: None,
        process: String::new(),
        what: "this kernel does not track which memory changes, so a dump of memory only is of no use"
            .to_owned(),
        on: String::new(),
        hint: "checkpoint it whole, or use a kernel with CONFIG_MEM_SOFT_DIRTY".to_owned(),
    }]))
}

/// Dumps the memory of `container`, which runs on, as a round for the dump that follows.
///
/// # Errors
/// As [`super::checkpoint`].
pub fn pre_dump(
    container: &mut Container,
    destination: &dyn Destination,
    options: &Options,
    tools: Tools<'_>,
) -> Result<()> {
    tools.progress.phase(Phase::Collect);
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot { verb: "checkpoint" });
    }
    if container.status() != Status::Running {
        return Err(Error::WrongState {
            id: container.id().to_string(),
            status: container.status().to_string(),
            hint: "only of a running container memory alone can be dumped",
        });
    }
    needs_tracking(tools.criu)?;
    let mut options = options.settled(container.config(), tools.progress)?;
    options.leave_running = true;
    let journal = container.begin_journal(Verb::Checkpoint)?;
    let plan = collect(container, &options)?;
    let watch = tools.records.watch(None)?;
    let froze = Cell::new(false);
    let snapshot = new_id()?;
    let job =
        Job { plan: &plan, tools, destination, leave_running: true, snapshot: &snapshot, froze: &froze };
    let result = round(container, &options, job, &watch);
    watch.end();
    let result = result.map_err(|error| set_back_after(error, container, false, &froze, tools.progress));
    journal.end()?;
    result
}

fn round(container: &Container, options: &Options, job: Job<'_>, watch: &Watch) -> Result<()> {
    let Job { plan, tools, destination, snapshot, froze, .. } = job;
    let scratch = Scratch::new()?;
    let work = options.extra.work.as_deref().map(WorkFolder::open).transpose()?;
    let before = options.extra.before.as_deref().map(Before::open).transpose()?;
    let mut seal = Seal::new(container, tools.criu, &scratch, options, snapshot.to_owned())?;
    seal.follows(before.as_ref());
    seal.holds_memory_only();
    let sink = seal.begin(destination, options, plan)?;
    sink.reserve(plan.memory, &|| tools.cancel.is_some_and(Cancel::is_raised))?;
    let Begun { receiver, session, pages } = begin(sink, before.as_ref(), watch, tools)?;
    let numbers = request::Numbers { scratch: own_number(&scratch), pages };
    let mut request = request::dump(plan, options, numbers);
    request.set_type(Criu_req_type::SINGLE_PRE_DUMP);
    request.opts.mut_or_insert_default().set_track_mem(true);
    if let Some(before) = &before {
        before.add_to_request(&mut request);
    }
    let mut round = Round { handle: receiver.handle() };
    tools.progress.phase(Phase::DumpPages);
    froze.set(true);
    let outcome = session.call(&request, &mut round, tools.cancel, options.timeout);
    if let Some(work) = &work {
        work.keep(&scratch, &[request::LOG, super::seal::STATS], tools.progress);
    }
    let outcome = outcome?;
    let (sink, received) = receiver.join();
    if !outcome.succeeded() {
        if let Some(veto) = outcome.veto {
            return Err(veto);
        }
        if let Err(error @ Error::Snapshot(_)) = received {
            return Err(error);
        }
        let subject = container.id().to_string();
        return Err(explain(&outcome, Phase::DumpPages, &subject, &plan.pids, tools, &scratch));
    }
    let received = received?;
    let missing = |detail: &str| Error::PageStream { at: received.bytes, detail: detail.to_owned() };
    if !received.complete {
        return Err(missing("criu did not close it"));
    }
    let sink = sink.ok_or_else(|| missing("it was not given back"))?;
    tools.progress.phase(Phase::Seal);
    let contents = Contents {
        plan,
        host_files: &HostFiles::default(),
        received: &received,
        frozen: std::time::Duration::ZERO,
        inner: &[],
    };
    seal.write(sink, &contents)?.publish()?;
    Ok(())
}

/// Of a dump of memory only CRIU notifies nobody.
struct Round {
    handle: ReceiverHandle,
}

impl Handler for Round {
    fn notify(&mut self, _: &str, _: Option<i32>, _: Option<OwnedFd>) -> Result<Answer> {
        Ok(Answer::yes())
    }

    fn phase(&self) -> Phase {
        Phase::DumpPages
    }

    fn abort(&mut self) {
        self.handle.cut();
    }
}
