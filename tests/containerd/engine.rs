//! A containerd of the test's own, whose runtime is floe.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::oci_image;
use crate::support::calls::{Done, eventually, finish, succeed, wait};
use crate::support::leaks::Picture;
use crate::support::{MARK, Place, image, prefix};

/// The image's name.
pub const IMAGE: &str = "floe-test";

/// Where every shim has its socket, whatever its containerd is told; and who of this program's tests uses it.
const SOCKETS: &str = "/run/containerd";
static USERS: Mutex<u32> = Mutex::new(0);

/// A containerd with folders of its own. When it goes, nothing of it may be left.
pub struct Containerd {
    place: Place,
    before: Picture,
    daemon: Child,
}

/// A program of the package, which scripts/setup unpacks.
fn program(name: &str) -> PathBuf {
    let path = prefix().join("cache/containerd/usr/bin").join(name);
    assert!(path.exists(), "{} is missing; scripts/setup unpacks it", path.display());
    path
}

impl Containerd {
    #[track_caller]
    pub fn new() -> Self {
        let place = Place::new("containerd");
        let before = Picture::without_criu(&place, &[]);
        *USERS.lock().unwrap() += 1;
        let path = |name| place.join(name).display().to_string();
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ntemp = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("temp"),
            path("socket"),
            path("socket.ttrpc"),
        );
        fs::write(place.join("config.toml"), configuration).unwrap();
        fs::create_dir(place.join("temp")).unwrap();
        let daemon = start(&place);
        let containerd = Self { place, before, daemon };
        containerd.until_it_answers();
        let layer = image::rootfs_tar(containerd.place.path(), |_| {});
        let archive = oci_image::archive(containerd.place.path(), &layer, IMAGE);
        containerd.ok(["images", "import", "--snapshotter", "native", archive.to_str().unwrap()]);
        containerd
    }

    #[track_caller]
    fn until_it_answers(&self) {
        eventually("containerd answers", || self.call(["version"]).status.success());
    }

    /// Its files, and those of the test.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Ends the daemon without a word to the shims, and starts another.
    pub fn start_again(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        self.daemon = start(&self.place);
        self.until_it_answers();
    }

    /// A call of `ctr` that is not yet made. Names of cgroups begin with the namespace, so it bears the test's mark.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program("ctr"));
        command.arg("--address").arg(self.place.join("socket")).arg("--namespace").arg(self.place.mark());
        command.args(arguments).env(MARK, self.place.mark()).stdin(Stdio::null());
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
        succeed(&mut self.command(arguments), || self.log())
    }

    /// `run` of a shell script in a container, with these flags.
    pub fn run_arguments(&self, name: &str, flags: &[&str], script: &str) -> Vec<String> {
        let (state, fifos) = (self.place.join("floe"), self.place.join("fifos"));
        let (state, fifos) = (state.to_str().unwrap(), fifos.to_str().unwrap());
        let runtime = ["--runc-binary", env!("CARGO_BIN_EXE_floe"), "--runc-root", state];
        let fixed = ["run", "--snapshotter", "native", "--fifo-dir", fifos];
        let all = [&fixed[..], &runtime, flags, &[IMAGE, name, "sh", "-c", script]].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    /// A container in the background.
    #[track_caller]
    pub fn start(&self, name: &str, flags: &[&str], script: &str) {
        self.ok(self.run_arguments(name, &[&["--detach", "--null-io"], flags].concat(), script));
    }

    /// Another process in a container.
    pub fn exec_arguments(&self, name: &str, id: &str, flags: &[&str], script: &str) -> Vec<String> {
        let fifos = self.place.join("fifos");
        let fixed = ["tasks", "exec", "--fifo-dir", fifos.to_str().unwrap(), "--exec-id", id];
        let all = [&fixed[..], flags, &[name, "sh", "-c", script]].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    /// The status of a container's task: `RUNNING`, `PAUSED`, `STOPPED`; `None` where it has none.
    #[track_caller]
    pub fn status(&self, name: &str) -> Option<String> {
        let list = self.ok(["tasks", "list"]);
        let row = list.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        row.split_whitespace().nth(2).map(str::to_owned)
    }

    /// Kills a task, waits for its end, and removes the container.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.call(["tasks", "kill", "--signal", "KILL", name]);
        eventually(&format!("{name} is stopped"), || self.status(name).as_deref() == Some("STOPPED"));
        self.ok(["tasks", "delete", name]);
        self.ok(["containers", "delete", name]);
    }

    /// What it has told so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.join("log")).unwrap_or_default()
    }
}

fn start(place: &Place) -> Child {
    let log = fs::File::options().create(true).append(true).open(place.join("log")).unwrap();
    let mut command = Command::new(program("containerd"));
    command.arg("--config").arg(place.join("config.toml"));
    // Shims have its environment.
    command.env(MARK, place.mark()).env("TMPDIR", place.join("temp"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let left = self.call(["tasks", "list", "--quiet"]).stdout;
        left.lines().for_each(|name| drop(self.call(["tasks", "delete", "--force", name])));
        let _ = kill(Pid::from_raw(i32::try_from(self.daemon.id()).unwrap()), Signal::SIGTERM);
        wait(&mut self.daemon);
        image::remove_parent_cgroups(self.place.mark(), "");
        let mut users = USERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *users -= 1;
        if *users == 0 {
            // Made by a shim unless somebody else's containerd uses it; what is in use stays.
            for folder in ["s", "fifo", ""] {
                let _ = fs::remove_dir(Path::new(SOCKETS).join(folder));
            }
        }
        drop(users);
        // A test that failed has said of what.
        if !std::thread::panicking() {
            assert_eq!(left, "", "tasks are left");
            self.before.assert_unchanged();
        }
    }
}
