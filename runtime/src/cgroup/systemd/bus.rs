//! The connection to systemd: through the bus of the system or the user, or for root directly.
//!
//! Blocking, without a thread. A library for this would bring either threads or an asynchronous executor, and ten times
//! the code of the six calls that are made.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::{self, Body, Message, Method, Property};
use crate::error::{Error, Result};

/// How long systemd may take for an answer or a job.
const PATIENCE: Duration = Duration::from_secs(30);

/// Systemd on the bus.
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    deadline: Instant,
    /// `JobRemoved` signals that came before they were waited for.
    jobs: Vec<Vec<String>>,
}

/// What went wrong in a call, as systemd says it.
#[derive(Debug)]
enum Failure {
    Io(std::io::Error),
    /// The error's name (`org.freedesktop.systemd1.NoSuchUnit`) and words.
    Answer(String, String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Bus {
    /// Connects to the system's instance, or with `user` to that of the calling user.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none.
    pub(super) fn connect(user: bool) -> Result<Self> {
        let mut tried = Vec::new();
        let places = if user { user_bus() } else { vec![PathBuf::from("/run/dbus/system_bus_socket")] };
        for path in places {
            match Self::at(&path, true) {
                Ok(bus) => return Ok(bus),
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        if !user {
            // Systemd's own socket, which only root may use: there is no bus in a small system.
            let path = Path::new("/run/systemd/private");
            match Self::at(path, false) {
                Ok(bus) => return Ok(bus),
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        let whose = if user { "user's" } else { "system's" };
        Err(Error::Refused {
            problem: format!(
                "cannot reach the {whose} systemd, which is to make the cgroup ({})",
                tried.join("; ")
            ),
            hint: "leave --systemd-cgroup out where the host isn't run by systemd; a user needs a login session",
        })
    }

    pub(super) fn at(path: &Path, through_bus: bool) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self {
            stream: BufReader::new(stream),
            serial: 0,
            deadline: Instant::now() + PATIENCE,
            jobs: Vec::new(),
        };
        bus.authenticate()?;
        if through_bus {
            bus.greet().map_err(|failure| match failure {
                Failure::Io(error) => error,
                Failure::Answer(name, words) => std::io::Error::other(format!("{name}: {words}")),
            })?;
        }
        Ok(bus)
    }

    /// By what the kernel says of this process: no number is named, so it is right in a user namespace as well, where
    /// this process has another one than the bus sees. "Authentication Protocol" of the specification.
    fn authenticate(&mut self) -> std::io::Result<()> {
        self.stream.get_mut().write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n")?;
        let refused = |line: &str| std::io::Error::other(format!("refused: {}", line.trim()));
        for expected in ["DATA", "OK "] {
            let mut line = String::new();
            // No bus says more in a line.
            self.stream.by_ref().take(1024).read_line(&mut line)?;
            if !line.starts_with(expected) {
                return Err(refused(&line));
            }
        }
        self.stream.get_mut().write_all(b"BEGIN\r\n")
    }

    fn greet(&mut self) -> std::result::Result<(), Failure> {
        let bus = |member| Method {
            destination: "org.freedesktop.DBus",
            object: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
        };
        self.call(bus("Hello"), Body::default())?;
        let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved',path='{OBJECT}'");
        self.call(bus("AddMatch"), Body::default().text(&rule))?;
        // Systemd tells jobs only to those who say so.
        self.call(manager("Subscribe"), Body::default())?;
        Ok(())
    }

    /// Makes a transient unit and waits until it is there.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub(super) fn start_transient(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let body = || Body::default().text(unit).text("replace").properties(properties).no_further_units();
        let mut started = self.job("StartTransientUnit", unit, body());
        if matches!(&started, Err(Failure::Answer(name, _)) if name.ends_with(".UnitExists")) {
            // A failed one of this name stays until it is forgotten.
            self.reset_failed(unit)?;
            started = self.job("StartTransientUnit", unit, body());
        }
        started.map_err(|failure| told("StartTransientUnit", unit, failure))
    }

    /// Stops a unit and waits until it is gone; fine if it is already.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub(super) fn stop(&mut self, unit: &str) -> Result<()> {
        match self.job("StopUnit", unit, Body::default().text(unit).text("replace")) {
            Err(Failure::Answer(name, _)) if name.ends_with(".NoSuchUnit") => Ok(()),
            other => other.map_err(|failure| told("StopUnit", unit, failure)),
        }?;
        self.reset_failed(unit)
    }

    /// Lets systemd forget a unit that failed; fine if there is none.
    fn reset_failed(&mut self, unit: &str) -> Result<()> {
        match self.call(manager("ResetFailedUnit"), Body::default().text(unit)) {
            Err(Failure::Answer(name, _)) if name.ends_with(".NoSuchUnit") => Ok(()),
            other => other.map(drop).map_err(|failure| told("ResetFailedUnit", unit, failure)),
        }
    }

    /// Changes properties of a unit until the next boot.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub(super) fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let body = Body::default().text(unit).flag(true).properties(properties);
        let set = self.call(manager("SetUnitProperties"), body);
        set.map(drop).map_err(|failure| told("SetUnitProperties", unit, failure))
    }

    /// Moves a process into a unit's cgroup, or into the one at `below` in it; since systemd 238. A user's systemd asks
    /// that of the system for it, where it may not do it itself.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub(super) fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<()> {
        let body = Body::default().text(unit).text(below).words(&[pid]);
        let attached = self.call(manager("AttachProcessesToUnit"), body);
        attached.map(drop).map_err(|failure| told("AttachProcessesToUnit", unit, failure))
    }

    /// A property of the instance itself, a string: `Version`, `ControlGroup`.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub(super) fn manager_property(&mut self, name: &str) -> Result<String> {
        let get = Method { interface: "org.freedesktop.DBus.Properties", ..manager("Get") };
        let answer = self
            .call(get, Body::default().text(MANAGER).text(name))
            .map_err(|failure| told("Get", name, failure))?;
        let unclear = || Error::Systemd { call: "Get", on: name.to_owned(), answer: "no string".to_owned() };
        answer.texts().into_iter().next().ok_or_else(unclear)
    }

    /// Calls a method that gives a job, and waits for its end.
    fn job(&mut self, member: &'static str, unit: &str, body: Body) -> std::result::Result<(), Failure> {
        let answer = self.call(manager(member), body)?;
        let job = answer.texts().into_iter().next().unwrap_or_default();
        self.deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.jobs.iter().position(|signal| signal.get(1) == Some(&job));
            if let Some(place) = ended {
                // Its number, path, unit, and result.
                return match self.jobs.swap_remove(place).get(3).map(String::as_str) {
                    Some("done") => Ok(()),
                    other => {
                        Err(Failure::Answer(format!("job of {unit}"), other.unwrap_or_default().to_owned()))
                    }
                };
            }
            let message = self.receive()?;
            self.keep_job(message);
        }
    }

    fn keep_job(&mut self, message: Message) {
        if message.kind == wire::SIGNAL && message.member == "JobRemoved" {
            self.jobs.push(message.texts());
        }
    }

    fn call(&mut self, method: Method, body: Body) -> std::result::Result<Message, Failure> {
        self.serial += 1;
        self.deadline = Instant::now() + PATIENCE;
        let bytes = body.call(method, self.serial);
        self.stream.get_mut().write_all(&bytes)?;
        loop {
            let message = self.receive()?;
            match message.kind {
                wire::REPLY if message.reply_to == Some(self.serial) => return Ok(message),
                wire::ERROR if message.reply_to == Some(self.serial) => {
                    let words = message.texts().into_iter().next().unwrap_or_default();
                    return Err(Failure::Answer(message.error.unwrap_or_default(), words));
                }
                _ => self.keep_job(message),
            }
        }
    }

    fn receive(&mut self) -> std::io::Result<Message> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.stream.get_ref().set_read_timeout(Some(left))?;
        let broken = || std::io::Error::other("not a message of D-Bus");
        let mut bytes = vec![0; wire::FIXED];
        self.stream.read_exact(&mut bytes)?;
        let fixed = bytes.first_chunk().ok_or_else(broken)?;
        let length = wire::following(fixed).ok_or_else(broken)?;
        bytes.resize(wire::FIXED + length, 0);
        self.stream.read_exact(&mut bytes[wire::FIXED..])?;
        Message::parse(&bytes).ok_or_else(broken)
    }
}

fn manager(member: &'static str) -> Method {
    Method { destination: SYSTEMD, object: OBJECT, interface: MANAGER, member }
}

fn told(call: &'static str, on: &str, failure: Failure) -> Error {
    let answer = match failure {
        Failure::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            format!("no answer within {} seconds", PATIENCE.as_secs())
        }
        Failure::Io(error) => error.to_string(),
        Failure::Answer(name, words) => format!("{name}: {words}"),
    };
    Error::Systemd { call, on: on.to_owned(), answer }
}

/// Where the user's bus may be: as the session says, and in the user's runtime directory.
fn user_bus() -> Vec<PathBuf> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named = address.split(';').filter_map(|one| one.strip_prefix("unix:path="));
    let named = named.filter_map(|rest| rest.split(',').next()).map(PathBuf::from);
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("bus"));
    named.chain(runtime).collect()
}

#[cfg(test)]
mod tests;
