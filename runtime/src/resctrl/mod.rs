//! The container's group in `resctrl` (`Documentation/filesystems/resctrl.rst` of the kernel): which part of the caches
//! and of the memory bandwidth its processes get.
//!
//! The rules of the OCI runtime specification: a group that is named (`closID`) belongs to whoever names it and stays; one
//! that is not is named after the container and goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use crate::config::{Config, IntelRdt, Shares};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::undo::Undo;

/// `RDTGROUP_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const RESCTRL: u64 = 0x0765_5821;

/// Where it is usually mounted.
const USUAL: &str = "/sys/fs/resctrl";

/// A container's group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    root: PathBuf,
    folder: PathBuf,
    /// The monitoring group within, if there is to be one.
    monitor: Option<PathBuf>,
    wanted: IntelRdt,
}

impl Group {
    /// The group that the configuration asks for, if it does.
    ///
    /// # Errors
    /// [`Error::Refused`] if the host has no `resctrl`, or not what is asked of it.
    pub(crate) fn of(config: &Config, id: &ContainerId) -> Result<Option<Self>> {
        let Some(wanted) = &config.intel_rdt else { return Ok(None) };
        let root = mount_point().ok_or_else(|| Error::Refused {
            problem: "linux.intelRdt is set, and no resctrl file system is mounted".to_owned(),
            hint: "mount it where the processor has it (`mount -t resctrl resctrl /sys/fs/resctrl`), or remove the key",
        })?;
        Self::below(root, wanted, &id.folder_name()).map(Some)
    }

    fn below(root: PathBuf, wanted: &IntelRdt, id: &str) -> Result<Self> {
        for (key, line, needs) in
            [("l3CacheSchema", &wanted.l3_cache_schema, "L3"), ("memBwSchema", &wanted.mem_bw_schema, "MB")]
        {
            if line.is_some() && !root.join("info").join(needs).exists() {
                return Err(Error::Refused {
                    problem: format!(
                        "linux.intelRdt.{key} is set, and this host cannot allocate that ({} is missing)",
                        root.join("info").join(needs).display()
                    ),
                    hint: "remove the key, or boot with `rdt=` as the kernel's parameters have it",
                });
            }
        }
        let folder = match wanted.clos_id.as_deref() {
            Some("/") => root.clone(),
            name => root.join(name.unwrap_or(id)),
        };
        let monitor = wanted.enable_monitoring.then(|| folder.join("mon_groups").join(id));
        Ok(Self { root, folder, monitor, wanted: wanted.clone() })
    }

    /// Makes what is missing; `undo` removes what was made.
    ///
    /// # Errors
    /// [`Error::Refused`] if a group that is there is not as it should be; [`Error::Call`] with what the kernel says of it.
    pub(crate) fn make(&self, undo: &mut Undo) -> Result<()> {
        let new = self.make_folder()?;
        if new {
            let made = self.clone();
            undo.push("remove the group of resctrl", move || made.remove_folder(&made.folder));
        } else {
            self.compare()?;
        }
        self.write_schemata(new)?;
        if let Some(monitor) = self.monitor.clone() {
            fs::create_dir(&monitor)
                .map_err(|error| self.failed("make the monitoring group", &monitor, error))?;
            let made = self.clone();
            undo.push("remove the monitoring group of resctrl", move || made.remove_folder(&monitor));
        }
        Ok(())
    }

    /// Whether it was made.
    fn make_folder(&self) -> Result<bool> {
        let named = self.wanted.clos_id.is_some();
        let says_something = self.lines(true).next().is_some();
        if named && !says_something && !self.folder.is_dir() {
            return Err(Error::Refused {
                problem: format!("linux.intelRdt.closID names {}, which is not there", self.folder.display()),
                hint: "make that group, or say in linux.intelRdt.schemata what it is to get",
            });
        }
        match fs::create_dir(&self.folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && named => Ok(false),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::Refused {
                problem: format!(
                    "the group {} of linux.intelRdt is somebody else's already",
                    self.folder.display()
                ),
                hint: "remove it, or name it in linux.intelRdt.closID",
            }),
            Err(error) => Err(self.failed("make the group", &self.folder, error)),
        }
    }

    /// The lines that are to be in `schemata`, in their order; without `all` only those that are not compared.
    fn lines(&self, all: bool) -> impl Iterator<Item = &str> {
        let own = [&self.wanted.l3_cache_schema, &self.wanted.mem_bw_schema];
        let own = own.into_iter().filter(move |_| all).flatten();
        own.chain(&self.wanted.schemata).map(String::as_str)
    }

    /// A named group that is there may be other containers' too: it has to be as this one wants it.
    fn compare(&self) -> Result<()> {
        let path = self.folder.join("schemata");
        let text = fs::read_to_string(&path).map_err(Error::at("read", &path))?;
        let present: Vec<Schema<'_>> = text.lines().filter_map(Schema::parse).collect();
        for (key, line) in
            [("l3CacheSchema", &self.wanted.l3_cache_schema), ("memBwSchema", &self.wanted.mem_bw_schema)]
        {
            let Some(line) = line else { continue };
            let is_there =
                |line| Schema::parse(line).is_some_and(|wanted| present.iter().any(|one| one.gives(&wanted)));
            if !line.lines().all(is_there) {
                return Err(Error::Refused {
                    problem: format!(
                        "linux.intelRdt.{key} is {line:?}, and {} has {:?}",
                        path.display(),
                        text.split_whitespace().collect::<Vec<_>>().join(" ")
                    ),
                    hint: "name another group in linux.intelRdt.closID, or take the group as it is",
                });
            }
        }
        Ok(())
    }

    fn write_schemata(&self, new: bool) -> Result<()> {
        let text: String = self.lines(new).map(|line| format!("{line}\n")).collect();
        if text.is_empty() {
            return Ok(());
        }
        self.write(&self.folder.join("schemata"), &text)
    }

    /// Changes what its processes get; `undo` sets what they had.
    ///
    /// # Errors
    /// [`Error::Call`] with what the kernel says of it.
    pub(crate) fn change(&self, shares: &Shares, undo: &mut Undo) -> Result<()> {
        let path = self.folder.join("schemata");
        let before = fs::read_to_string(&path).map_err(Error::at("read", &path))?;
        let made = self.clone();
        let file = path.clone();
        undo.push("set the former shares of resctrl", move || made.write(&file, &before));
        let lines = [&shares.l3_cache_schema, &shares.mem_bw_schema].into_iter().flatten();
        self.write(&path, &lines.map(|line| format!("{line}\n")).collect::<String>())
    }

    /// Makes it for processes that run already.
    ///
    /// # Errors
    /// As [`Group::make`] and [`Group::add`].
    pub(crate) fn make_for(&self, processes: &[Pid], undo: &mut Undo) -> Result<()> {
        self.make(undo)?;
        for pid in processes {
            match self.add(*pid) {
                // It has ended meanwhile.
                Err(Error::Call { source, .. }) if gone(&source) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Puts every thread of `pid` into it. What they make later is in it by itself.
    ///
    /// # Errors
    /// [`Error::Call`] with what the kernel says of it.
    pub(crate) fn add(&self, pid: Pid) -> Result<()> {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        let threads = threads.map_err(Error::at("read", format!("/proc/{pid}/task")))?;
        for thread in threads.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            self.write(&self.folder.join("tasks"), &thread)?;
            if let Some(monitor) = &self.monitor {
                self.write(&monitor.join("tasks"), &thread)?;
            }
        }
        Ok(())
    }

    /// Removes what goes with the container. What is not there any more is no failure.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub(crate) fn remove(&self) -> Result<()> {
        // A monitoring group goes with the group that it is in.
        match (&self.wanted.clos_id, &self.monitor) {
            (None, _) => self.remove_folder(&self.folder),
            (Some(_), Some(monitor)) => self.remove_folder(monitor),
            (Some(_), None) => Ok(()),
        }
    }

    fn remove_folder(&self, folder: &Path) -> Result<()> {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| self.failed("remove the group", folder, error)),
        }
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let mut file = fs::OpenOptions::new().write(true).open(path).map_err(Error::at("open", path))?;
        // The kernel takes it in one write only.
        file.write_all(text.as_bytes())
            .map_err(|error| self.failed("write", format!("{:?} to {}", text.trim(), path.display()), error))
    }

    /// The kernel's answer is a number; why, it says in a file.
    fn failed(&self, call: &'static str, on: impl AsRef<Path>, error: std::io::Error) -> Error {
        let why = fs::read_to_string(self.root.join("info/last_cmd_status")).unwrap_or_default();
        let why = Some(why.trim()).filter(|why| !why.is_empty() && *why != "ok");
        let on = on.as_ref().display();
        let on = why
            .map_or_else(|| format!("{on} (linux.intelRdt)"), |why| format!("{on} (linux.intelRdt: {why})"));
        Error::call(call, on, error)
    }
}

/// Shares can be changed on this host.
///
/// # Errors
/// [`Error::Refused`] if it has no `resctrl`.
pub(crate) fn require() -> Result<()> {
    mount_point().map(drop).ok_or_else(|| Error::Refused {
        problem: "shares of Intel RDT are to be changed, and no resctrl file system is mounted".to_owned(),
        hint: "mount it where the processor has it (`mount -t resctrl resctrl /sys/fs/resctrl`)",
    })
}

/// Whether a process is gone: its folder in `/proc`, or the process itself for who writes its number.
fn gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

/// A line of `schemata`: what is given of each cache or memory controller. Order and leading zeros mean nothing.
#[derive(Debug, PartialEq, Eq)]
struct Schema<'a> {
    resource: &'a str,
    given: BTreeMap<u32, u64>,
}

impl<'a> Schema<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (resource, list) = line.split_once(':')?;
        let one = |part: &str| {
            let (domain, value) = part.split_once('=')?;
            // Masks are hexadecimal; decimal percentages are equal if they are equal as such.
            Some((domain.trim().parse().ok()?, u64::from_str_radix(value.trim(), 16).ok()?))
        };
        let given = list.split(';').map(one).collect::<Option<_>>()?;
        Some(Self { resource: resource.trim(), given })
    }

    /// Whether it gives all that `wanted` says; that may be about some of the caches only.
    fn gives(&self, wanted: &Self) -> bool {
        let same = |(domain, value): (&u32, &u64)| self.given.get(domain) == Some(value);
        self.resource == wanted.resource && wanted.given.iter().all(same)
    }
}

fn mount_point() -> Option<PathBuf> {
    let is_there = |path: &Path| rustix::fs::statfs(path).is_ok_and(|system| system.f_type as u64 == RESCTRL);
    if is_there(Path::new(USUAL)) {
        return Some(PathBuf::from(USUAL));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| resctrl_in(line).map(PathBuf::from).filter(|path| is_there(path)))
}

/// The mount point of a line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`) if it is of `resctrl`. One with a space in
/// its name is not found.
fn resctrl_in(line: &str) -> Option<&str> {
    let (mount, system) = line.split_once(" - ")?;
    (system.split(' ').next() == Some("resctrl")).then(|| mount.split(' ').nth(4))?
}

#[cfg(test)]
mod tests;
