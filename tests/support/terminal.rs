//! Programs on a terminal of the test's own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize as RustixSize, tcsetwinsize};

use super::calls::wait;

/// A command on a terminal, and what it has shown so far.
pub struct Session {
    pub child: Child,
    keys: File,
    news: Receiver<Vec<u8>>,
    pub shown: String,
}

impl Session {
    /// Starts it on a terminal of this size.
    pub fn begin(mut command: Command, rows: u16, columns: u16) -> Self {
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

    /// Presses keys.
    pub fn type_in(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this is on the screen.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let news = self.news.recv_timeout(Duration::from_secs(30));
            let news = news.unwrap_or_else(|_| panic!("{text:?} does not appear in {:?}", self.shown));
            // One before each end of a line is the terminal's; engines add more.
            self.shown.push_str(&String::from_utf8_lossy(&news).replace('\r', ""));
        }
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = RustixSize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keys, size).unwrap();
        // The kernel would send it to the terminal's foreground, which a test's child isn't.
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGWINCH).unwrap();
    }
}

/// A script that tells of its terminal, follows its size from 33×101 to 40×90, and reads a line; [`converse`] speaks to
/// it.
pub const SCRIPT: &str = "test -t 0 && test -t 1 && test -t 2 && echo all; tty; until [ \"$(stty size)\" = '33 101' ]; \
    do sleep 0.02; done; echo first size; until [ \"$(stty size)\" = '40 90' ]; do sleep 0.02; done; \
    echo second size; read line; echo got \"<$line>\"; exit 6";

/// Starts a command that executes [`SCRIPT`] on a terminal, and holds it to all of it.
#[track_caller]
pub fn converse(command: Command) {
    let mut session = Session::begin(command, 33, 101);
    session.until("all\n/dev/pts/0\n");
    session.until("first size\n");
    session.resize(40, 90);
    session.until("second size\n");
    session.type_in("typed\n");
    session.until("got <typed>\n");
    assert_eq!(wait(&mut session.child).code(), Some(6), "{:?}", session.shown);
}
