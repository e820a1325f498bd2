//! The conversation with CRIU during a dump.
//!
//! ```text
//!   criu            floe
//!    │ pre-dump ──►   the freeze begins
//!    │ network-lock ► (own network namespace only)
//!    │ query-ext-files ► the tree is stopped: host files that it holds are found, and named to CRIU
//!    │ … pages to the receiver, images to the tmpfs …
//!    │ post-dump ──►  everything is written. The container is to go on: "yes" at once.
//!    │                It is to be gone: the archive is completed, synced and named, then "yes".
//!    │ network-unlock, reply
//! ```
//!
//! `post-dump` is the last "no" that CRIU heeds. Behind it the container is killed, or runs.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use floe_runtime::Container;
use floe_runtime::cgroup::InnerCgroup;
use floe_snapshot_format::{Destination, Sealed, Sink};

use super::Tools;
use super::collect::Plan;
use super::seal::{Contents, Seal};
use crate::error::{Error, Result};
use crate::outside::{self, Connection, Fate, HostFiles};
use crate::pages::{PageReceiver, Received, ReceiverHandle};
use crate::preflight::{Process, files::stray};
use crate::progress::Phase;
use crate::record::{Native, Record};
use crate::session::{Answer, Handler, Outcome};
use crate::tasks::{self, Descriptor};

/// What a dump is to do, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) tools: Tools<'a>,
    pub(crate) destination: &'a dyn Destination,
    pub(crate) leave_running: bool,
    /// The snapshot's id.
    pub(crate) snapshot: &'a str,
    /// Set with the order to freeze.
    pub(crate) froze: &'a Cell<bool>,
}

/// The sink as the receiver gave it back, and what came.
type Pages = (Option<Box<dyn Sink>>, Result<Received>);

/// What the handler of one dump holds between the notifications.
pub(crate) struct Dump<'a> {
    container: &'a mut Container,
    job: Job<'a>,
    seal: Seal<'a>,
    phase: Phase,
    receiver: Option<PageReceiver>,
    handle: ReceiverHandle,
    /// Every process that was stopped, the first one first.
    pub(crate) pids: Vec<i32>,
    frozen_at: Option<Instant>,
    /// From the order to freeze to the moment when everything was dumped.
    pub(crate) frozen: Duration,
    /// Set once the archive has its name.
    pub(crate) sealed: Option<Sealed>,
    /// Bytes of pages, once they are counted.
    pub(crate) page_bytes: u64,
    /// What was found open outside.
    pub(crate) host_files: HostFiles,
    /// The cgroups that it has made below its own.
    inner: Vec<InnerCgroup>,
    /// TCP connections that nobody had accepted when the tree was stopped.
    not_accepted: Vec<Connection>,
}

impl<'a> Dump<'a> {
    pub(crate) fn new(
        container: &'a mut Container,
        job: Job<'a>,
        seal: Seal<'a>,
        receiver: PageReceiver,
    ) -> Self {
        Self {
            container,
            job,
            seal,
            phase: Phase::Collect,
            handle: receiver.handle(),
            receiver: Some(receiver),
            pids: Vec::new(),
            frozen_at: None,
            frozen: Duration::ZERO,
            sealed: None,
            page_bytes: 0,
            host_files: HostFiles::default(),
            inner: Vec::new(),
            not_accepted: Vec::new(),
        }
    }

    /// What it is made with.
    pub(crate) fn tools(&self) -> Tools<'a> {
        self.job.tools
    }

    /// What was found before.
    pub(crate) fn plan(&self) -> &'a Plan {
        self.job.plan
    }

    /// The container's name.
    pub(crate) fn container_id(&self) -> String {
        self.container.id().to_string()
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.job.tools.progress.phase(phase);
    }

    /// Called while the tree is stopped: neither its processes nor what they hold open change any more.
    fn find_host_files(&mut self) -> Result<Answer> {
        self.pids = super::collect::processes(self.container, self.job.plan.init)?;
        self.host_files = outside::host_files(&self.pids)?;
        self.inner = outside::inner_cgroups(self.container.cgroup())?;
        self.not_accepted = tasks::not_accepted(&self.pids).iter().map(Connection::skipped).collect();
        if !self.host_files.stray.is_empty() {
            let stray = |folder: &Descriptor| stray(&Process::named(folder.pid), folder).blocker;
            return Err(Error::Blocked(self.host_files.stray.iter().map(stray).collect()));
        }
        Ok(Answer { go_on: true, external: self.host_files.keys() })
    }

    /// Ends the page stream and gives the archive back with what came. The receiver's own error, if it has one, is
    /// nearer to the cause than what CRIU makes of the closed socket.
    pub(crate) fn take_pages(&mut self) -> Option<Pages> {
        self.receiver.take().map(PageReceiver::join)
    }

    /// Completes the archive, syncs it and gives it its name.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.enter(Phase::Seal);
        let missing = || Error::PageStream { at: 0, detail: "the stream was ended twice".to_owned() };
        let (archive, received) = self.take_pages().ok_or_else(missing)?;
        let received = received?;
        let archive = archive.ok_or_else(missing)?;
        if !received.complete {
            return Err(Error::PageStream { at: received.bytes, detail: "criu did not close it".to_owned() });
        }
        let contents = Contents {
            plan: self.job.plan,
            host_files: &self.host_files,
            inner: &self.inner,
            received: &received,
            frozen: self.frozen,
        };
        let complete = self.seal.write(archive, &contents)?;
        // Once the file has its name it must be good for a restore, even if floe dies with the next instruction.
        let record = self.record(&complete.sealed().manifest_digest);
        if let Err(error) = self.job.tools.records.keep(&record) {
            self.job.tools.progress.warn(&format!(
                "this host's record of the snapshot could not be kept ({error}); restore it with --bundle"
            ));
        }
        if !self.job.leave_running {
            self.container.mark_checkpointed(true)?;
        }
        self.sealed = Some(complete.publish()?);
        self.page_bytes = received.bytes;
        let stats = &self.seal.stats;
        if self.job.leave_running {
            // CRIU's own figure: from the first task stopped to the last one let go.
            self.frozen = Duration::from_micros(stats.freezing_us + stats.frozen_us);
        }
        Ok(())
    }

    /// What this host is to remember of the snapshot.
    fn record(&self, manifest: &str) -> Record {
        let inode = |path: &PathBuf| std::fs::metadata(path).map(|meta| meta.ino()).ok();
        let files = &self.host_files.paths;
        Record {
            snapshot: self.job.snapshot.to_owned(),
            container: self.container.id().to_string(),
            bundle: self.container.bundle().to_owned(),
            native: self.container.is_native().then(|| Native {
                spec: String::from_utf8_lossy(self.seal.spec()).into_owned(),
                config: self.container.config().clone(),
            }),
            spec_digest: self.seal.spec_digest().to_owned(),
            manifest: manifest.to_owned(),
            resources: Some(self.container.config().resources.clone()),
            binds: crate::record::binds(self.container.config()),
            files: files.clone(),
            inodes: files.iter().filter_map(|(key, path)| Some((key.clone(), inode(path)?))).collect(),
        }
    }

    /// What becomes of the TCP connections: those in the snapshot, and those that were left out of it.
    pub(crate) fn connections(&self, fate: Fate) -> Vec<Connection> {
        let held = self.seal.connections.iter().cloned().map(|one| Connection { fate, ..one });
        held.chain(self.not_accepted.iter().cloned()).collect()
    }

    /// Whether a CRIU that died had begun to kill the container: the archive is all that is left of it then, and what of
    /// it still lives is no container any more. As long as nothing of it is missing, it runs on.
    pub(crate) fn has_begun_to_end(&self) -> bool {
        if self.sealed.is_none() || self.job.leave_running {
            return false;
        }
        // Nothing that still lives is to get any further.
        if let Err(error) = self.container.cgroup().freeze() {
            self.job.tools.progress.warn(&format!("{error}"));
        }
        self.pids.iter().any(|pid| tasks::is_ending(*pid))
    }

    /// Does what CRIU was about to do when it died.
    pub(crate) fn end_the_rest(&mut self, outcome: &Outcome) -> Result<()> {
        let how = outcome.death().unwrap_or_else(|| format!("criu ended with {}", outcome.status));
        self.job.tools.progress.warn(&format!("{how} while it ended the container; floe has ended the rest"));
        Ok(self.container.cgroup().kill_all()?)
    }

    /// After a failure: what was written down of a snapshot that does not exist is taken back, and the file with it,
    /// if the container lives on. If it does not, the file is all that is left of it.
    pub(crate) fn take_back(&mut self) {
        if self.container.init_pid().is_none_or(|pid| pid.as_raw() != self.job.plan.init) {
            return;
        }
        if let Some(sealed) = self.sealed.take()
            && let Err(error) = self.job.destination.take_back(&sealed)
        {
            self.job.tools.progress.warn(&format!("{error}; it is of no use: the container lives on"));
        }
        self.job.tools.records.forget(self.job.snapshot);
        if !self.job.leave_running
            && let Err(error) = self.container.mark_checkpointed(false)
        {
            self.job.tools.progress.warn(&format!("{error}"));
        }
    }
}

impl Handler for Dump<'_> {
    fn notify(&mut self, script: &str, _: Option<i32>, _: Option<std::os::fd::OwnedFd>) -> Result<Answer> {
        match script {
            "pre-dump" => {
                self.frozen_at = Some(Instant::now());
                self.job.froze.set(true);
                self.enter(Phase::Freeze);
            }
            "query-ext-files" => {
                let answer = self.find_host_files()?;
                self.enter(Phase::DumpPages);
                return Ok(answer);
            }
            "post-dump" => {
                self.frozen = self.frozen_at.map_or(Duration::ZERO, |at| at.elapsed());
                if !self.job.leave_running {
                    self.finish()?;
                }
            }
            _ => {}
        }
        Ok(Answer::yes())
    }

    fn phase(&self) -> Phase {
        self.phase
    }

    fn tick(&mut self) {
        if self.phase == Phase::DumpPages {
            self.job.tools.progress.bytes(self.handle.bytes(), None);
        }
    }

    fn abort(&mut self) {
        self.handle.cut();
    }
}
