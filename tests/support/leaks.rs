//! Pictures of the host before and after: what a test leaves behind.
//!
//! Other tests and other people work at the same time, so a picture shows what bears the mark of the test's
//! [`Place`] (in a name, a path, or the environment of a process), and in full only what floe and CRIU may leave
//! under names of their own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Place;

/// What is on its way out, such as a process that is being reaped or a cgroup that is being removed, gets this long.
const GRACE: Duration = Duration::from_secs(10);

/// A picture of the host.
#[derive(Debug)]
pub struct Picture {
    mark: String,
    folder: PathBuf,
    folders: Vec<PathBuf>,
    /// Whether what bears CRIU's name, whoever ran it, is in the picture too.
    criu: bool,
    lines: BTreeSet<String>,
}

impl Picture {
    /// Takes a picture. `folders` are listed in full, with the size and time of each file.
    pub fn take(place: &Place, folders: &[&Path]) -> Self {
        Self::with(place, folders, true)
    }

    /// As [`Picture::take`], for a test that has nothing to do with CRIU and runs beside others that have.
    pub fn without_criu(place: &Place, folders: &[&Path]) -> Self {
        Self::with(place, folders, false)
    }

    fn with(place: &Place, folders: &[&Path], criu: bool) -> Self {
        let mut picture = Self {
            criu,
            mark: place.mark().to_owned(),
            folder: place.path().to_owned(),
            folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
            lines: BTreeSet::new(),
        };
        picture.lines = picture.look();
        picture
    }

    /// How many things of a kind (`process`, `cgroup`, `mount`, …) are in the picture.
    pub fn count(&self, kind: &str) -> usize {
        self.lines.iter().filter(|line| line.starts_with(kind)).count()
    }

    /// Demands that the host is as it was, after a short while at the latest.
    #[track_caller]
    pub fn assert_unchanged(&self) {
        let begun = Instant::now();
        loop {
            let now = self.look();
            if now == self.lines {
                return;
            }
            if begun.elapsed() > GRACE {
                let new: Vec<_> = now.difference(&self.lines).collect();
                let gone: Vec<_> = self.lines.difference(&now).collect();
                panic!("the host is not as it was; new: {new:#?}; gone: {gone:#?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_ours(&self, text: &str) -> bool {
        text.contains(&self.mark)
    }

    fn look(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        self.processes(&mut lines);
        self.cgroups(&mut lines);
        self.mounts(&mut lines);
        self.networks(&mut lines);
        self.files(&mut lines);
        lines.extend(devices());
        lines
    }

    /// Processes that say that they are ours: by environment, command line, cgroup, root or folder. Whoever was
    /// started by floe has inherited the mark or runs in a cgroup with the container's name.
    fn processes(&self, lines: &mut BTreeSet<String>) {
        let me = std::process::id();
        for pid in fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let text = |name: &str| {
                fs::read(folder.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let link =
                |name: &str| fs::read_link(folder.join(name)).map(|path| path.to_string_lossy().into_owned());
            let about = [text("environ"), text("cmdline"), text("cgroup"), link("root"), link("cwd")];
            if pid != me && about.iter().flatten().any(|text| self.is_ours(text)) && !awaits_init(&folder) {
                lines.insert(format!(
                    "process {pid} {}",
                    text("cmdline").unwrap_or_default().replace('\0', " ")
                ));
                // A descriptor may keep a namespace or a tmpfs alive that is mounted nowhere.
                continue;
            }
            if pid == me {
                let held = fs::read_dir(folder.join("fd")).unwrap().flatten();
                let held = held.filter_map(|entry| fs::read_link(entry.path()).ok());
                let namespaces = held.filter(|target| target.to_string_lossy().starts_with("net:["));
                lines.extend(
                    namespaces.map(|target| format!("namespace {} held by this test", target.display())),
                );
            }
        }
    }

    /// Cgroups of every hierarchy.
    fn cgroups(&self, lines: &mut BTreeSet<String>) {
        let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                // Not through the links by which hierarchies have a second name.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if self.is_ours(&entry.file_name().to_string_lossy()) {
                        lines.insert(format!("cgroup {}", entry.path().display()));
                    }
                    folders.push(entry.path());
                }
            }
        }
    }

    fn mounts(&self, lines: &mut BTreeSet<String>) {
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            let path = self.folder.to_string_lossy();
            // CRIU assembles mount trees in folders of this name.
            if self.is_ours(line) || line.contains(&*path) || (self.criu && line.contains("/.criu.")) {
                let words: Vec<&str> = line.split(' ').collect();
                lines.insert(format!("mount {} {}", words[4], words[words.len() - 2]));
            }
        }
    }

    /// Network namespaces with a name, devices, and the rules by which CRIU locks a network.
    fn networks(&self, lines: &mut BTreeSet<String>) {
        let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        lines.extend(
            named
                .map(|entry| format!("network namespace {}", entry.path().display()))
                .filter(|line| self.is_ours(line)),
        );
        if !self.criu {
            return;
        }
        for (tool, arguments) in
            [("nft", ["list", "tables"].as_slice()), ("iptables-save", &[]), ("ip6tables-save", &[])]
        {
            // Where a tool is not there, nobody has made rules with it.
            if let Ok(output) = Command::new(tool).args(arguments).output() {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let rules = text.lines().filter(|line| line.contains("CRIU"));
                lines.extend(rules.map(|line| format!("rule of {tool}: {line}")));
            }
        }
    }

    /// The given folders in full, and what CRIU leaves in the folder for temporary files.
    fn files(&self, lines: &mut BTreeSet<String>) {
        for folder in &self.folders {
            list(folder, lines);
        }
        for folder in ["/tmp", "/run", "/dev/shm", "/run/floe"] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let ours = self.is_ours(&name) && entry.path() != self.folder;
                let criu = self.criu && (name.starts_with(".criu.") || name.starts_with("crtools-"));
                if ours || criu {
                    lines.insert(format!("file {}", entry.path().display()));
                }
            }
        }
    }
}

fn list(folder: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(about) = path.symlink_metadata() else { continue };
        if about.is_dir() {
            lines.insert(format!("folder {}", path.display()));
            list(&path, lines);
        } else {
            lines.insert(format!(
                "file {} of {} bytes from {}.{}",
                path.display(),
                about.len(),
                about.mtime(),
                about.mtime_nsec()
            ));
        }
    }
}

/// Devices that a mistake as root would destroy.
fn devices() -> impl Iterator<Item = String> {
    ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/tty", "/dev/ptmx"].into_iter().map(|path| {
        match fs::metadata(path) {
            Ok(about) => format!(
                "device {path} {} {:x} {:o}",
                about.file_type().is_char_device(),
                about.rdev(),
                about.mode()
            ),
            Err(error) => format!("device {path}: {error}"),
        }
    })
}

/// Whether a process has ended, and only the host's init is left to take notice of it, which it does when it comes to it.
fn awaits_init(folder: &Path) -> bool {
    let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    (fields.next(), fields.next()) == (Some("Z"), Some("1"))
}

/// The memory maps of a container's processes, by pid on the host, as they have to be after a checkpoint that failed.
pub fn memory_maps(pids: &[i32]) -> Vec<(i32, String)> {
    pids.iter()
        .map(|pid| (*pid, fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default()))
        .collect()
}
