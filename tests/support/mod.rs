//! What the end-to-end tests share: a floe with a state folder of its own, bundles, programs, pictures of the host.
//!
//! Each test file is a program of its own and uses a part of this.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod calls;
pub mod damage;
pub mod image;
pub mod leaks;
pub mod program;
pub mod runc;
pub mod terminal;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Set for every floe of a test, so that what it leaves behind can be told from everybody else's.
pub const MARK: &str = "FLOE_TEST_MARK";

/// A place where a test works: a folder, a state folder for floe, and a prefix for the names of containers.
#[derive(Debug)]
pub struct Place {
    folder: tempfile::TempDir,
    mark: String,
    criu: Option<PathBuf>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// Makes a place; `name` goes into names of containers and folders.
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "these tests need root: run them with sudo -E make test");
        let mark = format!("{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(&format!("floe-test-{mark}-")).tempdir().unwrap();
        Self { folder, mark, criu: None }
    }

    /// From here on floe uses the newest CRIU. Linux 6.16 took options of UNIX sockets from all others, for which CRIU asks
    /// up to 4.1.
    pub fn with_next_criu(&mut self) {
        self.criu = Some(runc::criu("criu-next"));
    }

    /// A place whose floe does from the beginning.
    pub fn with_newest_criu(name: &str) -> Self {
        let mut place = Self::new(name);
        place.with_next_criu();
        place
    }

    /// The folder that all of this test's files are in.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// floe's state folder.
    pub fn root(&self) -> PathBuf {
        self.join("run")
    }

    /// What names of containers, cgroups and folders of this test contain.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// A name for a container.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.mark)
    }

    /// A floe of this place, with arguments; its standard streams are on `/dev/null` until somebody says otherwise.
    pub fn floe<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floe"));
        command.arg("--root").arg(self.root()).args(arguments);
        command.env(MARK, &self.mark).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(criu) = &self.criu {
            command.env("FLOE_CRIU", criu);
        }
        command
    }

    /// Runs floe, and returns what it said. Its output goes through files: a container that it starts inherits the
    /// streams, and would keep a pipe open.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        said(&mut self.floe(arguments))
    }

    /// Runs a floe that has to succeed.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let mut command = self.floe(arguments);
        let said = said(&mut command);
        assert_eq!(said.code, Some(0), "{command:?} failed: {}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// Starts a container whose streams are on `/dev/null`.
    #[track_caller]
    pub fn start(&self, name: &str, bundle: &Path) {
        self.start_with(name, bundle, |_| {});
    }

    /// Starts a container with streams of its own.
    #[track_caller]
    pub fn start_with(&self, name: &str, bundle: &Path, streams: impl FnOnce(&mut Command)) {
        let log = self.join(format!("{name}.log"));
        let mut command = self.floe([
            OsStr::new("--log"),
            log.as_os_str(),
            OsStr::new("run"),
            OsStr::new("--detach"),
            OsStr::new("--bundle"),
            bundle.as_os_str(),
            OsStr::new(name),
        ]);
        streams(&mut command);
        let status = command.status().unwrap();
        assert!(status.success(), "{command:?}: {status}: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Freezes a container with these flags, deletes it, restores it under the name of `again`, and returns that.
    #[track_caller]
    pub fn there_and_back(&self, name: &str, again: &str, flags: &[&str]) -> String {
        let (archive, again) = (self.join(format!("{again}.tar.zst")), self.name(again));
        let archive = archive.to_str().unwrap();
        self.ok([&["checkpoint", name, "--to", archive], flags].concat());
        self.ok(["delete", name]);
        self.ok(["restore", &again, "--detach", "--from", archive]);
        again
    }

    /// A container's state, as `floe state` tells it; `None` where there is no such container.
    pub fn state(&self, name: &str) -> Option<serde_json::Value> {
        let said = self.run(["state", name]);
        (said.code == Some(0)).then(|| serde_json::from_str(&said.stdout).unwrap())
    }

    /// The pid of a container's first process.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let state = self.state(name).unwrap_or_else(|| panic!("{name} does not exist"));
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    }
}

/// Where `scripts/setup` has put what the tests need.
pub fn prefix() -> PathBuf {
    std::env::var_os("FLOE_PREFIX").map_or_else(|| PathBuf::from("/opt/floe"), PathBuf::from)
}

/// How often a test does over again what it does: as usual, or `$FLOE_TEST_ROUNDS` times where everything takes long.
pub fn rounds(usual: usize) -> usize {
    let said = std::env::var("FLOE_TEST_ROUNDS").ok();
    said.map_or(usual, |text| text.parse().expect("FLOE_TEST_ROUNDS is no number"))
}

/// Runs a command to its end, with its output in files.
pub fn said(command: &mut Command) -> Said {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Said { code: status.code(), stdout: whole(&mut out), stderr: whole(&mut err) }
}

fn whole(file: &mut fs::File) -> String {
    use std::io::{Read, Seek};
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    String::from_utf8_lossy(&content).into_owned()
}

/// Copies a program that is going to be run. Not by this process: what another thread starts meanwhile would hold the copy
/// open for writing, and then it cannot be run (ETXTBSY of execve(2)).
pub fn copy_program(from: &Path, to: &Path) {
    tool(Command::new("cp").args([from, to]));
}

/// The names of what is in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a tool that has to be there and to succeed.
#[track_caller]
pub fn tool(command: &mut Command) -> Vec<u8> {
    let Output { status, stdout, stderr } = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}; scripts/setup installs what the tests need"),
    };
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr));
    stdout
}

impl Drop for Place {
    /// A test that failed leaves its containers; they are deleted, so that they do not disturb the next one.
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(self.root()) else { return };
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        for name in names.iter().filter(|name| name.to_string_lossy().contains(&self.mark)) {
            let _ = self.floe([OsStr::new("delete"), OsStr::new("--force"), name]).status();
        }
    }
}
