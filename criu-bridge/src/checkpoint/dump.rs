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

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use floe_runtime::Container;
use floe_snapshot_format::{ArchiveFile, Sealed};

use super::Tools;
use super::collect::Plan;
use super::seal::{Contents, Seal};
use crate::error::{Error, Result};
use crate::outside::{self, HostFiles};
use crate::pages::{PageReceiver, Received, ReceiverHandle};
use crate::progress::{Phase, Progress};
use crate::record::{Record, Records};
use crate::session::{Answer, Handler};

/// What the handler of one dump holds between the notifications.
pub(crate) struct Dump<'a> {
    container: &'a mut Container,
    records: &'a Records,
    plan: &'a Plan,
    seal: Seal<'a>,
    progress: &'a dyn Progress,
    leave_running: bool,
    phase: Phase,
    receiver: Option<PageReceiver<ArchiveFile>>,
    handle: ReceiverHandle,
    frozen_at: Option<Instant>,
    /// From the order to freeze to the moment when everything was dumped.
    pub(crate) frozen: Duration,
    /// Set once the archive has its name.
    pub(crate) sealed: Option<Sealed>,
    /// Bytes of pages, once they are counted.
    pub(crate) page_bytes: u64,
    /// What was found open outside.
    pub(crate) host_files: HostFiles,
}

impl<'a> Dump<'a> {
    pub(crate) fn new(
        container: &'a mut Container,
        plan: &'a Plan,
        seal: Seal<'a>,
        tools: Tools<'a>,
        leave_running: bool,
        receiver: PageReceiver<ArchiveFile>,
    ) -> Self {
        Self {
            container,
            records: tools.records,
            plan,
            seal,
            progress: tools.progress,
            leave_running,
            phase: Phase::Collect,
            handle: receiver.handle(),
            receiver: Some(receiver),
            frozen_at: None,
            frozen: Duration::ZERO,
            sealed: None,
            page_bytes: 0,
            host_files: HostFiles::default(),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.progress.phase(phase);
    }

    /// Called while the tree is stopped: what it holds open cannot change any more.
    fn find_host_files(&mut self) -> Result<Answer> {
        self.host_files = outside::host_files(&self.plan.pids)?;
        if !self.host_files.stray.is_empty() {
            return Err(Error::Blocked(self.host_files.stray.iter().map(super::stray).collect()));
        }
        Ok(Answer { go_on: true, external: self.host_files.keys() })
    }

    /// Ends the page stream and gives the archive back with what came. The receiver's own error, if it has one, is
    /// nearer to the cause than what CRIU makes of the closed socket.
    pub(crate) fn take_pages(&mut self) -> Option<(Option<ArchiveFile>, Result<Received>)> {
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
            plan: self.plan,
            host_files: &self.host_files,
            received: &received,
            frozen: self.frozen,
        };
        let complete = self.seal.write(archive, &contents)?;
        // Once the file has its name it must be good for a restore, even if floe dies with the next instruction.
        let record = self.record();
        if let Err(error) = self.records.keep(&record) {
            self.progress.warn(&format!(
                "this host's record of the snapshot could not be kept ({error}); restore it with --bundle"
            ));
        }
        if !self.leave_running {
            self.container.mark_checkpointed(true)?;
        }
        self.sealed = Some(complete.publish()?);
        self.page_bytes = received.bytes;
        let stats = &self.seal.stats;
        if self.leave_running {
            // CRIU's own figure: from the first task stopped to the last one let go.
            self.frozen = Duration::from_micros(stats.freezing_us + stats.frozen_us);
        }
        Ok(())
    }

    /// What this host is to remember of the snapshot.
    fn record(&self) -> Record {
        let inode = |path: &PathBuf| std::fs::metadata(path).map(|meta| meta.ino()).ok();
        let files = &self.host_files.paths;
        Record {
            snapshot: self.seal.snapshot().to_owned(),
            container: self.container.id().to_string(),
            bundle: self.container.bundle().to_owned(),
            spec_digest: self.seal.spec_digest().to_owned(),
            files: files.clone(),
            inodes: files.iter().filter_map(|(key, path)| Some((key.clone(), inode(path)?))).collect(),
        }
    }

    /// The id of the snapshot.
    pub(crate) fn snapshot(&self) -> &str {
        self.seal.snapshot()
    }

    /// After a failure: what was written down of a snapshot that does not exist is taken back, and the file with it,
    /// if the container lives on. If it does not, the file is all that is left of it.
    pub(crate) fn take_back(&mut self) {
        if self.container.init_pid().is_none_or(|pid| pid.as_raw() != self.plan.init) {
            return;
        }
        if let Some(sealed) = self.sealed.take() {
            let _ = std::fs::remove_file(&sealed.path);
        }
        self.records.forget(self.seal.snapshot());
        if !self.leave_running
            && let Err(error) = self.container.mark_checkpointed(false)
        {
            self.progress.warn(&format!("{error}"));
        }
    }
}

impl Handler for Dump<'_> {
    fn notify(&mut self, script: &str, _: Option<i32>, _: Option<std::os::fd::OwnedFd>) -> Result<Answer> {
        match script {
            "pre-dump" => {
                self.frozen_at = Some(Instant::now());
                self.enter(Phase::Freeze);
            }
            "query-ext-files" => {
                let answer = self.find_host_files()?;
                self.enter(Phase::DumpPages);
                return Ok(answer);
            }
            "post-dump" => {
                self.frozen = self.frozen_at.map_or(Duration::ZERO, |at| at.elapsed());
                if !self.leave_running {
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
            self.progress.bytes(self.handle.bytes(), None);
        }
    }

    fn abort(&mut self) {
        self.handle.cut();
    }
}
