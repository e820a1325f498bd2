//! Bundles whose root file system holds one of the test programs, and the conversation with it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a program may take to become ready or to answer, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A bundle with a program, and the folder through which it is asked.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    /// Its root file system is mounted there, and not a folder.
    mounted: bool,
}

impl Bundle {
    /// Makes a bundle at `folder` that runs a test program with arguments (`--dir` is added).
    pub fn of_program(folder: &Path, program: &str, arguments: &[&str]) -> Self {
        let bundle = Self::empty(folder);
        let inside = bundle.add_program(&binary(program));
        let mut words = vec![inside.as_str(), "--dir", "/state"];
        words.extend(arguments);
        bundle.configure(&json!(words));
        bundle
    }

    /// Makes a bundle at `folder` that runs `words` in the root file system `lower`, which stays as it is: changes go into a
    /// folder beside (an overlay, as engines make one). The conversation's folder is there too.
    pub fn of_root(folder: &Path, lower: &Path, words: &[&str]) -> Self {
        assert!(lower.join(".complete").exists(), "{} is missing: run scripts/setup", lower.display());
        let [rootfs, upper, work] = ["rootfs", "upper", "work"].map(|name| folder.join(name));
        for path in [&rootfs, &upper, &work] {
            fs::create_dir_all(path).unwrap();
        }
        let options =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        super::tool(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&rootfs));
        let bundle = Self { folder: folder.to_owned(), mounted: true };
        fs::create_dir(rootfs.join("state")).unwrap();
        fs::set_permissions(rootfs.join("state"), fs::Permissions::from_mode(0o777)).unwrap();
        bundle.configure(&json!(words));
        bundle.change(|config| {
            let path = "PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            config["process"]["env"] = json!([path, "HOME=/state"]);
        });
        bundle
    }

    /// A running container of the place, and its name, with a few MiB of memory that it checks itself.
    pub fn running(place: &super::Place) -> (Self, String) {
        let bundle = Self::of_program(&place.join("bundle"), "memory-map", &["--mib", "4"]);
        let name = place.name("web");
        place.start(&name, bundle.path());
        bundle.ready();
        (bundle, name)
    }

    fn empty(folder: &Path) -> Self {
        let rootfs = folder.join("rootfs");
        for name in ["proc", "dev", "sys", "tmp", "etc", "bin", "state"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        // Programs that give up root write here too.
        fs::set_permissions(rootfs.join("state"), fs::Permissions::from_mode(0o777)).unwrap();
        Self { folder: folder.to_owned(), mounted: false }
    }

    /// Copies a program and the libraries that it names into the root file system; returns its path in there.
    fn add_program(&self, program: &Path) -> String {
        let inside = Path::new("/bin").join(program.file_name().unwrap());
        self.copy(program, &inside);
        let list = String::from_utf8(super::tool(Command::new("ldd").arg(program))).unwrap();
        for library in list.split_whitespace().filter(|word| word.starts_with('/')) {
            self.copy(Path::new(library), Path::new(library));
        }
        inside.to_string_lossy().into_owned()
    }

    fn copy(&self, from: &Path, inside: &Path) {
        let to = self.rootfs().join(inside.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        super::copy_program(from, &to);
    }

    fn configure(&self, words: &Value) {
        let config = configuration(words);
        fs::write(self.folder.join("config.json"), serde_json::to_vec_pretty(&config).unwrap()).unwrap();
    }

    /// Changes the configuration.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.folder.join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
    }

    /// The bundle's folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// A file in the folder of the conversation.
    pub fn door(&self, name: &str) -> PathBuf {
        self.rootfs().join("state").join(name)
    }

    /// Waits until the program is ready, and returns what it said.
    #[track_caller]
    pub fn ready(&self) -> String {
        wait_for(&self.door("ready"))
    }

    /// Asks the program, and returns its answer.
    #[track_caller]
    pub fn ask(&self, words: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let token = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let beside = self.door(".ask");
        fs::write(&beside, format!("{token} {words}")).unwrap();
        fs::rename(&beside, self.door("ask")).unwrap();
        let answer = self.door(&format!("answer-{token}"));
        let text = wait_for(&answer);
        fs::remove_file(answer).unwrap();
        text
    }

    /// Asks the program, which has to answer that all is well; returns the rest of its answer.
    #[track_caller]
    pub fn ask_ok(&self, words: &str) -> String {
        let answer = self.ask(words);
        match answer.strip_prefix("ok") {
            Some(rest) => rest.trim().to_owned(),
            None => panic!("asked {words:?}, the program in {} answers:\n{answer}", self.folder.display()),
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.mounted {
            // A container that a failed test left still stands on it.
            let _ = nix::mount::umount2(&self.rootfs(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// The content of a file, once it is there.
#[track_caller]
pub fn wait_for(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) => return text,
            Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("{} is not there after {PATIENCE:?}: {error}", path.display()),
        }
    }
}

/// A test program, freshly built: programs of another package are not built for a test by themselves. Where nothing can be
/// built, in a guest, `$FLOE_TEST_PROGRAMS` is the folder that they are in.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        if let Some(folder) = std::env::var_os("FLOE_TEST_PROGRAMS") {
            return PathBuf::from(folder);
        }
        let folder = Path::new(env!("CARGO_BIN_EXE_floe")).parent().unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--locked", "--package", "floe-test-programs", "--bins"]);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            command.arg("--release");
        }
        super::tool(&mut command);
        folder.to_owned()
    });
    let path = folder.join(name);
    assert!(path.exists(), "there is no test program {}", path.display());
    path
}

/// A configuration as `runc spec` makes one, with a few capabilities that the programs need.
fn configuration(words: &Value) -> Value {
    let capabilities: BTreeSet<&str> =
        ["CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"].into();
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": words,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "frozen",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
