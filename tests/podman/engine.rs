//! A podman of the test's own, whose runtime is floe.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::calls::{Done, finish, succeed};
use crate::support::leaks::Picture;
use crate::support::runc::{criu, path_with};
use crate::support::{MARK, Place, image};

/// What podman is told. Limits that it would raise by itself need a right that not every machine's root has; locks and
/// events in files keep it apart from the host's own podman.
const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"#;

/// The image's name.
pub const IMAGE: &str = "localhost/floe-test";

/// A podman with storage, state and containers of its own. When it goes, nothing of it may be left.
pub struct Podman {
    place: Place,
    before: Picture,
}

impl Podman {
    #[track_caller]
    pub fn new() -> Self {
        let place = Place::new("podman");
        let before = Picture::without_criu(&place, &[]);
        fs::write(place.join("containers.conf"), CONFIGURATION).unwrap();
        let floe = env!("CARGO_BIN_EXE_floe");
        let as_runc = format!("{CONFIGURATION}[engine.runtimes]\nrunc = [{floe:?}]\n");
        fs::write(place.join("as-runc.conf"), as_runc).unwrap();
        let tar = image::rootfs_tar(place.path(), |rootfs| {
            // A folder for what a test mounts, since a read-only root gets no new one.
            fs::create_dir_all(rootfs.join("scratch")).unwrap();
        });
        let podman = Self { place, before };
        podman.ok(["import", "--quiet", tar.to_str().unwrap(), IMAGE]);
        podman
    }

    /// Its files, and those of the test.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A call that is not yet made.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command_of("containers.conf", &["--runtime", env!("CARGO_BIN_EXE_floe")], arguments)
    }

    /// The same with the distribution's runc.
    pub fn with_runc<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command_of("containers.conf", &["--runtime", "runc"], arguments)
    }

    /// The same with floe under the name of runc: podman brings a container back by the runtime that an archive names.
    pub fn as_runc<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command_of("as-runc.conf", &["--runtime", "runc"], arguments)
    }

    /// The same with another CRIU than is usual.
    pub fn with_criu<S: AsRef<OsStr>>(&self, criu: &Path, arguments: impl IntoIterator<Item = S>) -> Command {
        let flag = format!("criu={}", criu.display());
        let runtime = ["--runtime", env!("CARGO_BIN_EXE_floe"), "--runtime-flag", &flag];
        self.command_of("containers.conf", &runtime, arguments)
    }

    fn command_of<S: AsRef<OsStr>>(
        &self,
        configuration: &str,
        runtime: &[&str],
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new("podman");
        for (flag, folder) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.place.join(folder));
        }
        command.args(["--storage-driver", "vfs"]).args(runtime).args(arguments);
        command.env("CONTAINERS_CONF", self.place.join(configuration));
        // podman asks a `criu` in PATH for its version before it has the runtime do anything.
        command.env("PATH", path_with(&self.place, &criu("criu")));
        command.env(MARK, self.place.mark()).stdin(Stdio::null());
        command
    }

    /// Calls it.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Done {
        finish(&mut self.command(arguments))
    }

    /// Calls it, and it has to succeed; what it printed.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        succeed(&mut self.command(arguments), String::new)
    }

    /// `run` and these arguments, in a cgroup that is named after the test, without a network.
    pub fn run_arguments<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let parent = self.cgroup_parent();
        let mut words = ["run", "--network", "none", "--cgroup-parent", &parent].map(str::to_owned).to_vec();
        words.extend(arguments.into_iter().map(str::to_owned));
        words
    }

    /// `podman run` in the foreground, as it ended.
    #[track_caller]
    pub fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Done {
        self.call(self.run_arguments(["--rm"].into_iter().chain(arguments)))
    }

    /// A shell script in a container with these flags; what it printed.
    #[track_caller]
    pub fn shell(&self, flags: &[&str], script: &str) -> String {
        let command = [IMAGE, "sh", "-c", script];
        self.ok(self.run_arguments(["--rm"].iter().chain(flags).chain(&command).copied()))
    }

    /// A container in the background that runs this shell script.
    #[track_caller]
    pub fn start(&self, name: &str, flags: &[&str], script: &str) {
        let (fixed, command) = (["--detach", "--name", name], [IMAGE, "sh", "-c", script]);
        self.ok(self.run_arguments(fixed.iter().chain(flags).chain(&command).copied()));
    }

    /// `podman inspect` of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let all: Value = serde_json::from_str(&self.ok(["container", "inspect", name])).unwrap();
        all[0].clone()
    }

    /// The status of a container.
    #[track_caller]
    pub fn status(&self, name: &str) -> String {
        self.inspect(name)["State"]["Status"].as_str().unwrap().to_owned()
    }

    /// The cgroup above those of the containers.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.place.mark())
    }

    fn remove_all(&self) -> [Done; 2] {
        [
            self.call(["pod", "rm", "--all", "--force", "--time", "0"]),
            self.call(["rm", "--all", "--force", "--volumes", "--time", "0"]),
        ]
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let removed = self.remove_all();
        image::remove_parent_cgroups(self.place.mark(), "libpod-");
        // A test that failed has said of what.
        if !std::thread::panicking() {
            assert!(removed.iter().all(|done| done.status.success()), "{removed:?}");
            self.before.assert_unchanged();
        }
    }
}
