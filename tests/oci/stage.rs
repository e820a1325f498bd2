//! Where a test of the verbs plays: a [`Place`], a picture of the host from before, and calls with a time limit.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::Place;
pub use crate::support::calls::{Done, eventually, finish, quiet, wait};
use crate::support::leaks::Picture;

/// A place whose host has to be as it was when it goes.
pub struct Stage {
    place: Place,
    before: Picture,
    names: AtomicU32,
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
