//! What a killed CRIU leaves: folders in `/tmp`, and children of its own.
//!
//! CRIU makes empty folders there as mount points in mount namespaces of its own, and removes them at its end. Killed, or
//! failing at the wrong moment, it does not. What is new since our CRIU began, is empty, and is nobody's mount point any
//! more was its. What was there before is noted in a file beside the records for as long as CRIU works, so that the
//! next floe can do the same where this one is killed. The number of CRIU's process, which is also that of its group, is
//! noted as well: a CRIU that was killed too may have left a child in it that sleeps for ever.
//!
//! ```text
//!   {"floe":…, "before":[…], …}      by floe, before it starts CRIU
//!   4711                             by the child itself, before it becomes CRIU
//! ```
//!
//! A note is locked (flock(2)) by its floe, and the child has the same lock until it becomes CRIU. Who gets the lock knows
//! that the floe is gone and that no CRIU of its is still on the way: going into a cgroup takes milliseconds, and what was
//! killed meanwhile would appear in the cgroup of a container that was tidied away already.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::outside::rules::Lock;

/// How CRIU begins the names of such folders (criu/mount.c, criu/util.c, criu/kerndat.c of CRIU 4.1). The last is there when
/// CRIU tries out a kernel that it has not seen yet.
const PREFIXES: [&str; 4] = [".criu.mntns.", "cr-tmpfs.", "crtools-proc.", ".criu.move_mount_set_group."];

/// Where CRIU makes them, whatever TMPDIR says.
const PLACE: &str = "/tmp";

/// How long a CRIU may take to find that its floe was killed. It does within milliseconds, but for one that hangs in the
/// kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folder of the notes, beside the records: it is looked through by every command, and the records are thousands.
const NOTES: &str = ".criu";

/// What was there before a CRIU began.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    floe: i32,
    before: HashSet<PathBuf>,
    /// What CRIU is about to lock the network by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<Lock>,
    /// Stands in a line of its own.
    #[serde(skip)]
    criu: Option<i32>,
}

/// Held while CRIU works.
#[derive(Debug)]
pub struct Watch {
    note: Note,
    path: PathBuf,
    file: File,
}

impl Watch {
    /// Looks, and notes it in `dir`.
    pub(crate) fn begin(dir: &Path, lock_of_network: Option<Lock>) -> Result<Self> {
        let floe = std::process::id().cast_signed();
        let note = Note { floe, before: present(Path::new(PLACE)), lock: lock_of_network, criu: None };
        let dir = dir.join(NOTES);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| Error::call("mkdir", &dir, source))?;
        let mut text = serde_json::to_vec(&note)
            .map_err(|error| Error::call("encode", &dir, std::io::Error::from(error)))?;
        text.push(b'\n');
        // Nobody takes it for one that was left, as long as it has no lock.
        let quiet = File::open(&dir).map_err(|source| Error::call("open", &dir, source))?;
        lock(&quiet, &dir)?;
        let made = tempfile::Builder::new().prefix(&format!("{floe}.")).append(true).tempfile_in(&dir);
        let (mut file, path) = made
            .and_then(|file| file.keep().map_err(|error| error.error))
            .map_err(|source| Error::call("create", dir.join(floe.to_string()), source))?;
        lock(&file, &path)?;
        file.write_all(&text).map_err(|source| Error::call("write", &path, source))?;
        Ok(Self { note, path, file })
    }

    /// Where the child that is to become CRIU notes its number.
    pub(crate) fn pen(&self) -> Result<File> {
        self.file.try_clone().map_err(|source| Error::call("dup", &self.path, source))
    }

    /// What CRIU has left of the network lock it left on purpose.
    pub(crate) fn network_is_settled(&mut self) {
        self.note.lock = None;
    }

    /// CRIU and everything that it made are at their end, or belong to a container.
    pub(crate) fn end(self) {
        let opened = unlock(&self.note, &a_criu_lives);
        if opened & remove_new(&self.note.before, &a_criu_lives) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Waits for the lock. It ends with the last descriptor of `file`, in whatever process.
fn lock(file: &File, path: &Path) -> Result<()> {
    flock(file, FlockOperation::LockExclusive).map_err(|source| Error::call("flock", path, source))
}

/// Does what killed floes could not do. What is still in use is left for the next time.
pub(crate) fn sweep(dir: &Path) {
    let dir = dir.join(NOTES);
    let Ok(entries) = fs::read_dir(&dir) else { return };
    let paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    // Every command comes by here, and hardly ever is there a note.
    if paths.is_empty() {
        return;
    }
    // Whoever was making one of these has locked it by the time that we get the folder.
    let Ok(quiet) = File::open(&dir) else { return };
    if lock(&quiet, &dir).is_err() {
        return;
    }
    drop(quiet);
    for path in paths {
        if let Some((note, _lock)) = abandoned(&path)
            && settle(&note)
        {
            let _ = fs::remove_file(&path);
        }
    }
}

/// The note of a floe that was killed, once no child of it is on the way to be CRIU.
fn abandoned(path: &Path) -> Option<(Note, File)> {
    let deadline = Instant::now() + PATIENCE;
    let file = File::open(path).ok()?;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let text = fs::read_to_string(path).ok()?;
        if Path::new(&format!("/proc/{}", read(&text).floe)).exists() || Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = fs::read_to_string(path).ok()?;
    Some((read(&text), file))
}

/// Reads a note. One that was cut off was being written when its floe was killed: before any CRIU was there.
fn read(text: &str) -> Note {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let note = serde_json::from_str::<Note>(first).unwrap_or_default();
    Note { criu: rest.trim_end().parse().ok(), ..note }
}

/// Ends what the note tells of. `false` if something is still in use.
fn settle(note: &Note) -> bool {
    if let Some(criu) = note.criu {
        outlive(criu);
        end_orphans(criu);
    }
    if !unlock(note, &a_criu_lives) {
        return false;
    }
    // One of the killed floe's may still be at work, and make its folder only later.
    note.floe == 0 || (!a_criu_lives() && remove_new(&note.before, &a_criu_lives))
}

/// Opens the network that a killed CRIU has left locked, and lets its connections go on. `false` if others may have locks of
/// their own there just now.
fn unlock(note: &Note, a_criu_lives: &dyn Fn() -> bool) -> bool {
    let Some(lock) = &note.lock else { return true };
    // Only after CRIU: a socket that it puts into repair later would stay so.
    if lock.is_shared() && a_criu_lives() {
        return false;
    }
    if let Err(error) = lock.undo() {
        tracing::warn!("the network lock of a checkpoint that failed could not be taken out: {error}");
    }
    true
}

/// Removes what is not in `before` and nobody uses. `false` if something is still in use.
fn remove_new(before: &HashSet<PathBuf>, a_criu_lives: &dyn Fn() -> bool) -> bool {
    let new: Vec<PathBuf> = present(Path::new(PLACE)).difference(before).cloned().collect();
    if new.is_empty() {
        return true;
    }
    // A folder that is about to be mounted on, in a namespace of another restore, looks like one that was left: rmdir(2)
    // would pull it away. What was listed above was made by a CRIU that had begun by then; where none lives, all are left.
    if a_criu_lives() {
        return false;
    }
    let used = mount_tables();
    let mut all = true;
    for folder in new {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if used.iter().any(|table| table.contains(&name)) {
            all = false;
        } else {
            // Only an empty folder can be removed this way.
            let _ = fs::remove_dir(&folder);
        }
    }
    all
}

/// Waits for the end of a CRIU whose floe was killed. It finds that out when it next has something to say, takes what it
/// did back, and lets the container go: meanwhile the freezer is its, and says nothing of whether somebody paused the
/// container.
fn outlive(criu: i32) {
    let process = PathBuf::from(format!("/proc/{criu}"));
    let deadline = Instant::now() + PATIENCE;
    // Of a zombie nobody can tell what it was.
    while is_criu(&process) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends what a killed CRIU left of itself: processes that still are CRIU, in the group of one that is gone.
fn end_orphans(criu: i32) {
    if is_criu(Path::new(&format!("/proc/{criu}"))) {
        return;
    }
    for process in processes().filter(|process| is_criu(process)) {
        // The fields behind the name, which may hold anything (proc_pid_stat(5)): state, parent, group.
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let group = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(2)?.parse().ok());
        let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let (Some(pid), true) = (pid, group == Some(criu)) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn present(place: &Path) -> HashSet<PathBuf> {
    let entries =
        fs::read_dir(place).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    entries
        .into_iter()
        .filter(|entry| entry.file_name().to_str().is_some_and(ours))
        .map(|entry| entry.path())
        .collect()
}

/// The mount table of every process.
fn mount_tables() -> Vec<String> {
    processes().filter_map(|process| fs::read_to_string(process.join("mountinfo")).ok()).collect()
}

/// Whether somebody's CRIU works on this host, or a process that it restores has not become itself yet.
fn a_criu_lives() -> bool {
    processes().any(|process| is_criu(&process))
}

fn is_criu(process: &Path) -> bool {
    fs::read_link(process.join("exe")).is_ok_and(|program| {
        program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("criu"))
    })
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_taken_up_when_its_floe_and_the_child_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::begin(dir.path(), None).unwrap();
        let pen = watch.pen().unwrap();
        let path = watch.path.clone();
        // This process lives, and has the lock.
        assert!(abandoned(&path).is_none());
        (&pen).write_all(b"4711\n").unwrap();
        drop(watch);
        assert!(abandoned(&path).is_none(), "the child is on its way");
        drop(pen);
        let (note, _) = abandoned(&path).unwrap();
        assert_eq!((note.floe, note.criu), (std::process::id().cast_signed(), Some(4711)));
        assert_eq!(read("{\"flo").floe, 0);
    }

    #[test]
    fn only_what_is_new_and_unused_is_removed() {
        let old = tempfile::Builder::new().prefix(".criu.mntns.").tempdir_in(PLACE).unwrap();
        let before = present(Path::new(PLACE));
        let new = tempfile::Builder::new().prefix(".criu.mntns.").tempdir_in(PLACE).unwrap();
        assert!(!remove_new(&before, &|| true));
        assert!(new.path().exists());
        remove_new(&before, &|| false);
        assert!(old.path().exists());
        assert!(!new.path().exists());
    }
}
