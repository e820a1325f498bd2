//! What is damaged, unknown, taken or missing is refused in clear words, with the exit code that scripts rely on, and
//! nothing is started.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::damage::{Anatomy, Damage};
use support::leaks::Picture;
use support::program::{self, Bundle};
use support::{Place, Said, said};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const IMPOSSIBLE: i32 = 3;
const DAMAGED: i32 = 4;

/// A bundle that keeps a few MiB, and an archive of a container of it, which is gone again.
fn snapshot(place: &Place) -> (Bundle, PathBuf) {
    let bundle = running(place, "original");
    let (name, archive) = (place.name("original"), place.join("good.tar.zst"));
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
    place.ok(["delete", &name]);
    (bundle, archive)
}

/// A container that runs.
fn running(place: &Place, name: &str) -> Bundle {
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "3"]);
    place.start(&place.name(name), bundle.path());
    bundle.ready();
    bundle
}

/// Demands an exit code, and one line that names something and says what to do.
#[track_caller]
fn assert_refused(said: &Said, code: i32, names: &[&str]) {
    assert_eq!(said.code, Some(code), "{said:?}");
    let mut lines = said.stderr.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with("floe: "), "not one line of floe's: {said:?}");
    for name in names {
        assert!(first.contains(name), "{name:?} is not named in {first:?}");
    }
    // Below the line there may be evidence, but no second message.
    assert!(lines.all(|line| line.starts_with("  ")), "more than one line: {said:?}");
    assert!(!said.stderr.contains("panicked"), "{said:?}");
}

/// A place in an archive, as messages give it.
fn says_where(text: &str) -> bool {
    ["at byte", "frame", "member", "table", "seal", "manifest", "index", "head", "end"]
        .iter()
        .any(|word| text.contains(word))
}

#[test]
fn an_archive_cut_anywhere_is_damaged() {
    let place = Place::new("cut");
    let (_bundle, archive) = snapshot(&place);
    let anatomy = Anatomy::of(&archive);
    assert!(anatomy.frames.len() > 20, "only {} frames", anatomy.frames.len());
    let before = Picture::without_criu(&place, &[]);
    for (number, damage) in anatomy.cuts().iter().enumerate() {
        let path = anatomy.write(damage, place.join("cut.tar.zst"));
        let verified = place.run(["verify", path.to_str().unwrap()]);
        assert_refused(&verified, DAMAGED, &["cut.tar.zst"]);
        assert!(says_where(&verified.stderr) || matches!(damage, Damage::Cut(0)), "{damage:?}: {verified:?}");
        // A restore reads by another way; a sample of all cuts is enough of it, and every late one.
        if number % 16 == 0 || number + 8 > anatomy.cuts().len() {
            assert_restore_refused(&place, &path, &format!("{damage:?}"));
        }
    }
    before.assert_unchanged();
}

#[test]
fn a_flipped_bit_in_any_part_is_damage() {
    let place = Place::new("flip");
    let (_bundle, archive) = snapshot(&place);
    let anatomy = Anatomy::of(&archive);
    let before = Picture::without_criu(&place, &[]);
    for (part, damage) in anatomy.flips() {
        let path = anatomy.write(&damage, place.join("flipped.tar.zst"));
        let text = path.to_str().unwrap();
        for words in [vec!["verify", text], vec!["check", "--from", text]] {
            let said = place.run(&words);
            assert_refused(&said, DAMAGED, &["flipped.tar.zst"]);
            assert!(says_where(&said.stderr), "{part}, {words:?}: {said:?}");
        }
        let as_json = place.run(["verify", text, "--format", "json"]);
        let value: serde_json::Value = serde_json::from_str(&as_json.stdout).expect("an error as JSON");
        assert_eq!(value["error"]["code"], DAMAGED, "{part}: {value}");
        assert_restore_refused(&place, &path, part);
    }
    // And the good one is good.
    place.ok(["verify", archive.to_str().unwrap()]);
    before.assert_unchanged();
}

/// A restore of a damaged archive says so, and starts nothing.
#[track_caller]
fn assert_restore_refused(place: &Place, path: &Path, what: &str) {
    let name = place.name("never");
    let said = place.run(["restore", &name, "--detach", "--from", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(DAMAGED), "{what}: {said:?}");
    assert_eq!(place.state(&name), None, "{what}: a container is left");
    let listed = place.ok(["list", "--quiet"]);
    assert!(!listed.contains(&name), "{what}: {listed}");
}

/// Every bit of the small parts, and a bit of every frame: nothing is believed.
#[test]
fn no_bit_of_the_end_is_believed() {
    let place = Place::new("bits");
    let (_bundle, archive) = snapshot(&place);
    let anatomy = Anatomy::of(&archive);
    let last = 9;
    let ends = (anatomy.length() - last..anatomy.length()).chain(anatomy.between.clone()).map(Damage::Flip);
    let frames = anatomy.frames.iter().map(|frame| Damage::Flip(frame.packed.end - 1));
    for damage in ends.chain(frames) {
        let path = anatomy.write(&damage, place.join("bit.tar.zst"));
        let said = place.run(["verify", path.to_str().unwrap()]);
        assert_eq!(said.code, Some(DAMAGED), "{damage:?}: {said:?}");
        assert!(says_where(&said.stderr), "{damage:?}: {said:?}");
    }
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let place = Place::new("other");
    let other = place.join("other.tar.zst");
    for content in [b"".as_slice(), b"hello", &[0; 100_000]] {
        fs::write(&other, content).unwrap();
        assert_refused(&place.run(["verify", other.to_str().unwrap()]), DAMAGED, &["other.tar.zst"]);
        assert_restore_refused(&place, &other, "no archive");
    }
    // What ordinary tools make, is a good archive and none of ours.
    let plain = place.join("plain.tar.zst");
    support::tool(Command::new("tar").args(["--zstd", "-cf"]).arg(&plain).arg("/etc/hostname"));
    assert_refused(&place.run(["verify", plain.to_str().unwrap()]), DAMAGED, &["plain.tar.zst"]);
}

#[test]
fn unknown_and_taken_names_are_told() {
    let place = Place::new("names");
    let bundle = running(&place, "taken");
    let (taken, unknown) = (place.name("taken"), place.name("unknown"));
    let archive = place.join("a.tar.zst");
    let archive = archive.to_str().unwrap();
    let before = Picture::without_criu(&place, &[]);

    assert_refused(&place.run(["checkpoint", &unknown, "--to", archive]), FAILED, &[&unknown, "; "]);
    assert_refused(&place.run(["check", &unknown]), FAILED, &[&unknown, "; "]);
    assert!(!Path::new(archive).exists(), "an archive of nothing");
    assert_refused(&place.run(["restore", &unknown, "--from", archive]), FAILED, &["a.tar.zst"]);
    assert_refused(&place.run(["verify", archive]), FAILED, &["a.tar.zst"]);

    place.ok(["checkpoint", &taken, "--to", archive, "--leave-running"]);
    let again = place.run(["restore", &taken, "--detach", "--from", archive]);
    assert_refused(&again, FAILED, &[&taken, "; "]);
    // The one that has the name was not touched.
    assert_eq!(place.state(&taken).unwrap()["status"], "running");
    bundle.ask_ok("");
    for name in ["", ".", "..", "a/b", "a b", "ä"] {
        let said = place.run(["restore", "--detach", "--from", archive, "--", name]);
        assert!(matches!(said.code, Some(FAILED | USAGE)), "{name:?}: {said:?}");
    }
    fs::remove_file(archive).unwrap();
    before.assert_unchanged();
    place.ok(["delete", "--force", &taken]);
}

#[test]
fn an_archive_is_not_written_over_without_being_whole() {
    let place = Place::new("target");
    let _bundle = running(&place, "one");
    let name = place.name("one");
    let nowhere = place.join("missing/folder/a.tar.zst");
    let said = place.run(["checkpoint", &name, "--to", nowhere.to_str().unwrap()]);
    assert_refused(&said, said.code.unwrap(), &["missing/folder"]);
    assert_eq!(place.state(&name).unwrap()["status"], "running");
    let folder = place.join("folder");
    fs::create_dir(&folder).unwrap();
    let said = place.run(["checkpoint", &name, "--to", folder.to_str().unwrap()]);
    assert_refused(&said, said.code.unwrap(), &["folder"]);
    assert_eq!(place.state(&name).unwrap()["status"], "running");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    place.ok(["delete", "--force", &name]);
}

#[test]
fn without_root_one_line_says_so() {
    let place = Place::new("user");
    let (_bundle, archive) = snapshot(&place);
    // A copy that anybody can run, and an archive that anybody can read.
    let floe = place.join("floe");
    support::copy_program(Path::new(env!("CARGO_BIN_EXE_floe")), &floe);
    for path in [place.path(), &floe, &archive] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
        command.arg(&floe).arg("--root").arg(place.join("theirs")).args(words);
        said(&mut command)
    };
    let archive = archive.to_str().unwrap();
    // First a state folder that it may not even make, then one of its own.
    let refused = nobody(&["restore", "mine", "--from", archive]);
    assert_refused(&refused, FAILED, &["theirs", "as root"]);
    let theirs = place.join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).unwrap();
    assert_refused(&nobody(&["restore", "mine", "--from", archive]), IMPOSSIBLE, &["needs root"]);
    assert_eq!(nobody(&["list", "--quiet"]).stdout, "", "something is left");
    // Whoever may read a snapshot may look at it.
    let verified = nobody(&["verify", archive]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let frozen = nobody(&["checkpoint", "mine", "--to", "/dev/null"]);
    assert!(matches!(frozen.code, Some(FAILED | IMPOSSIBLE)), "{frozen:?}");
}

#[test]
fn without_criu_one_line_says_where_it_was_looked_for() {
    let place = Place::new("no-criu");
    let bundle = running(&place, "one");
    let (name, archive) = (place.name("one"), place.join("a.tar.zst"));
    let words = ["checkpoint", &name, "--to", archive.to_str().unwrap()];
    let nowhere = "/nonexistent/criu";
    let named = said(place.floe(["--criu", nowhere]).args(words));
    assert_refused(&named, IMPOSSIBLE, &["criu", nowhere, "scripts/setup"]);
    let by_environment = said(place.floe(words).env("FLOE_CRIU", nowhere));
    assert_refused(&by_environment, IMPOSSIBLE, &[nowhere]);
    let something_else = said(place.floe(["--criu", "/bin/true"]).args(words));
    assert_refused(&something_else, IMPOSSIBLE, &["/bin/true"]);
    let checked = said(place.floe(["--criu", nowhere, "check"]).env("PATH", "/nonexistent"));
    assert_refused(&checked, IMPOSSIBLE, &[nowhere]);
    assert!(!archive.exists());
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

/// A CRIU that only says how old it is, over the socket that `criu swrk` answers on.
const OLD: &str = "#!/usr/bin/env python3
import socket, sys
peer = socket.socket(fileno=int(sys.argv[sys.argv.index('swrk') + 1]))
peer.recv(65536)
# criu_resp: type VERSION, success, version {major 2, minor 12}
peer.send(bytes([0x08, 9, 0x10, 1, 0x52, 4, 0x08, 2, 0x10, 12]))
";

#[test]
fn too_old_a_criu_is_refused_by_its_version() {
    let place = Place::new("old-criu");
    let bundle = running(&place, "one");
    let (name, archive) = (place.name("one"), place.join("a.tar.zst"));
    let words = ["checkpoint", &name, "--to", archive.to_str().unwrap()];
    // Debian 12's, as scripts/setup has unpacked it.
    let old = support::prefix().join("cache/criu-old/usr/sbin/criu");
    assert!(old.exists(), "{} is missing: run scripts/setup", old.display());
    let libraries = support::prefix()
        .join("cache/criu-old/usr/lib")
        .join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let beside =
        support::prefix().join("cache/criu-old/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let mut command = place.floe(["--criu", old.to_str().unwrap()]);
    command.env("LD_LIBRARY_PATH", std::env::join_paths([libraries, beside]).unwrap()).args(words);
    assert_refused(&said(&mut command), IMPOSSIBLE, &["3.17.1", "too old", "needs"]);
    // One from another age, whose answer is all that is asked of it.
    let older = place.join("criu");
    fs::write(&older, OLD).unwrap();
    fs::set_permissions(&older, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = said(place.floe(["--criu", older.to_str().unwrap()]).args(words));
    assert_refused(&refused, IMPOSSIBLE, &["2.12", "too old", older.to_str().unwrap()]);
    assert!(!archive.exists());
    assert_eq!(place.state(&name).unwrap()["status"], "running");
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

/// System calls that floe needs, with the number that they have on every architecture (they are young enough for
/// that), and the first Linux that has them.
const NEEDED: &[(&str, u32, &str)] = &[("fsopen", 430, "5.2")];

#[test]
fn a_kernel_without_a_needed_call_is_named() {
    let place = Place::new("old-kernel");
    let bundle = running(&place, "one");
    let (name, archive) = (place.name("one"), place.join("a.tar.zst"));
    for (call, number, linux) in NEEDED {
        let mut command = Command::new(program::binary("old-kernel"));
        command.arg(number.to_string()).arg(env!("CARGO_BIN_EXE_floe")).arg("--root").arg(place.root());
        command.args(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
        let refused = said(&mut command);
        assert_refused(&refused, IMPOSSIBLE, &[call, linux]);
        assert!(!archive.exists());
        assert_eq!(place.state(&name).unwrap()["status"], "running");
        bundle.ask_ok("");
    }
    place.ok(["delete", "--force", &name]);
}

#[test]
fn a_flag_without_its_value_is_told_in_the_words_that_engines_look_for() {
    let place = Place::new("flags");
    for words in [["checkpoint", "name", "--to"], ["restore", "name", "--from"]] {
        let said = place.run(words);
        assert_eq!(said.code, Some(USAGE), "{said:?}");
        assert!(said.stderr.contains(&format!("flag needs an argument: {}", words[2])), "{said:?}");
    }
}
