//! What happens when something goes wrong in the middle: a full disk, an interrupt, a killed floe, a killed criu, at
//! each phase. The container runs on as it was, and can be checkpointed again; a restore leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Place;
use support::leaks::Picture;
use support::program::Bundle;

/// Enough memory that each phase lasts a while, and none too long.
const MEMORY: [&str; 4] = ["--mib", "96", "--random", "50"];

const CHECKPOINT: [&str; 4] = ["collect", "freeze", "dump pages", "seal"];
const RESTORE: [&str; 5] = ["unpack", "fork tree", "files and namespaces", "memory and threads", "resume"];

/// One at a time: each looks at what is left on the whole host, and another's criu would be in the picture.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who is hit, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Floe(Signal),
    Criu,
}

const FAULTS: [Fault; 4] =
    [Fault::Floe(Signal::SIGINT), Fault::Floe(Signal::SIGTERM), Fault::Floe(Signal::SIGKILL), Fault::Criu];

/// How a floe that was hit ended.
struct Ended {
    code: Option<i32>,
    reached: bool,
    said: String,
}

/// Runs floe and strikes as soon as it says that `phase` begins.
fn strike(place: &Place, arguments: &[&str], phase: &str, fault: Fault) -> Ended {
    let mut command = place.floe(arguments);
    let mut child = command.args(["--progress", "json"]).stderr(Stdio::piped()).spawn().unwrap();
    let marker = format!("\"phase\":\"{phase}\"");
    let mut said = String::new();
    let mut reached = false;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains(&marker) && !reached {
            reached = true;
            hit(&child, fault);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Ended { code: child.wait().unwrap().code(), reached, said }
}

fn hit(floe: &Child, fault: Fault) {
    let pid = Pid::from_raw(floe.id() as i32);
    match fault {
        Fault::Floe(signal) => kill(pid, signal).unwrap(),
        Fault::Criu => {
            // It may not be there yet, or not any more.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(200) {
                if let Some(criu) = criu_of(pid) {
                    let _ = kill(criu, Signal::SIGKILL);
                    return;
                }
            }
        }
    }
}

fn criu_of(floe: Pid) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{floe}/task/{floe}/children")).ok()?;
    let is_criu =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "criu");
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_criu).map(Pid::from_raw)
}

/// A floe that is killed leaves criu to clean up by itself; the next command may come before it is done.
fn wait_for_criu_to_end(place: &Place) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        let mut any = false;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let marked = fs::read(entry.path().join("environ")).is_ok_and(|environ| {
                String::from_utf8_lossy(&environ).contains(&format!("{}={}", support::MARK, place.mark()))
            });
            any |= comm.trim() == "criu" && marked;
        }
        if !any {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("criu is still there 20 s after floe was killed");
}

/// Folders that criu left in `/tmp` go with a floe command that comes when no criu lives on this host, be it another
/// test's.
fn wait_for_criu_folders_to_go(place: &Place) {
    let begun = Instant::now();
    let any = || files(Path::new("/tmp")).iter().any(|path| path.to_string_lossy().contains("/.criu.mntns."));
    while any() && begun.elapsed() < Duration::from_secs(20) {
        place.ok(["list", "--quiet"]);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn beat(bundle: &Bundle) -> Vec<u8> {
    fs::read(bundle.door("beat")).unwrap()
}

#[track_caller]
fn assert_alive(bundle: &Bundle, what: &str) {
    let before = beat(bundle);
    let begun = Instant::now();
    while beat(bundle) == before {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: the container stands still");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A container that holds memory and can be asked whether it still does.
fn holding_memory(place: &Place) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &MEMORY);
    let name = place.name("c");
    place.start(&name, bundle.path());
    bundle.ready();
    (bundle, name)
}

#[test]
fn a_struck_checkpoint_leaves_the_container_running() {
    let _alone = alone();
    let place = Place::new("fault");
    let before = Picture::take(&place, &[]);
    let (bundle, name) = holding_memory(&place);
    let snapshots = place.join("snapshots");
    fs::create_dir(&snapshots).unwrap();
    let archive = snapshots.join("struck.tar.zst");
    let mut reached = 0;
    for phase in CHECKPOINT {
        for fault in FAULTS {
            let what = format!("{fault:?} at {phase}");
            let arguments = ["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running"];
            let ended = strike(&place, &arguments, phase, fault);
            reached += u32::from(ended.reached);
            wait_for_criu_to_end(&place);
            assert_eq!(place.state(&name).unwrap()["status"], "running", "{what}: {}", ended.said);
            assert_alive(&bundle, &what);
            match ended.code {
                // It was done before it was hit.
                Some(0) => drop(place.ok(["verify", archive.to_str().unwrap()])),
                // Killed between the name and its own end.
                None if archive.exists() => {
                    assert_eq!(phase, "seal", "{what}");
                    place.ok(["verify", archive.to_str().unwrap()]);
                }
                code => {
                    assert!(
                        !archive.exists(),
                        "{what}: a file although it ended with {code:?}: {}",
                        ended.said
                    );
                    assert!(matches!(code, None | Some(1 | 5)), "{what}: {code:?} {}", ended.said);
                }
            }
            let _ = fs::remove_file(&archive);
            assert_eq!(files(&snapshots), Vec::<PathBuf>::new(), "{what}");
            // It can be checkpointed again, and that also takes out what a killed criu left in its memory.
            place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running"]);
            fs::remove_file(&archive).unwrap();
            bundle.ask_ok("");
        }
    }
    assert!(reached >= 14, "only {reached} of 16 phases were reached");
    // And it can still be restored.
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
    place.ok(["delete", &name]);
    place.ok(["restore", &name, "--from", archive.to_str().unwrap(), "--detach"]);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

#[test]
fn a_struck_checkpoint_that_was_to_end_the_container_does_not() {
    let _alone = alone();
    let place = Place::new("fault-end");
    let (bundle, name) = holding_memory(&place);
    let archive = place.join("struck.tar.zst");
    for fault in FAULTS {
        for phase in ["dump pages", "seal"] {
            let what = format!("{fault:?} at {phase}");
            let ended =
                strike(&place, &["checkpoint", &name, "--to", archive.to_str().unwrap()], phase, fault);
            wait_for_criu_to_end(&place);
            if place.state(&name).unwrap()["status"] == "stopped" {
                // It was past the last moment: then the file is there and whole, and nothing is lost.
                place.ok(["verify", archive.to_str().unwrap()]);
                place.ok(["restore", &name, "--from", archive.to_str().unwrap(), "--detach"]);
                fs::remove_file(&archive).unwrap();
            } else if archive.exists() {
                assert_eq!(
                    (ended.code, phase),
                    (None, "seal"),
                    "{what}: a file although the container runs: {}",
                    ended.said
                );
                place.ok(["verify", archive.to_str().unwrap()]);
                fs::remove_file(&archive).unwrap();
            }
            assert_alive(&bundle, &what);
        }
    }
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running"]);
    bundle.ask_ok("");
}

#[test]
fn a_paused_container_stays_paused() {
    let _alone = alone();
    let place = Place::new("fault-paused");
    let (bundle, name) = holding_memory(&place);
    let archive = place.join("struck.tar.zst");
    for fault in FAULTS {
        place.ok(["pause", &name]);
        let arguments = ["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running"];
        let ended = strike(&place, &arguments, "dump pages", fault);
        wait_for_criu_to_end(&place);
        assert_eq!(place.state(&name).unwrap()["status"], "paused", "{fault:?}: {}", ended.said);
        // A killed criu lets the tasks go; they may run until floe freezes them again, and not after that.
        let still = beat(&bundle);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(beat(&bundle), still, "{fault:?}: it is said to be paused, and runs");
        let _ = fs::remove_file(&archive);
        place.ok(["resume", &name]);
        assert_alive(&bundle, &format!("{fault:?}"));
    }
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running"]);
    bundle.ask_ok("");
}

#[test]
fn a_struck_restore_leaves_nothing() {
    let _alone = alone();
    let place = Place::new("fault-restore");
    let before = Picture::take(&place, &[]);
    let (bundle, name) = holding_memory(&place);
    let archive = place.join("c.tar.zst");
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
    place.ok(["delete", &name]);
    before.assert_unchanged();
    let content = fs::read(&archive).unwrap();
    for phase in RESTORE {
        for fault in FAULTS {
            let what = format!("{fault:?} at {phase}");
            let arguments = ["restore", &name, "--from", archive.to_str().unwrap(), "--detach"];
            let ended = strike(&place, &arguments, phase, fault);
            assert!(ended.reached, "{what}: it did not come that far: {}", ended.said);
            wait_for_criu_to_end(&place);
            wait_for_criu_folders_to_go(&place);
            // Any command repairs what a killed floe left.
            let list = place.ok(["list", "--quiet"]);
            if ended.code == Some(0) || list.contains(&name) {
                // It was done before it was hit, or nearly: then it is a container like any other.
                assert!(
                    matches!(phase, "memory and threads" | "resume") || ended.code == Some(0),
                    "{what}: {}",
                    ended.said
                );
                place.ok(["delete", "--force", &name]);
            }
            eprintln!("{what}: {:?}", ended.code);
            before.assert_unchanged();
            assert!(fs::read(&archive).unwrap() == content, "{what}: the archive was changed");
        }
    }
    place.ok(["restore", &name, "--from", archive.to_str().unwrap(), "--detach"]);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

/// Numbers that look random; the seed is printed, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("FLOE_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = seed.unwrap_or(now.subsec_nanos() as u64 | 1);
        eprintln!("FLOE_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn fault(&mut self) -> Fault {
        FAULTS[self.below(FAULTS.len() as u64) as usize]
    }
}

/// Runs floe and strikes after a while, wherever it is then.
fn strike_after(place: &Place, arguments: &[&str], delay: Duration, fault: Fault) -> Ended {
    let mut child = place.floe(arguments).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(delay);
    let reached = child.try_wait().unwrap().is_none();
    if reached {
        hit(&child, fault);
    }
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        said.push('\n');
    }
    Ended { code: child.wait().unwrap().code(), reached, said }
}

#[test]
#[ignore = "long: some minutes"]
fn long_a_checkpoint_is_struck_at_any_moment() {
    let _alone = alone();
    let place = Place::new("any");
    let before = Picture::take(&place, &[]);
    let (bundle, name) = holding_memory(&place);
    let archive = place.join("struck.tar.zst");
    let path = archive.to_str().unwrap();
    let mut dice = Dice::new();
    let (mut struck, mut paused) = (0, false);
    for round in 0..200 {
        let (fault, delay) = (dice.fault(), Duration::from_micros(dice.below(250_000)));
        let leave = dice.below(3) > 0;
        if dice.below(8) == 0 {
            place.ok([if paused { "resume" } else { "pause" }, &name]);
            paused = !paused;
        }
        let what = format!("round {round}: {fault:?} after {delay:?}, leave {leave}, paused {paused}");
        let mut arguments = vec!["checkpoint", &name, "--to", path];
        arguments.extend(leave.then_some("--leave-running"));
        let ended = strike_after(&place, &arguments, delay, fault);
        struck += u32::from(ended.reached);
        wait_for_criu_to_end(&place);
        let status = place.state(&name).unwrap()["status"].as_str().unwrap().to_owned();
        if status == "stopped" {
            assert!(!leave && archive.exists(), "{what}: it is gone: {:?} {}", ended.code, ended.said);
            // Then its archive is whole.
            place.ok(["verify", path]);
            place.ok(["restore", &name, "--from", path, "--detach"]);
            assert_eq!(
                place.state(&name).unwrap()["status"],
                if paused { "paused" } else { "running" },
                "{what}"
            );
        } else {
            assert_eq!(status, if paused { "paused" } else { "running" }, "{what}: {}", ended.said);
            if archive.exists() {
                // Whole, or none.
                place.ok(["verify", path]);
            }
        }
        let _ = fs::remove_file(&archive);
        if !paused {
            assert_alive(&bundle, &what);
        }
    }
    assert!(struck > 80, "only {struck} of 200 were struck");
    if paused {
        place.ok(["resume", &name]);
    }
    // This takes out what killed criu left in its memory, and then its map is what it was.
    place.ok(["checkpoint", &name, "--to", path, "--leave-running"]);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
    wait_for_criu_folders_to_go(&place);
    before.assert_unchanged();
}

#[test]
#[ignore = "long: some minutes"]
fn long_a_restore_is_struck_at_any_moment() {
    let _alone = alone();
    let place = Place::new("any-restore");
    let before = Picture::take(&place, &[]);
    let (bundle, name) = holding_memory(&place);
    let archive = place.join("c.tar.zst");
    let path = archive.to_str().unwrap();
    place.ok(["checkpoint", &name, "--to", path]);
    place.ok(["delete", &name]);
    let content = fs::read(&archive).unwrap();
    let mut dice = Dice::new();
    let mut struck = 0;
    for round in 0..200 {
        let (fault, delay) = (dice.fault(), Duration::from_micros(dice.below(250_000)));
        let what = format!("round {round}: {fault:?} after {delay:?}");
        let ended = strike_after(&place, &["restore", &name, "--from", path, "--detach"], delay, fault);
        struck += u32::from(ended.reached);
        wait_for_criu_to_end(&place);
        let list = place.ok(["list", "--quiet"]);
        if list.contains(&name) {
            assert_alive(&bundle, &what);
            bundle.ask_ok("");
            place.ok(["delete", "--force", &name]);
        } else {
            assert_ne!(ended.code, Some(0), "{what}: it is gone: {}", ended.said);
        }
        wait_for_criu_folders_to_go(&place);
        before.assert_unchanged();
    }
    assert!(struck > 80, "only {struck} of 200 were struck");
    assert!(fs::read(&archive).unwrap() == content, "the archive was changed");
    place.ok(["restore", &name, "--from", path, "--detach"]);
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

/// A file system of 8 MiB, mounted for the time of a test.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        support::tool(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "floe-test"]).arg(&path));
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_the_container_running_and_no_file() {
    let _alone = alone();
    let place = Place::new("fault-full");
    let (bundle, name) = holding_memory(&place);
    let disk = Small::mount(place.join("disk"));
    let archive = disk.0.join("c.tar.zst");
    for leave in [&["--leave-running"][..], &[]] {
        let mut arguments = vec!["checkpoint", &name, "--to", archive.to_str().unwrap()];
        arguments.extend(leave);
        let said = place.run(&arguments);
        assert_eq!(said.code, Some(5), "{}", said.stderr);
        assert!(
            said.stderr.contains("No space left on device") && said.stderr.contains("c.tar.zst"),
            "{}",
            said.stderr
        );
        assert_eq!(files(&disk.0), Vec::<PathBuf>::new());
        assert_eq!(place.state(&name).unwrap()["status"], "running");
        assert_alive(&bundle, "after a full disk");
        bundle.ask_ok("");
    }
}
