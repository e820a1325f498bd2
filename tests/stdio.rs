//! Standard streams through a checkpoint: `/dev/null`, pipes, terminals, and files of the host, which may have changed
//! meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;
use support::leaks::Picture;
use support::program::Bundle;
use support::{Place, Said, said};

fn writer(place: &Place) -> Bundle {
    Bundle::of_program(&place.join("bundle"), "stdio-writer", &[])
}

/// Freezes a container into a file, and deletes it.
#[track_caller]
fn freeze(place: &Place, name: &str) -> PathBuf {
    let archive = place.join("writer.tar.zst");
    place.ok(["checkpoint", name, "--to", archive.to_str().unwrap()]);
    place.ok(["delete", name]);
    archive
}

/// Restores a container; its streams may be set.
#[track_caller]
fn restore(place: &Place, name: &str, archive: &Path, streams: impl FnOnce(&mut Command)) {
    let mut command = place.floe(["restore", name, "--detach", "--from", archive.to_str().unwrap()]);
    let log = place.join("restore.log");
    command.arg("--log").arg(&log);
    streams(&mut command);
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}: {}", fs::read_to_string(&log).unwrap_or_default());
}

#[test]
fn dev_null_stays_dev_null() {
    let place = Place::new("null");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name, again) = (writer(&place), place.name("first"), place.name("again"));
    place.start(&name, bundle.path());
    bundle.ready();
    assert_eq!(bundle.ask_ok("write 3"), "3");
    let streams = bundle.ask_ok("streams");
    assert_eq!(streams.lines().filter(|line| line.contains(" /dev/null ")).count(), 3, "{streams}");
    let archive = freeze(&place, &name);
    restore(&place, &again, &archive, |_| {});
    assert_eq!(bundle.ask_ok("streams"), streams);
    assert_eq!(bundle.ask_ok("write 2"), "5");
    assert_eq!(bundle.ask_ok("read"), "", "there is something on /dev/null");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

/// The test's ends of a container's pipes.
struct Pipes {
    input: std::io::PipeWriter,
    output: BufReader<std::io::PipeReader>,
    errors: BufReader<std::io::PipeReader>,
}

impl Pipes {
    /// Makes pipes, and gives a command its ends of them.
    fn attach(command: &mut Command) -> Self {
        let (stdin, input) = std::io::pipe().unwrap();
        let (output, stdout) = std::io::pipe().unwrap();
        let (errors, stderr) = std::io::pipe().unwrap();
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        Self { input, output: BufReader::new(output), errors: BufReader::new(errors) }
    }
}

/// Reads one line that the program wrote; a detached restore says something on its own output before.
#[track_caller]
fn program_line(pipe: &mut BufReader<std::io::PipeReader>) -> String {
    loop {
        if pipe.buffer().is_empty() {
            let mut ready = [PollFd::new(pipe.get_ref().as_fd(), PollFlags::POLLIN)];
            assert_eq!(
                poll(&mut ready, PollTimeout::from(10_000_u16)).unwrap(),
                1,
                "nothing comes through the pipe"
            );
        }
        let mut line = String::new();
        assert_ne!(pipe.read_line(&mut line).unwrap(), 0, "the pipe is closed");
        if line.starts_with("out ") || line.starts_with("err ") {
            return line.trim_end().to_owned();
        }
    }
}

#[test]
fn pipes_are_taken_over_by_new_ones() {
    let place = Place::new("pipes");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name, again) = (writer(&place), place.name("first"), place.name("again"));
    let mut pipes = None;
    place.start_with(&name, bundle.path(), |command| pipes = Some(Pipes::attach(command)));
    let mut pipes = pipes.unwrap();
    bundle.ready();
    bundle.ask_ok("write 2");
    assert_eq!([1, 2].map(|_| program_line(&mut pipes.output)), ["out 1", "out 2"]);
    assert_eq!([1, 2].map(|_| program_line(&mut pipes.errors)), ["err 1", "err 2"]);
    pipes.input.write_all(b"before\n").unwrap();
    assert_eq!(bundle.ask_ok("read"), "before");

    let archive = freeze(&place, &name);
    // The old pipes have lost their other ends.
    let mut rest = String::new();
    pipes.output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");

    let mut pipes = None;
    restore(&place, &again, &archive, |command| pipes = Some(Pipes::attach(command)));
    let mut pipes = pipes.unwrap();
    bundle.ask_ok("write 2");
    assert_eq!([1, 2].map(|_| program_line(&mut pipes.output)), ["out 3", "out 4"]);
    assert_eq!([1, 2].map(|_| program_line(&mut pipes.errors)), ["err 3", "err 4"]);
    pipes.input.write_all(b"after\n").unwrap();
    assert_eq!(bundle.ask_ok("read"), "after");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

/// Waits for the master of a terminal at a console socket.
fn master(listener: &UnixListener) -> File {
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut ready, PollTimeout::from(10_000_u16)).unwrap(),
        1,
        "nobody comes to the console socket"
    );
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, flags).unwrap();
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let [master] = <[OwnedFd; 1]>::try_from(descriptors).expect("one descriptor comes");
    master.into()
}

/// Reads from a terminal until a text has come.
#[track_caller]
fn read_until(terminal: &mut File, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        assert_eq!(
            poll(&mut ready, PollTimeout::from(10_000_u16)).unwrap(),
            1,
            "{text:?} does not come after {seen:?}"
        );
        let mut bytes = [0; 4096];
        let length = terminal.read(&mut bytes).unwrap();
        seen += &String::from_utf8_lossy(&bytes[..length]);
    }
    seen
}

#[test]
fn a_terminal_is_handed_over_again() {
    let place = Place::new("pty");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name, again) = (writer(&place), place.name("first"), place.name("again"));
    bundle.change(|config| config["process"]["terminal"] = json!(true));
    let socket = place.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let path = socket.to_str().unwrap();

    let bundle_path = bundle.path().to_str().unwrap();
    place.ok(["run", "--detach", "--bundle", bundle_path, "--console-socket", path, &name]);
    let mut terminal = master(&listener);
    bundle.ready();
    bundle.ask_ok("write 2");
    let seen = read_until(&mut terminal, "err 2");
    // A terminal turns ends of lines into what a terminal needs.
    assert!(seen.contains("out 1\r\n"), "{seen:?}");
    terminal.write_all(b"typed before\n").unwrap();
    assert_eq!(bundle.ask_ok("read"), "typed before");
    let terminals = targets(&bundle);
    assert!(terminals.iter().all(|target| target.starts_with("/dev/pts/")), "{terminals:?}");
    let archive = freeze(&place, &name);
    drop(terminal);

    let archive = archive.to_str().unwrap();
    place.ok(["restore", &again, "--detach", "--from", archive, "--console-socket", path]);
    let mut terminal = master(&listener);
    bundle.ask_ok("write 2");
    let seen = read_until(&mut terminal, "err 4");
    assert!(seen.contains("out 3\r\n"), "{seen:?}");
    assert!(!seen.contains("out 2"), "{seen:?}");
    terminal.write_all(b"typed after\n").unwrap();
    assert_eq!(bundle.ask_ok("read"), "typed after");
    assert_eq!(targets(&bundle), terminals);
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

/// What the container's streams are, as it sees them.
fn targets(bundle: &Bundle) -> Vec<String> {
    let streams = bundle.ask_ok("streams");
    streams.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
}

/// What happened to a file of the host between checkpoint and restore.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Same,
    Grown,
    Truncated,
    Rotated,
}

/// Opens a file as a shell's `>` or `>>` would.
fn open_log(path: &Path, append: bool) -> File {
    OpenOptions::new().create(true).append(append).write(true).truncate(false).open(path).unwrap()
}

/// Runs a container with stdout and stderr on one file each, does something to the files meanwhile, and returns what
/// the restore said. Three lines are written before, two after.
fn through_files(place: &Place, append: bool, fate: Fate) -> (String, [PathBuf; 2]) {
    let (bundle, name, again) = (writer(place), place.name("first"), place.name("again"));
    let logs = [place.join("out.log"), place.join("err.log")];
    let [stdout, stderr] = [0, 1].map(|number| open_log(&logs[number], append));
    place.start_with(&name, bundle.path(), |command| {
        command.stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    });
    bundle.ready();
    bundle.ask_ok("write 3");
    let archive = freeze(place, &name);
    for log in &logs {
        match fate {
            Fate::Same => {}
            Fate::Grown => open_log(log, true).write_all(b"grown\n").unwrap(),
            Fate::Truncated => File::options().write(true).open(log).unwrap().set_len(0).unwrap(),
            Fate::Rotated => {
                fs::rename(log, log.with_extension("1")).unwrap();
                // As long as the old one: only that it is another file tells them apart.
                fs::write(log, "new 1\nnew 2\nnew 3\n").unwrap();
            }
        }
    }
    let Said { code, stdout, stderr } =
        said(&mut place.floe(["restore", &again, "--detach", "--from", archive.to_str().unwrap()]));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_eq!(bundle.ask_ok("write 2"), "5");
    // Long enough for whatever else would come.
    std::thread::sleep(Duration::from_millis(50));
    place.ok(["delete", "--force", &again]);
    (stderr, logs)
}

/// What a file has to hold at the end.
fn expected(stream: &str, fate: Fate) -> String {
    let before = match fate {
        Fate::Same => format!("{stream} 1\n{stream} 2\n{stream} 3\n"),
        Fate::Grown => format!("{stream} 1\n{stream} 2\n{stream} 3\ngrown\n"),
        Fate::Truncated => String::new(),
        Fate::Rotated => "new 1\nnew 2\nnew 3\n".to_owned(),
    };
    format!("{before}{stream} 4\n{stream} 5\n")
}

fn files_of_the_host(append: bool, fate: Fate) {
    let place = Place::new("files");
    let before = Picture::without_criu(&place, &[]);
    let (warnings, logs) = through_files(&place, append, fate);
    for (log, stream) in logs.iter().zip(["out", "err"]) {
        let content = fs::read_to_string(log).unwrap();
        assert_eq!(content, expected(stream, fate), "{}, append {append}, {fate:?}", log.display());
        if let Fate::Rotated = fate {
            let old = fs::read_to_string(log.with_extension("1")).unwrap();
            assert_eq!(
                old,
                expected(stream, Fate::Same)
                    .lines()
                    .take(3)
                    .map(|line| format!("{line}\n"))
                    .collect::<String>()
            );
        }
        // Who wrote at an offset of its own is told that it is no longer the right one.
        let told = warnings.contains(log.to_str().unwrap());
        assert_eq!(told, !append && !matches!(fate, Fate::Same), "append {append}, {fate:?}: {warnings:?}");
    }
    before.assert_unchanged();
}

#[test]
fn a_file_written_at_an_offset_goes_on_there() {
    files_of_the_host(false, Fate::Same);
}

#[test]
fn a_file_written_at_an_offset_and_grown_goes_on_at_its_end() {
    files_of_the_host(false, Fate::Grown);
}

#[test]
fn a_file_written_at_an_offset_and_truncated_goes_on_at_its_end() {
    files_of_the_host(false, Fate::Truncated);
}

#[test]
fn a_file_written_at_an_offset_and_rotated_goes_on_in_the_new_one() {
    files_of_the_host(false, Fate::Rotated);
}

#[test]
fn a_file_appended_to_goes_on_at_its_end_whatever_happened() {
    for fate in [Fate::Same, Fate::Grown, Fate::Truncated, Fate::Rotated] {
        files_of_the_host(true, fate);
    }
}

/// What flags a file was opened with is no obstacle, and neither is that it lost its name.
#[test]
fn a_file_that_was_deleted_already_is_replaced_by_an_empty_one() {
    let place = Place::new("deleted");
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name, again) = (writer(&place), place.name("first"), place.name("again"));
    let paths = [place.join("gone.log"), place.join("kept.log")];
    let no_follow = |path: &Path| {
        let flags = nix::libc::O_NOFOLLOW;
        OpenOptions::new().create(true).write(true).truncate(true).custom_flags(flags).open(path).unwrap()
    };
    let [stdout, stderr] = [no_follow(&paths[0]), no_follow(&paths[1])];
    place.start_with(&name, bundle.path(), |command| {
        command.stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    });
    bundle.ready();
    bundle.ask_ok("write 2");
    fs::remove_file(&paths[0]).unwrap();
    let archive = freeze(&place, &name);
    restore(&place, &again, &archive, |command| {
        command.stdout(Stdio::null());
    });
    let log = fs::read_to_string(place.join("restore.log")).unwrap();
    assert!(log.contains("deleted file"), "{log}");
    assert_eq!(bundle.ask_ok("write 2"), "4");
    place.ok(["delete", "--force", &again]);
    assert!(!paths[0].exists());
    assert_eq!(fs::read_to_string(&paths[1]).unwrap(), "err 1\nerr 2\nerr 3\nerr 4\n");
    before.assert_unchanged();
}

#[test]
fn one_file_for_both_streams_keeps_one_offset() {
    let place = Place::new("shared");
    let (bundle, name, again) = (writer(&place), place.name("first"), place.name("again"));
    let log = place.join("both.log");
    // As `>both.log 2>&1` in a shell: one description, under two numbers.
    let stdout = open_log(&log, false);
    let stderr = stdout.try_clone().unwrap();
    place.start_with(&name, bundle.path(), |command| {
        command.stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    });
    bundle.ready();
    bundle.ask_ok("write 2");
    let archive = freeze(&place, &name);
    place.ok(["restore", &again, "--detach", "--from", archive.to_str().unwrap()]);
    bundle.ask_ok("write 2");
    place.ok(["delete", "--force", &again]);
    let lines: String = (1..=4).map(|line| format!("out {line}\nerr {line}\n")).collect();
    assert_eq!(fs::read_to_string(&log).unwrap(), lines);
}
