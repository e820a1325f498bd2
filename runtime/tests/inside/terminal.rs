//! Containers with a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use floe_runtime::{CreateOptions, ExecOptions, console};
use serde_json::json;

use crate::support::{Bundle, PATIENCE, full, wait_for};

pub const TESTS: &[(&str, fn())] = &[
    ("a_terminal_is_handed_over", a_terminal_is_handed_over),
    ("a_process_that_joins_gets_a_terminal", a_process_that_joins_gets_a_terminal),
    ("a_terminal_belongs_to_the_user", a_terminal_belongs_to_the_user),
    ("a_false_multiplexer_is_refused", a_false_multiplexer_is_refused),
];

/// Reads from a terminal until `end` was seen.
fn read_until(terminal: &mut File, end: &str) -> String {
    let start = Instant::now();
    let mut text = String::new();
    let mut bytes = [0u8; 4096];
    while !text.contains(end) {
        assert!(start.elapsed() < PATIENCE, "only {text:?} came");
        match terminal.read(&mut bytes) {
            Ok(length) => text.push_str(&String::from_utf8_lossy(&bytes[..length])),
            // The other side is closed.
            Err(_) => break,
        }
    }
    text
}

fn terminal_bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::new();
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    bundle.spec["process"]["args"] = json!(["sh", "-c", script]);
    bundle
}

fn a_terminal_is_handed_over() {
    let bundle = terminal_bundle(
        "tty; stty size; ls -l /dev/console; readlink /proc/self/fd/0; read line; echo got $line; echo to-console > /dev/console",
    );
    let (ours, theirs) = UnixStream::pair().unwrap();
    let options = CreateOptions { console: Some(OwnedFd::from(theirs)), ..CreateOptions::default() };
    let running = bundle.create_with(options).unwrap();
    let mut terminal = File::from(console::receive(ours.as_fd()).unwrap());
    let status = running.proc("stat");
    running.container.start().unwrap();
    terminal.write_all(b"hello\n").unwrap();
    let text = read_until(&mut terminal, "to-console");
    assert_eq!(running.wait(), 0);
    // The terminal's echo of what was typed may come between them.
    assert!(text.contains("/dev/pts/0\r\n") && text.contains("33 99\r\n"), "{text}");
    assert!(text.contains("136,") && text.contains("got hello\r\n"), "{text}");
    // pgrp, session and terminal: fields 5 to 7 of proc_pid_stat(5).
    let fields: Vec<&str> = status.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!(fields[2], fields[3], "it leads its session");
    assert_ne!(fields[4], "0", "and has a controlling terminal");
}

fn a_process_that_joins_gets_a_terminal() {
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let mut process = running.container.config().process.clone();
    process.terminal = true;
    process.args = ["sh", "-c", "tty; test -t 0 && echo is a terminal"].map(str::to_owned).to_vec();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let pid =
        running.container.exec(ExecOptions { console: Some(theirs.into()), ..ExecOptions::new(process) });
    let mut terminal = File::from(console::receive(ours.as_fd()).unwrap());
    let text = read_until(&mut terminal, "is a terminal");
    assert_eq!(wait_for(pid.unwrap_or_else(|error| panic!("{}", full(&error)))), 0);
    assert!(text.contains("/dev/pts/0"), "{text}");
}

fn a_terminal_belongs_to_the_user() {
    let mut bundle = terminal_bundle("stat -c %u $(tty); echo again > /dev/stdout");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let (ours, theirs) = UnixStream::pair().unwrap();
    let options = CreateOptions { console: Some(OwnedFd::from(theirs)), ..CreateOptions::default() };
    let running = bundle.create_with(options).unwrap();
    let mut terminal = File::from(console::receive(ours.as_fd()).unwrap());
    running.container.start().unwrap();
    let text = read_until(&mut terminal, "again");
    assert_eq!(running.wait(), 0, "{text}");
    assert!(text.contains("1000\r\nagain"), "{text}");
}

/// In a container that is joined, /dev/pts/ptmx is the container's word.
fn a_false_multiplexer_is_refused() {
    let mut bundle = Bundle::with_script("echo ready; sleep 20");
    bundle.unmount("/dev/pts");
    bundle.mount(json!({"destination": "/dev/pts", "type": "tmpfs", "source": "tmpfs"}));
    let running = bundle.create().unwrap();
    running.start_until_ready();
    assert_eq!(running.exec("echo > /dev/pts/ptmx").0, 0);
    let mut process = running.container.config().process.clone();
    process.terminal = true;
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let options = ExecOptions { console: Some(theirs.into()), ..ExecOptions::new(process) };
    let error = running.container.exec(options).unwrap_err();
    assert!(full(&error).contains("multiplexer"), "{}", full(&error));
}
