//! Calls of programs with a time limit.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No call in these tests takes longer, unless it hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The exit code; 128 + n for signal n.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

/// Runs a command to its end. Its output goes through files: a container that is left behind would keep a pipe open.
#[track_caller]
pub fn finish(command: &mut Command) -> Done {
    let files = [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
    command.stdout(files[0].reopen().unwrap()).stderr(files[1].reopen().unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; scripts/setup installs what the tests need");
    });
    let status = wait(&mut child);
    let [stdout, stderr] = files
        .each_ref()
        .map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned());
    Done { status, stdout, stderr }
}

/// Runs a command that has to succeed, and returns what it printed. Where it fails, `evidence` is shown as well.
#[track_caller]
pub fn succeed(command: &mut Command, evidence: impl FnOnce() -> String) -> String {
    let done = finish(command);
    assert!(done.status.success(), "{command:?}: {done:?}\n{}", evidence());
    done.stdout
}

/// Waits for a child, and ends it when it takes too long.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("a call took longer than {TIME_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for something that takes a moment.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Standard streams of a call that nobody reads.
pub fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
