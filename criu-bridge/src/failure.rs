//! A failure of CRIU as a value with its evidence.
//!
//! CRIU's reply holds the *first* error that it logged, which is often a harmless line from its start-up (without
//! CAP_SYS_RESOURCE every reply, good ones included, complains about RLIMIT_NOFILE). What ended the request stands
//! in its log. So the log is read, the lines that every run prints are left out, and the first line that remains
//! is matched against known causes.

use std::fmt;
use std::path::PathBuf;

use crate::progress::Phase;

/// Why CRIU gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What floe was doing.
    pub phase: Phase,
    /// What happened, in words.
    pub reason: String,
    /// What to do about it; empty if nobody knows.
    pub hint: String,
    /// CRIU's own lines, oldest first.
    pub lines: Vec<String>,
    /// The whole log, where it was kept.
    pub log: Option<PathBuf>,
    /// The errno of the reply, where CRIU set one.
    pub errno: Option<i32>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "criu failed ({}): {}", self.phase, self.reason)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// How many of CRIU's lines are kept as evidence.
const KEPT_LINES: usize = 12;

/// Longest line that is kept; a longer one is cut.
const LINE_LIMIT: usize = 400;

/// Error lines that CRIU prints in good runs as well.
const HARMLESS: &[&str] = &["RLIMIT_NOFILE", "Can't set rlimit", "net_dev_iw", "Unable to find an external"];

/// A known cause: a piece of CRIU's line, what it means, what to do.
struct Known {
    piece: &'static str,
    reason: &'static str,
    hint: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        piece: "Unexpected rt vDSO area bounds",
        reason: "this criu does not know the vDSO of the running kernel",
        hint: "kernels from 6.13 on need criu 4.1 or newer: run scripts/setup",
    },
    Known {
        piece: "Can't lookup mount=",
        reason: "a process holds a file open that lies outside the container's mounts",
        hint: "see `floe check` for the process and the path",
    },
    Known {
        piece: "Connected TCP socket",
        reason: "the container has an established TCP connection",
        hint: "pass --tcp established to keep it or --tcp close to drop it",
    },
    Known {
        piece: "has bad size",
        reason: "a file that the container has open or mapped changed its size since the checkpoint",
        hint: "put the file back as it was, or restore with the root file system of the snapshot",
    },
    Known {
        piece: "has bad build-ID",
        reason: "a program or library that the container has mapped was replaced since the checkpoint",
        hint: "restore with the same image that the container was started from",
    },
    Known {
        piece: "External socket is used",
        reason: "a process holds a UNIX socket whose other end is outside the container",
        hint: "close it, or pass --ext-unix-sk if losing the connection does no harm",
    },
    Known {
        piece: "without peer",
        reason: "a process is connected over a UNIX socket to one outside the container's network namespace",
        hint: "close the connection before the checkpoint; criu sees no socket of another network namespace",
    },
    Known {
        piece: "unix: Can't connect",
        reason: "a process was connected to a UNIX socket outside, and nobody listens there by that name",
        hint: "start what listened there first; a path has to be the same on both sides",
    },
    Known {
        piece: "Can't create link remap",
        reason: "a process has a file open that lost the name by which it was opened, and has another",
        hint: "pass --link-remap, or close the file",
    },
    Known {
        piece: "Can't get 1:16 opt",
        reason: "this criu asks sockets of the network for what the running kernel has for other sockets only",
        hint: "kernels from 6.16 on need criu 4.2 or newer for them, whether connected or not",
    },
    Known {
        piece: "Can't dump half of stream unix connection",
        reason: "a process is connected over a UNIX socket to a process outside the container",
        hint: "close the connection before the checkpoint; half of a stream cannot be kept",
    },
    Known {
        piece: "is not in the process group",
        reason: "a process belongs to a session or terminal outside the container",
        hint: "pass --shell-job",
    },
    Known {
        piece: "Can't fork for",
        reason: "a process id that the snapshot needs is taken",
        hint: "give the container a pid namespace of its own, or end the process that holds the id",
    },
    Known {
        piece: "io_uring",
        reason: "a process uses io_uring, which criu cannot dump",
        hint: "turn io_uring off in the program's configuration",
    },
    Known {
        piece: "Some file locks are hold by dumping tasks",
        reason: "a process holds file locks",
        hint: "pass --file-locks",
    },
    Known {
        piece: "Unseizable",
        reason: "a process could not be stopped: it is frozen, or held in the kernel",
        hint: "see what it waits for in /proc/PID/stack, then try again",
    },
    Known {
        piece: "is traced by",
        reason: "a process is being traced by a debugger or strace",
        hint: "detach the tracer and try again",
    },
    Known {
        piece: "No space left on device",
        reason: "no space was left where criu writes its images",
        hint: "free memory (images are kept in a tmpfs) and try again",
    },
    Known {
        piece: "Cannot allocate memory",
        reason: "the kernel had no memory left",
        hint: "free memory, or raise the container's memory limit",
    },
    Known { piece: "Unexpected EOF", reason: "an image ended early", hint: "verify the snapshot" },
];

impl Failure {
    /// Reads CRIU's evidence: the text of its reply, the log and what it wrote to stderr.
    pub(crate) fn read(phase: Phase, errno: Option<i32>, message: &str, log: &str, stderr: &str) -> Self {
        let errors: Vec<&str> = log
            .lines()
            .chain(stderr.lines())
            .filter(|line| line.contains("Error ("))
            .filter(|line| !harmless(line))
            .collect();
        let known = errors.iter().chain(std::iter::once(&message)).find_map(|line| {
            KNOWN.iter().find(|known| line.contains(known.piece)).map(|known| (known, *line))
        });
        let (reason, hint) = match known {
            Some((known, line)) => (format!("{} ({})", known.reason, text_of(line)), known.hint.to_owned()),
            None => (first_words(&errors, message, stderr, errno), String::new()),
        };
        let mut lines: Vec<String> = errors.iter().map(|line| cut(line)).collect();
        if lines.is_empty() {
            lines.extend(log.lines().rev().take(5).map(cut).collect::<Vec<_>>().into_iter().rev());
        }
        lines.truncate(KEPT_LINES);
        Self { phase, reason, hint, lines, log: None, errno }
    }
}

fn first_words(errors: &[&str], message: &str, stderr: &str, errno: Option<i32>) -> String {
    if let Some(line) = errors.first() {
        return text_of(line);
    }
    if !message.trim().is_empty() && !harmless(message) {
        return text_of(message);
    }
    if let Some(line) = stderr.lines().find(|line| !line.trim().is_empty() && !harmless(line)) {
        return cut(line);
    }
    match errno {
        Some(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        None => "it gave no reason".to_owned(),
    }
}

fn harmless(line: &str) -> bool {
    HARMLESS.iter().any(|piece| line.contains(piece))
}

/// The words of a log line, without the time, the task and the place in CRIU's source.
fn text_of(line: &str) -> String {
    let words = match line.find("Error (").and_then(|at| line[at..].find("): ").map(|end| at + end + 3)) {
        Some(start) => &line[start..],
        None => line,
    };
    cut(words)
}

fn cut(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(LINE_LIMIT) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RLIMIT: &str = "Error (criu/util.c:1529): Can't set RLIMIT_NOFILE: Operation not permitted";

    #[test]
    fn the_harmless_first_line_is_not_taken_for_the_reason() {
        let log = format!(
            "(00.001) 1: {RLIMIT}\n(00.002) Error (criu/files-reg.c:1838): Can't lookup mount=29 for fd=1 path=/var/log/x\n"
        );
        let failure = Failure::read(Phase::Freeze, None, RLIMIT, &log, "");
        assert!(failure.reason.contains("outside the container's mounts"), "{failure}");
        assert!(failure.reason.contains("path=/var/log/x"), "{failure}");
        assert_eq!(failure.lines.len(), 1);
    }

    #[test]
    fn an_unknown_line_is_told_in_crius_own_words() {
        let log = "(00.1)   12: Error (criu/x.c:1): Something new went wrong\n";
        let failure = Failure::read(Phase::DumpPages, Some(5), "", log, "");
        assert_eq!(failure.reason, "Something new went wrong");
        assert_eq!(failure.hint, "");
    }

    #[test]
    fn without_a_log_the_stderr_speaks() {
        let failure =
            Failure::read(Phase::Freeze, Some(56), "", "", "criu: unrecognized option '--nonsense'\n");
        assert!(failure.reason.contains("--nonsense"), "{failure}");
    }

    #[test]
    fn a_giant_line_is_cut_at_a_character() {
        let line = "é".repeat(10_000);
        let failure = Failure::read(Phase::Freeze, None, &line, "", "");
        assert!(failure.reason.chars().count() <= LINE_LIMIT + 1);
    }
}
