//! A failure of CRIU as a value with its evidence.
//!
//! CRIU's reply holds the *first* error that it logged, which is often a harmless line from its start-up (without
//! CAP_SYS_RESOURCE every reply, good ones included, complains about RLIMIT_NOFILE). What ended the request stands
//! in its log: the nearest cause before the line that says that the work has failed (`log.rs`). It is looked up in a
//! table ([`known`]) and told as cause and remedy with the process that it is about. CRIU's own lines stay with it, and
//! its whole log is kept ([`kept`]).

pub mod kept;
pub mod known;
mod log;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::progress::Phase;
use crate::session::Outcome;
use known::Known;

/// Why CRIU gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What floe was doing.
    pub phase: Phase,
    /// The message's name in the table of `docs/failures.md`; `None` if it is not known.
    pub known: Option<&'static str>,
    /// What happened, in words.
    pub reason: String,
    /// What to do about it; empty if nobody knows.
    pub hint: String,
    /// The process that it is about: by its pid on this host at a checkpoint, in the container at a restore.
    pub pid: Option<i32>,
    /// Its name; may be empty.
    pub process: String,
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

/// What CRIU left behind when it gave up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) phase: Phase,
    /// The errno of its reply.
    pub(crate) errno: Option<i32>,
    /// The text of its reply.
    pub(crate) message: &'a str,
    /// Its log.
    pub(crate) log: &'a str,
    /// What it wrote to stderr.
    pub(crate) stderr: &'a str,
    /// Names of processes, by the pids that its log has.
    pub(crate) names: &'a BTreeMap<i32, String>,
}

/// Longest line that is kept; a longer one is cut.
const LINE_LIMIT: usize = 400;

/// Whose failure it was, for the log that is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    /// The folder for logs.
    pub(crate) folder: &'a Path,
    /// A container's name, or `pid-N`.
    pub(crate) subject: &'a str,
    /// `dump` or `restore`.
    pub(crate) verb: &'static str,
    /// The phase it was in.
    pub(crate) phase: Phase,
}

impl Failure {
    /// Reads what a CRIU left that ended without success, and keeps its log.
    pub(crate) fn explain(
        outcome: &Outcome,
        work: Work<'_>,
        log: &str,
        names: &BTreeMap<i32, String>,
    ) -> Self {
        let reply = outcome.reply.as_ref();
        let errno = reply.filter(|reply| reply.has_cr_errno()).map(|reply| reply.cr_errno());
        let message = reply.map_or("", |reply| reply.cr_errmsg());
        let evidence = Evidence { phase: work.phase, errno, message, log, stderr: &outcome.stderr, names };
        let mut failure = Self::of(&evidence);
        if let (None, Some(death)) = (reply, outcome.death()) {
            failure.reason = death;
        }
        // The evidence is in the message in any case; a log that cannot be written is no second failure.
        if !log.is_empty() {
            failure.log = kept::keep(work.folder, work.subject, work.verb, log).ok();
        }
        failure
    }

    /// Reads CRIU's evidence.
    pub(crate) fn of(evidence: &Evidence<'_>) -> Self {
        let Evidence { phase, errno, message, log, stderr, names } = *evidence;
        let mut failure = Self {
            phase,
            known: None,
            reason: String::new(),
            hint: String::new(),
            pid: None,
            process: String::new(),
            lines: Vec::new(),
            log: None,
            errno,
        };
        let found = log::fatal(log).map(|fatal| (fatal, log)).or_else(|| Some((log::fatal(stderr)?, stderr)));
        match found {
            Some((fatal, text)) => {
                let lines: Vec<&str> = text.lines().collect();
                let line = lines.get(fatal.line).copied().unwrap_or_default();
                failure.pid = log::pid(&lines, fatal.line);
                failure.process = log::name(&lines, fatal.line).unwrap_or_default();
                failure.find_name(names);
                failure.tell(fatal.known, text_of(line));
                failure.lines = log::evidence(&lines, &fatal).into_iter().map(cut).collect();
            }
            None => {
                let line = [message, stderr]
                    .into_iter()
                    .flat_map(str::lines)
                    .find(|line| !line.trim().is_empty() && !log::harmless(line));
                let words = match (line, errno) {
                    (Some(line), _) => text_of(line),
                    (None, Some(errno)) => std::io::Error::from_raw_os_error(errno).to_string(),
                    (None, None) => "it gave no reason".to_owned(),
                };
                failure.tell(known::find(&words), words);
                failure.lines = log::tail(log).into_iter().map(cut).collect();
            }
        }
        failure
    }

    fn find_name(&mut self, names: &BTreeMap<i32, String>) {
        if let (Some(pid), true) = (self.pid, self.process.is_empty()) {
            self.process = names.get(&pid).cloned().unwrap_or_default();
        }
    }

    fn tell(&mut self, known: Option<&'static Known>, words: String) {
        let Some(known) = known else {
            self.reason = match self.who() {
                Some(who) => format!("{who}: {words}"),
                None => words,
            };
            return;
        };
        let cause = match (self.who(), known.cause.strip_prefix("a process ")) {
            (Some(who), Some(rest)) => format!("{who} {rest}"),
            (Some(who), None) => format!("{who}: {}", known.cause),
            (None, _) => known.cause.to_owned(),
        };
        self.reason = format!("{cause} ({words})");
        known.remedy.clone_into(&mut self.hint);
        self.known = Some(known.name);
    }

    fn who(&self) -> Option<String> {
        let pid = self.pid?;
        Some(match self.process.as_str() {
            "" => format!("process {pid}"),
            name => format!("process {pid} ({name})"),
        })
    }
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

    fn read(phase: Phase, errno: Option<i32>, message: &str, log: &str, stderr: &str) -> Failure {
        let names = BTreeMap::from([(1, "sh".to_owned()), (77, "web".to_owned())]);
        Failure::of(&Evidence { phase, errno, message, log, stderr, names: &names })
    }

    #[test]
    fn the_harmless_first_line_is_not_taken_for_the_reason() {
        let log = format!(
            "(00.001) {RLIMIT}\n(00.002) Error (criu/files-reg.c:1838): Can't lookup mount=29 for fd=1 path=/var/log/x\n"
        );
        let failure = read(Phase::Freeze, None, RLIMIT, &log, "");
        assert!(failure.reason.contains("outside the container's mounts"), "{failure}");
        assert!(failure.reason.contains("path=/var/log/x"), "{failure}");
        assert_eq!(failure.lines.len(), 1);
    }

    #[test]
    fn the_process_is_named_by_the_line_that_began_its_dump() {
        let log = "(00.1) Dumping task (pid: 76 comm: sh)\n(00.2) Dumping task (pid: 77 comm: redis)\n\
                   (00.3) Error (criu/files-ext.c:94): Can't dump file 5 of that type [600] (anon anon_inode:[io_uring])\n\
                   (00.3) Error (criu/cr-dump.c:1681): Dump files (pid: 77) failed with -1\n\
                   (00.4) Unfreezing tasks into 1\n(00.5) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        let failure = read(Phase::DumpPages, None, "", log, "");
        assert_eq!((failure.pid, failure.process.as_str()), (Some(77), "redis"));
        assert!(failure.reason.starts_with("process 77 (redis) uses io_uring"), "{failure}");
        assert_eq!(failure.known, Some("io-uring"));
    }

    #[test]
    fn a_restored_process_is_named_by_its_number_in_the_container() {
        let log = "(00.03)      1: Error (criu/files-reg.c:2175): File state/log has bad size 12 (expect 95)\n\
                   (00.04) Error (criu/cr-restore.c:1258): 4242 exited, status=1\n\
                   (00.05) Error (criu/cr-restore.c:2320): Restoring FAILED.\n";
        let failure = read(Phase::FilesAndNamespaces, None, "", log, "");
        assert_eq!((failure.pid, failure.process.as_str()), (Some(1), "sh"));
        assert_eq!(failure.known, Some("file-size"));
    }

    #[test]
    fn an_unknown_line_is_told_in_crius_own_words_with_the_lines_around() {
        let log = "before\n(00.1)   12: Error (criu/x.c:1): Something new went wrong\nafter\n";
        let failure = read(Phase::DumpPages, Some(5), "", log, "");
        assert_eq!(failure.reason, "process 12: Something new went wrong");
        assert_eq!((failure.hint.as_str(), failure.known), ("", None));
        assert_eq!(failure.lines.first().map(String::as_str), Some("before"));
        assert_eq!(failure.lines.last().map(String::as_str), Some("after"));
    }

    #[test]
    fn without_a_log_the_stderr_speaks() {
        let failure = read(Phase::Freeze, Some(56), "", "", "criu: unrecognized option '--nonsense'\n");
        assert!(failure.reason.contains("--nonsense"), "{failure}");
    }

    #[test]
    fn a_giant_line_is_cut_at_a_character() {
        let line = "é".repeat(10_000);
        let failure = read(Phase::Freeze, None, &line, "", "");
        assert!(failure.reason.chars().count() <= LINE_LIMIT + 1);
    }
}
