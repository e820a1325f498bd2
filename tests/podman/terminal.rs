//! `-it`, on a terminal of the test's own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize as RustixSize, tcsetwinsize};

use crate::engine::{IMAGE, Podman};
use crate::support::calls::wait;

/// A command on a terminal, and what it has shown so far.
struct Session {
    child: Child,
    keys: File,
    news: Receiver<Vec<u8>>,
    shown: String,
}

impl Session {
    fn begin(mut command: Command, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let slave = || pty.slave.try_clone().unwrap();
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let (sender, news) = channel();
        let mut screen = File::from(pty.master.try_clone().unwrap());
        // Ends with the last one that has the terminal open.
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count) = screen.read(&mut chunk) {
                if count == 0 || sender.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys: File::from(pty.master), news, shown: String::new() }
    }

    fn type_in(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this is on the screen.
    #[track_caller]
    fn until(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let news = self.news.recv_timeout(Duration::from_secs(30));
            let news = news.unwrap_or_else(|_| panic!("{text:?} does not appear in {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&news).replace("\r\n", "\n"));
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = RustixSize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keys, size).unwrap();
        // The kernel would send it to the terminal's foreground, which a test's child isn't.
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGWINCH).unwrap();
    }
}

const SHELL: &str = "test -t 0 && test -t 1 && test -t 2 && echo all; tty; until [ \"$(stty size)\" = '33 101' ]; \
    do sleep 0.02; done; echo first size; until [ \"$(stty size)\" = '40 90' ]; do sleep 0.02; done; \
    echo second size; read line; echo got \"<$line>\"; exit 6";

fn converse(podman: &Podman, arguments: Vec<String>) {
    let mut session = Session::begin(podman.command(arguments), 33, 101);
    session.until("all\n/dev/pts/0\n");
    session.until("first size\n");
    session.resize(40, 90);
    session.until("second size\n");
    session.type_in("typed\n");
    session.until("got <typed>\n");
    assert_eq!(wait(&mut session.child).code(), Some(6), "{:?}", session.shown);
}

#[test]
fn run_on_a_terminal() {
    let podman = Podman::new();
    converse(&podman, podman.run_arguments(["--rm", "-it", IMAGE, "sh", "-c", SHELL]));
}

#[test]
fn exec_on_a_terminal() {
    let podman = Podman::new();
    podman.start("web", &[], "sleep 1000");
    converse(&podman, ["exec", "-it", "web", "sh", "-c", SHELL].map(str::to_owned).into());
}

#[test]
fn control_c_ends_what_is_in_the_foreground() {
    let podman = Podman::new();
    let script = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let command = podman.command(podman.run_arguments(["--rm", "-it", IMAGE, "sh", "-c", script]));
    let mut session = Session::begin(command, 24, 80);
    session.until("ready\n");
    session.type_in("\x03");
    session.until("interrupted\n");
    assert_eq!(wait(&mut session.child).code(), Some(4));
}
