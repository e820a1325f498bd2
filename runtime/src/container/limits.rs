//! What a container uses, and changes of what it may.

use super::{Container, Status};
#[cfg(doc)]
use crate::cgroup::Cgroup;
use crate::cgroup::Stats;
use crate::config::{Memory, Resources, Shares};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::network::{self, InterfaceUse};
use crate::resctrl;
use crate::state::Record;
use crate::store::RECORD_FILE;
use crate::undo::Undo;

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
        self.update_with(change, &Shares::default())
    }

    /// As [`Container::update`], with its shares of caches and memory bandwidth. A container that had no group in
    /// `resctrl` gets one. A group with a name (`closID`) is changed for all that are in it, as with runc.
    ///
    /// # Errors
    /// As [`Container::update`]; [`Error::Refused`] if the host has no `resctrl`, or cannot allocate that.
    pub fn update_with(&mut self, change: &Resources, shares: &Shares) -> Result<()> {
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
        let mut undo = Undo::default();
        if !shares.is_empty() {
            resctrl::require()?;
            let had_one = record.config.intel_rdt.is_some();
            shares.put_into(record.config.intel_rdt.get_or_insert_default());
            if let Some(group) = resctrl::Group::of(&record.config, self.id())? {
                match had_one {
                    true => group.change(shares, &mut undo)?,
                    false => group.make_for(&self.cgroup.processes()?, &mut undo)?,
                }
            }
        }
        let former = self.cgroup.apply_limits(&change)?;
        if let Err(error) = self.folder.write_json(RECORD_FILE, &record) {
            if let Err(again) = former.set_again() {
                tracing::warn!("the former limits are not back: {}", again.in_full());
            }
            return Err(error);
        }
        undo.keep();
        self.record = record;
        Ok(())
    }
}
