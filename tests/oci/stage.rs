//! Where a test of the verbs plays: a [`Place`], a picture of the host from before, and calls with a time limit.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Place;
use crate::support::leaks::Picture;

/// No call of floe in these tests takes longer, unless it hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A place whose host has to be as it was when it goes.
pub struct Stage {
    place: Place,
    before: Picture,
    names: AtomicU32,
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Stage {
    pub fn new() -> Self {
        let place = Place::new("verbs");
        let before = Picture::without_criu(&place, &[&place.root()]);
        Self { place, before, names: AtomicU32::new(0) }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// The state directory that its calls of floe use.
    pub fn root(&self) -> PathBuf {
        self.place.root()
    }

    /// A new container name, for the container's cgroup too.
    pub fn name(&self) -> String {
        self.place.name(&self.names.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Nothing of the containers so far is left: no process, cgroup, mount, namespace, record.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.before.assert_unchanged();
    }

    /// A call of floe that is not yet made.
    pub fn floe<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = self.place.floe(args);
        command.current_dir(self.path());
        command
    }

    /// Calls floe and waits for its end.
    pub fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        finish(&mut self.floe(args))
    }

    /// Calls floe, which has to succeed; what it printed.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> String {
        let done = self.call(args);
        assert!(done.status.success(), "floe {args:?}: {done:?}");
        done.stdout
    }

    /// Calls floe, which has to fail; its words.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> String {
        let done = self.call(args);
        assert!(!done.status.success(), "floe {args:?} should fail: {done:?}");
        assert!(!done.stderr.contains("panicked"), "floe {args:?}: {done:?}");
        done.stderr
    }

    /// What `floe state` says.
    #[track_caller]
    pub fn state(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", name])).unwrap()
    }

    /// The status in it.
    #[track_caller]
    pub fn status(&self, name: &str) -> String {
        self.state(name)["status"].as_str().unwrap().to_owned()
    }

    /// The pid of a container's first process.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        self.place.pid(name)
    }

    /// Runs a container of this bundle in the background; its name.
    #[track_caller]
    pub fn run_detached(&self, bundle: &Path) -> String {
        let name = self.name();
        self.ok(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &name]);
        name
    }

    /// Waits until the container is in this state.
    #[track_caller]
    pub fn wait_for_status(&self, name: &str, status: &str) {
        eventually(&format!("{name} is {status}"), || self.status(name) == status);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A test that failed is removed by the place; what it left is not what it failed of.
        if !std::thread::panicking() {
            self.assert_clean();
        }
    }
}

/// Runs a command to its end. Its output goes through files: a container that is left behind would keep a pipe open.
pub fn finish(command: &mut Command) -> Done {
    let files = [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
    command.stdout(files[0].reopen().unwrap()).stderr(files[1].reopen().unwrap());
    let status = wait(&mut command.spawn().unwrap());
    let [stdout, stderr] = files
        .each_ref()
        .map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned());
    Done { status, stdout, stderr }
}

/// Waits for a child, and ends it when it takes too long.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("a call took longer than {TIME_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for something that takes a moment.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Done {
    /// The exit code; 128 + n for signal n.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

/// Standard streams of a call that nobody reads.
pub fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
