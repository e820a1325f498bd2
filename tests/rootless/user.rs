//! The ordinary user, with a home, a floe and bundles of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::leaks::Picture;
use crate::support::{MARK, Place, Said, said, tool};

/// A number that no account of the host has.
pub const UID: u32 = 60_123;

/// The user, on a host that has to be as it was when it goes.
pub struct User {
    place: Place,
    before: Picture,
    /// What root does in a mount namespace of its own before the user gets the word.
    setting: Option<String>,
    path: String,
}

impl User {
    pub fn new(name: &str) -> Self {
        let place = Place::new(name);
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["home", "xdg"] {
            fs::create_dir(place.join(folder)).unwrap();
            fs::set_permissions(place.join(folder), fs::Permissions::from_mode(0o700)).unwrap();
            chown(place.join(folder), Some(UID), Some(UID)).unwrap();
        }
        // The folder of the build may be closed to others.
        let floe = env!("CARGO_BIN_EXE_floe");
        fs::hard_link(floe, place.join("floe"))
            .or_else(|_| fs::copy(floe, place.join("floe")).map(drop))
            .unwrap();
        let before = Picture::without_criu(&place, &[]);
        let path = std::env::var("PATH").unwrap();
        Self { place, before, setting: None, path }
    }

    /// A user whose calls are made in a mount namespace that root prepares each time with this shell script.
    pub fn in_setting(name: &str, setting: impl FnOnce(&Place) -> String) -> Self {
        let mut user = Self::new(name);
        user.setting = Some(setting(&user.place));
        user
    }

    /// Whose calls find programs here.
    pub fn with_path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The state directory that is the user's by default.
    pub fn root(&self) -> PathBuf {
        self.place.join("xdg/floe")
    }

    /// A program with arguments, run as the user.
    pub fn command(&self, words: &[&str]) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = match &self.setting {
            None => {
                let mut command = Command::new(words[0]);
                command.args(&words[1..]).uid(UID).gid(UID);
                command
            }
            Some(setting) => {
                let mut command = Command::new("unshare");
                let script = format!(
                    "set -e; PATH={}; {setting}; PATH={}; exec /usr/bin/setpriv --reuid={UID} --regid={UID} \
                     --clear-groups \"$@\"",
                    std::env::var("PATH").unwrap(),
                    self.path
                );
                command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).args(words);
                command
            }
        };
        let path = if self.setting.is_some() { std::env::var("PATH").unwrap() } else { self.path.clone() };
        command.env_clear().env("PATH", path).env("HOME", self.place.join("home"));
        command.env("XDG_RUNTIME_DIR", self.place.join("xdg")).env(MARK, self.place.mark());
        command.current_dir(self.place.join("home"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// A floe of the user's.
    pub fn floe(&self, arguments: &[&str]) -> Command {
        let program = self.place.join("floe");
        self.command(&[&[program.to_str().unwrap()], arguments].concat())
    }

    pub fn call(&self, arguments: &[&str]) -> Said {
        said(&mut self.floe(arguments))
    }

    /// A call that has to succeed; what it printed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.call(arguments);
        assert_eq!(said.code, Some(0), "floe {arguments:?}: {said:?}");
        said.stdout
    }

    /// A call that has to fail; its words.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let said = self.call(arguments);
        assert!(said.code.is_some_and(|code| code != 0), "floe {arguments:?} should fail: {said:?}");
        assert!(!said.stderr.contains("panicked"), "{said:?}");
        said.stderr
    }

    /// A bundle of the user's with busybox, as `floe spec --rootless` configures it, without terminal and with a root
    /// that may be written to; changed.
    pub fn bundle(&self, script: &str, change: impl FnOnce(&mut Value)) -> String {
        self.bundle_of(&["spec", "--rootless"], script, change)
    }

    /// The same with another `spec`.
    pub fn bundle_of(&self, spec: &[&str], script: &str, change: impl FnOnce(&mut Value)) -> String {
        let folder = self.place.join("home/bundle");
        if !folder.exists() {
            let busybox = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/bundle-busybox");
            tool(Command::new(busybox).arg(&folder));
            tool(Command::new("chown").args(["-R", &format!("{UID}:{UID}")]).arg(&folder));
        }
        let file = folder.join("config.json");
        fs::remove_file(&file).unwrap();
        let path = folder.to_str().unwrap();
        self.ok(&[spec, &["--bundle", path]].concat());
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        change(&mut config);
        fs::write(&file, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
        path.to_owned()
    }

    /// The root file system of the bundle.
    pub fn rootfs(&self) -> PathBuf {
        self.place.join("home/bundle/rootfs")
    }

    /// Runs a container to its end; what it printed.
    #[track_caller]
    pub fn run(&self, bundle: &str) -> String {
        self.ok(&["run", "--bundle", bundle, &self.place.name("once")])
    }

    /// Starts one in the background.
    #[track_caller]
    pub fn start(&self, bundle: &str, name: &str) {
        let status =
            self.floe(&["--log", "/dev/stderr", "run", "--detach", "--bundle", bundle, name]).status();
        assert!(status.unwrap().success(), "{name} does not start");
    }

    /// What `floe state` says.
    #[track_caller]
    pub fn state(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", name])).unwrap()
    }

    #[track_caller]
    pub fn wait_for_status(&self, name: &str, status: &str) {
        eventually(&format!("{name} is {status}"), || self.state(name)["status"] == status);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return self.before.assert_unchanged();
        }
        let Ok(entries) = fs::read_dir(self.root()) else { return };
        for name in entries.flatten().map(|entry| entry.file_name()) {
            let _ = self.floe(&["delete", "--force", &name.to_string_lossy()]).status();
        }
    }
}

/// A namespace of this kind, added to a configuration.
pub fn add_namespace(config: &mut Value, kind: &str) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": kind }));
}

pub fn remove_namespace(config: &mut Value, kind: &str) {
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != kind);
}

/// A line of `/proc/PID/status` on the host.
pub fn status_of(pid: i64, key: &str) -> String {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
