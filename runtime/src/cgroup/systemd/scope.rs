//! A container's scope as a cgroup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::bus::Bus;
use super::name::UnitName;
use super::properties;
use crate::cgroup::{
    Cgroup, CgroupPaths, CgroupVersion, Chosen, Entrance, Former, Pressure, Stats, Watch, files, v2,
};
use crate::config::Resources;
use crate::error::Result;
use crate::id::ContainerId;

/// Where a scope is, and of what it is made: part of the container's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScopePlace {
    /// The slice that it is in.
    slice: String,
    /// Its name.
    unit: String,
    /// Whether it is the user's systemd that makes it.
    user: bool,
    /// Where its cgroup is, relative to each hierarchy's root.
    pub(in crate::cgroup) path: PathBuf,
    /// Annotations of the container, some of which name properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl ScopePlace {
    /// The scope of a container with this `cgroupsPath` and these annotations.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) for a `cgroupsPath` of another form, or when there is no systemd.
    pub(crate) fn of(
        path: Option<&Path>,
        id: &ContainerId,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self> {
        let user = is_unprivileged();
        let name = UnitName::parse(path, id, user)?;
        let below = match user {
            true => PathBuf::from(Bus::connect(true)?.manager_property("ControlGroup")?),
            false => PathBuf::from("/"),
        };
        let path = below.join(name.path());
        Ok(Self { slice: name.slice, unit: name.unit, user, path, annotations })
    }
}

/// Whether the system's instance would not listen: an ordinary user, also one who is root in a user namespace.
fn is_unprivileged() -> bool {
    crate::cgroup::devices::may_be_without()
}

/// A scope: a cgroup that systemd makes and removes, and that is otherwise as any.
#[derive(Debug)]
pub(crate) struct Scope {
    place: ScopePlace,
    inner: Box<dyn Cgroup>,
}

impl Scope {
    /// The scope with the cgroup `inner`.
    pub(crate) fn new(place: ScopePlace, inner: Box<dyn Cgroup>) -> Self {
        Self { place, inner }
    }

    fn bus(&self) -> Result<Bus> {
        Bus::connect(self.place.user)
    }

    /// Whether systemd has made it: by its directory.
    fn is_there(&self) -> bool {
        self.inner.paths().iter().any(|path| path.exists())
    }

    /// Has a process moved by systemd. From a session that isn't below the user's own systemd, as a login is, the kernel
    /// doesn't let the user move one here.
    fn attach(&self, pid: Pid, below: &Path) -> Result<()> {
        let below = match below.to_string_lossy() {
            own if own.is_empty() => String::new(),
            below => format!("/{below}"),
        };
        self.bus()?.attach(&self.place.unit, &below, pid.as_raw().cast_unsigned())
    }

    fn start(&self, pid: Pid) -> Result<()> {
        let description = format!("container {}", self.place.unit.trim_end_matches(".scope"));
        let properties = properties::of_scope(
            &self.place.slice,
            &description,
            pid.as_raw().cast_unsigned(),
            self.version(),
            &self.place.annotations,
        )?;
        self.bus()?.start_transient(&self.place.unit, &properties)
    }
}

/// `252.22-1~deb12u1` is 252, as is `v252`.
fn version_number(text: &str) -> u32 {
    let digits = text.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

impl Cgroup for Scope {
    fn version(&self) -> CgroupVersion {
        self.inner.version()
    }

    fn directories(&self) -> CgroupPaths {
        self.inner.directories()
    }

    fn freezer_path(&self) -> Option<PathBuf> {
        self.inner.freezer_path()
    }

    /// Makes nothing: a scope comes to life with its first process, by [`Cgroup::add`]. Empty directories that are there
    /// would be an entrance past systemd.
    fn claim(&self) -> Result<()> {
        crate::cgroup::refuse_strangers(self)?;
        self.inner.destroy()
    }

    fn entrance(&self) -> Entrance {
        self.inner.entrance()
    }

    fn add(&self, pid: Pid) -> Result<()> {
        if !self.is_there() {
            self.start(pid)?;
        }
        // Hierarchies that systemd doesn't manage, and controllers that are to be handed down.
        self.inner.add(pid)
    }

    fn join(&self, pid: Pid, init: Pid) -> Result<()> {
        match self.inner.join(pid, init) {
            Err(refused) if files::is_denied(&refused) => {
                let attached = self.attach(pid, Path::new(""));
                // Where the container has moved its processes below, there may be a place only there.
                attached.or_else(|error| match v2::path_of(init) {
                    Some(path) if path != self.place.path => {
                        self.attach(pid, path.strip_prefix(&self.place.path).map_err(|_| error)?)
                    }
                    _ => Err(error),
                })
            }
            other => other,
        }
    }

    fn join_below(&self, pid: Pid, chosen: &Chosen) -> Result<()> {
        match self.inner.join_below(pid, chosen) {
            Err(refused) if files::is_denied(&refused) => {
                let own = self.inner.directories().remove("");
                match own.as_deref().and_then(|own| chosen.below(own)) {
                    Some(below) => self.attach(pid, below),
                    None => Err(refused),
                }
            }
            other => other,
        }
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        self.inner.processes()
    }

    fn freeze(&self) -> Result<()> {
        self.inner.freeze()
    }

    fn thaw(&self) -> Result<()> {
        self.inner.thaw()
    }

    fn is_frozen(&self) -> Result<bool> {
        self.inner.is_frozen()
    }

    fn apply_limits(&self, resources: &Resources) -> Result<Former> {
        let mut bus = self.bus()?;
        let systemd = version_number(&bus.manager_property("Version")?);
        let wanted = properties::of_limits(resources, self.version(), systemd)?;
        let former = self.inner.apply_limits(resources)?;
        if wanted.is_empty() {
            return Ok(former);
        }
        // Systemd writes to the files as well, with values that it rounds: the exact ones come again.
        let told = bus.set_properties(&self.place.unit, &wanted);
        told.and_then(|()| self.inner.apply_limits(resources)).inspect_err(|_| former.take_back())?;
        Ok(former)
    }

    fn delegate(&self, uid: u32) -> Result<()> {
        self.inner.delegate(uid)
    }

    fn watch_out_of_memory(&self) -> Result<Watch> {
        self.inner.watch_out_of_memory()
    }

    fn watch_memory_pressure(&self, pressure: Pressure) -> Result<Watch> {
        self.inner.watch_memory_pressure(pressure)
    }

    fn stats(&self) -> Result<Stats> {
        self.inner.stats()
    }

    fn kill_all(&self) -> Result<()> {
        self.inner.kill_all()
    }

    fn destroy(&self) -> Result<()> {
        self.bus()?.stop(&self.place.unit)?;
        self.inner.destroy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_every_form() {
        assert_eq!(["257.9-1~deb13u1", "v245 (245.4)", "252", ""].map(version_number), [257, 245, 252, 0]);
    }
}
