//! Terminals: relayed in the foreground, handed over a socket otherwise.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use rustix::termios::{Winsize as RustixSize, tcsetwinsize};
use serde_json::json;

use crate::bundle;
use crate::stage::{Stage, eventually, wait};

fn terminal_bundle(stage: &Stage, script: &str) -> std::path::PathBuf {
    bundle::with(stage, |config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "height": 33, "width": 101 });
        config["process"]["args"] = json!(["sh", "-c", script]);
    })
}

/// Everything that comes out of a terminal until its last user has gone (`EIO`).
fn drain(mut terminal: File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count) = terminal.read(&mut chunk) {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

fn accept(listener: &UnixListener) -> File {
    let (socket, _) = listener.accept().unwrap();
    File::from(floe_runtime::console::receive(socket.as_fd()).unwrap())
}

#[test]
fn the_console_socket_gets_the_terminal() {
    let stage = Stage::new();
    let bundle = terminal_bundle(&stage, "tty; stty size; read line; echo got $line");
    let path = stage.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let name = stage.name();
    stage.ok(&["create", "-b", bundle.to_str().unwrap(), "--console-socket", path.to_str().unwrap(), &name]);
    let mut master = accept(&listener);
    stage.ok(&["start", &name]);
    master.write_all(b"word\n").unwrap();
    let text = drain(master);
    assert!(
        text.contains("/dev/pts/0\n") && text.contains("33 101\n") && text.contains("got word\n"),
        "{text:?}"
    );
    stage.wait_for_status(&name, "stopped");
    stage.ok(&["delete", &name]);
}

#[test]
fn the_foreground_relays_it_in_both_directions() {
    let stage = Stage::new();
    let bundle = terminal_bundle(&stage, "tty; read line; echo got $line; sleep 1000 & exit 6");
    let mut command = stage.floe(&["run", "-b", bundle.to_str().unwrap(), &stage.name()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"typed\n").unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(wait(&mut child).code(), Some(6), "the one that keeps the terminal open is not waited for");
    let text = text.replace("\r\n", "\n");
    assert!(text.contains("/dev/pts/0\n") && text.contains("got typed\n"), "{text:?}");
}

#[test]
fn much_output_arrives_whole() {
    let stage = Stage::new();
    let bundle = terminal_bundle(&stage, "seq 1 20000");
    let text = stage.ok(&["run", "-b", bundle.to_str().unwrap(), &stage.name()]).replace("\r\n", "\n");
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(text.len(), expected.len());
    assert!(text == expected);
}

#[test]
fn exec_gets_a_terminal_of_its_own() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::shell(&stage, "exec sleep 1000"));
    assert_eq!(stage.ok(&["exec", &name, "sh", "-c", "test -t 1 && echo yes || echo no"]), "no\n");
    assert_eq!(stage.ok(&["exec", "-t", &name, "sh", "-c", "test -t 1 && tty"]), "/dev/pts/0\r\n");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn the_callers_terminal_gives_its_size_and_is_set_back() {
    let stage = Stage::new();
    let name = stage.run_detached(&bundle::shell(&stage, "exec sleep 1000"));
    let size = |rows, columns| Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size(40, 120), None).unwrap();
    let before = tcgetattr(&pty.slave).unwrap();
    assert!(before.local_flags.contains(LocalFlags::ICANON));

    let script = "stty size; while [ \"$(stty size)\" = '40 120' ]; do sleep 0.02; done; stty size; exit 5";
    let mut command = stage.floe(&["exec", "-t", &name, "sh", "-c", script]);
    command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    eventually("the terminal is raw", || {
        !tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ICANON)
    });
    let mut screen = File::from(pty.master.try_clone().unwrap());
    let mut first = [0; "40 120\r\n".len()];
    screen.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"40 120\r\n");
    tcsetwinsize(&pty.master, RustixSize { ws_row: 50, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    // The kernel would send it to the terminal's foreground, which a test's child isn't.
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGWINCH).unwrap();
    assert_eq!(wait(&mut child).code(), Some(5));
    let after = tcgetattr(&pty.slave).unwrap();
    assert_eq!(
        (after.local_flags, after.input_flags, after.output_flags),
        (before.local_flags, before.input_flags, before.output_flags)
    );
    drop(pty.slave);
    assert_eq!(drain(screen), "50 90\n");
    stage.ok(&["delete", "--force", &name]);
}

#[test]
fn a_terminal_that_nobody_takes_is_refused() {
    let stage = Stage::new();
    let bundle = terminal_bundle(&stage, "true");
    let words = stage.fails(&["create", "-b", bundle.to_str().unwrap(), &stage.name()]);
    assert!(words.contains("--console-socket"), "{words}");
    let plain = bundle::shell(&stage, "true");
    let words = stage.fails(&[
        "create",
        "-b",
        plain.to_str().unwrap(),
        "--console-socket",
        "/nonexistent",
        &stage.name(),
    ]);
    assert!(words.contains("/nonexistent"), "{words}");
}
