//! What a container uses, and changes of what it may.

use super::{Container, Status};
#[cfg(doc)]
use crate::cgroup::Cgroup;
use crate::cgroup::Stats;
use crate::config::{Memory, Resources};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::network::{self, InterfaceUse};
use crate::state::Record;
use crate::store::RECORD_FILE;

impl Container {
    /// What its processes use.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] if it is stopped; as [`Cgroup::stats`].
    pub fn stats(&self) -> Result<Stats> {
        self.require("read the use of", &[Status::Created, Status::Running, Status::Paused])?;
        self.cgroup.stats()
    }

    /// What went through the pairs of interfaces that were made for it (`networks` of a native configuration).
    ///
    /// # Errors
    /// [`Error::Network`] if the kernel does not tell.
    pub fn network_use(&self) -> Result<Vec<InterfaceUse>> {
        if !network::is_needed(self.config()) {
            return Ok(Vec::new());
        }
        network::usage(&self.folder)
    }

    /// Changes its limits to what `change` says; the others stay. Its record says so afterwards. If anything fails, the
    /// limits are as they were. Device rules are left alone, as with runc: others (a GPU's hooks) add to them behind the
    /// runtime's back.
    ///
    /// # Errors
    /// [`Error::WrongStatus`] if it is stopped; as [`Cgroup::apply_limits`].
    pub fn update(&mut self, change: &Resources) -> Result<()> {
        let _lock = self.lock()?;
        self.undisturbed("update")?;
        self.require("update", &[Status::Created, Status::Running, Status::Paused])?;
        // Read again: another update may have been first.
        let mut record = self
            .folder
            .read_json::<Record>(RECORD_FILE, "container record")?
            .ok_or_else(|| self.not_found())?;
        let old = &record.config.resources;
        let mut change = Resources { devices: Vec::new(), ..change.clone() };
        let Memory { limit, swap, .. } = change.memory;
        // One is counted with the other, so neither is to be understood alone. What lifts the limit lifts both.
        if swap.is_some() {
            change.memory.limit = limit.or(old.memory.limit);
        } else if limit.is_some_and(|limit| limit != -1) {
            change.memory.swap = old.memory.swap;
        }
        record.config.resources = old.changed(&change);
        if change.memory.limit == Some(-1) && change.memory.swap.is_none() {
            record.config.resources.memory.swap = Some(-1);
        }
        let former = self.cgroup.apply_limits(&change)?;
        if let Err(error) = self.folder.write_json(RECORD_FILE, &record) {
            if let Err(again) = former.set_again() {
                tracing::warn!("the former limits are not back: {}", again.in_full());
            }
            return Err(error);
        }
        self.record = record;
        Ok(())
    }
}
