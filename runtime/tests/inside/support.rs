//! Bundles around a static busybox, and containers made of them by the real runtime.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use floe_runtime::config::{Config, Process};
use floe_runtime::{Blueprint, Container, ContainerId, CreateOptions, ExecOptions, Store};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// The programs of busybox that tests call.
const APPLETS: [&str; 27] = [
    "sh", "cat", "ls", "id", "stat", "readlink", "test", "echo", "sleep", "ip", "mkdir", "touch", "mount",
    "ps", "env", "pwd", "true", "false", "kill", "hostname", "grep", "wc", "umount", "tty", "stty", "mknod",
    "rm",
];

/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A bundle in a directory of its own. `/out` in the container is [`Bundle::out`] on the host.
pub struct Bundle {
    dir: tempfile::TempDir,
    /// Its `config.json`, to be changed at will before it is used.
    pub spec: Value,
}

impl Bundle {
    /// What `runc spec` says, without a terminal, with `/out`.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("floe-inside-").tempdir().unwrap();
        // Reachable by the ids of a user namespace.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bundle = Self { dir, spec: default_spec() };
        let rootfs = bundle.rootfs();
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "home/user", "run"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        fs::copy(busybox(), rootfs.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        fs::create_dir(bundle.out()).unwrap();
        fs::set_permissions(bundle.out(), fs::Permissions::from_mode(0o777)).unwrap();
        let out =
            json!({"destination": "/out", "type": "bind", "source": bundle.out(), "options": ["bind", "rw"]});
        let mut bundle = bundle;
        bundle.mount(out);
        bundle
    }

    /// With `script` as its program, which writes to `/out/log`.
    pub fn with_script(script: &str) -> Self {
        let mut bundle = Self::new();
        bundle.script(script);
        bundle
    }

    /// Makes `script` its program; what it prints goes to `/out/log`.
    pub fn script(&mut self, script: &str) {
        self.spec["process"]["args"] = json!(["sh", "-c", format!("exec >/out/log 2>&1\n{script}")]);
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    /// Adds a mount.
    pub fn mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Takes the mount at `destination` away.
    pub fn unmount(&mut self, destination: &str) {
        self.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != destination);
    }

    /// Puts one more of busybox's programs into it.
    pub fn applet(&mut self, name: &str) {
        symlink("busybox", self.rootfs().join("bin").join(name)).unwrap();
    }

    /// Joins the namespace at `path` instead of making one.
    pub fn join(&mut self, kind: &str, path: impl AsRef<Path>) {
        self.share(kind);
        let namespace = json!({"type": kind, "path": path.as_ref()});
        self.spec["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
    }

    /// Leaves a namespace out.
    pub fn share(&mut self, kind: &str) {
        self.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != kind);
    }

    /// Gives it a user namespace in which 0 to 65535 are 100000 and up.
    pub fn map_ids(&mut self) {
        self.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        self.spec["linux"]["uidMappings"] = map.clone();
        self.spec["linux"]["gidMappings"] = map;
        for entry in walk(&self.rootfs()) {
            std::os::unix::fs::lchown(&entry, Some(100_000), Some(100_000)).unwrap();
        }
    }

    /// What the program printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.out().join("log")).unwrap_or_default()
    }

    /// Creates it.
    pub fn create(&self) -> Result<Running, floe_runtime::Error> {
        self.create_with(CreateOptions::default())
    }

    pub fn create_with(&self, options: CreateOptions) -> Result<Running, floe_runtime::Error> {
        self.write();
        let container = self.store().create(&next_id(), self.path(), options)?;
        Ok(Running::of(container, self.path()))
    }

    /// Creates it of its `config.json` after `change`.
    pub fn create_changed(&self, change: impl FnOnce(&mut Config)) -> Result<Running, floe_runtime::Error> {
        self.write();
        let mut blueprint = Blueprint::of_bundle(self.path())?;
        change(&mut blueprint.config);
        let container = self.store().create_of(&next_id(), || Ok(blueprint), CreateOptions::default())?;
        Ok(Running::of(container, self.path()))
    }

    /// Writes its `config.json`.
    pub fn write(&self) {
        fs::write(self.path().join("config.json"), serde_json::to_vec_pretty(&self.spec).unwrap()).unwrap();
    }

    /// The store that its containers are in.
    pub fn store(&self) -> Store {
        Store::open(&self.path().join("state")).unwrap()
    }

    /// Creates and starts it, waits for its end, and says what it printed. Its status has to be 0.
    pub fn run(&self) -> String {
        let (status, log) = self.run_to_end();
        assert_eq!(status, 0, "it printed: {log}");
        log
    }

    /// As [`Bundle::run`], with any status.
    pub fn run_to_end(&self) -> (i32, String) {
        let running = self.create().unwrap_or_else(|error| panic!("{}", full(&error)));
        running.container.start().unwrap();
        (running.wait(), self.log())
    }

    /// The text of the error with which it cannot be created.
    pub fn refused(&self) -> String {
        match self.create() {
            Ok(_) => panic!("it was created"),
            Err(error) => full(&error),
        }
    }
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(walk(&entry.unwrap().path()));
        }
    }
    found
}

/// A container that is removed at the end.
pub struct Running {
    pub container: Container,
    out: PathBuf,
}

impl Running {
    /// Of the bundle in the directory `bundle`.
    pub fn of(container: Container, bundle: &Path) -> Self {
        Self { container, out: bundle.join("out") }
    }

    pub fn pid(&self) -> Pid {
        self.container.recorded_pid().unwrap()
    }

    /// Its exit status, 128 + n for a signal.
    pub fn wait(&self) -> i32 {
        wait_for(self.pid())
    }

    /// Runs `script` as a further process to its end; its status and what it printed.
    pub fn exec(&self, script: &str) -> (i32, String) {
        self.exec_as(script, |_| {})
    }

    /// As [`Running::exec`], with a process that `change` has changed.
    pub fn exec_as(&self, script: &str, change: impl FnOnce(&mut Process)) -> (i32, String) {
        let mut process = self.container.config().process.clone();
        process.args = vec!["sh".into(), "-c".into(), format!("exec >/out/exec 2>&1\n{script}")];
        change(&mut process);
        let _ = fs::remove_file(self.out.join("exec"));
        let pid = self.container.exec(ExecOptions::new(process));
        let status = wait_for(pid.unwrap_or_else(|error| panic!("{}", full(&error))));
        (status, fs::read_to_string(self.out.join("exec")).unwrap_or_default())
    }

    /// Runs `script` as a further process to its end, where there is no `/out`; its status.
    pub fn exec_in(&self, script: &str) -> i32 {
        let mut process = self.container.config().process.clone();
        process.args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let pid = self.container.exec(ExecOptions::new(process));
        wait_for(pid.unwrap_or_else(|error| panic!("{}", full(&error))))
    }

    /// Starts it and waits for the line `ready` in its log.
    pub fn start_until_ready(&self) {
        self.container.start().unwrap();
        eventually("the program is ready", || self.log().lines().any(|line| line == "ready"));
    }

    /// Reads `/proc/PID/name`.
    pub fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.out.join("log")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.container.recorded_pid();
        let deleted = self.container.delete(true);
        if let Some(pid) = pid {
            let _ = waitpid(pid, None);
        }
        if !std::thread::panicking() {
            deleted.unwrap();
        }
    }
}

/// Options and file system of what is mounted at `path` last, from mountinfo.
pub fn mount_at<'a>(log: &'a str, path: &str) -> Option<(&'a str, &'a str)> {
    log.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let fields: Vec<&str> = left.split(' ').collect();
        (fields.get(4) == Some(&path)).then(|| (fields[5], right))
    })
}

/// Its options alone.
pub fn options<'a>(log: &'a str, path: &str) -> &'a str {
    mount_at(log, path).unwrap_or_else(|| panic!("nothing at {path} in {log}")).0
}

/// A mount of the test's own, private.
pub struct Mounted(pub PathBuf);

impl Mounted {
    pub fn tmpfs(path: &Path) -> Self {
        Self::of("tmpfs", path, nix::mount::MsFlags::empty())
    }

    pub fn of(kind: &str, path: &Path, flags: nix::mount::MsFlags) -> Self {
        use nix::mount::{MsFlags, mount};
        mount(Some(kind), path, Some(kind), flags, None::<&str>).unwrap();
        mount(None::<&str>, path, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

/// Waits for a child of this process.
pub fn wait_for(pid: Pid) -> i32 {
    let start = Instant::now();
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::Exited(_, status) => return status,
            WaitStatus::Signaled(_, signal, _) => return 128 + signal as i32,
            _ if start.elapsed() > PATIENCE => panic!("process {pid} does not end"),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Waits until `what` holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An error with its causes.
pub fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

pub fn next_id() -> ContainerId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    ContainerId::parse(&format!("floe-inside-{}-{number}", std::process::id())).unwrap()
}

fn busybox() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
        .expect("these tests need a static busybox: apt-get install -y busybox-static")
}

fn default_spec() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities,
                "permitted": capabilities, "ambient": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "floe",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
