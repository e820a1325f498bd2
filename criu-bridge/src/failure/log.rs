//! The line in a log of CRIU that ended its work.
//!
//! CRIU logs an error where it finds it, then one for each function that passes it on, and in the end that the work has
//! failed. Errors that it can live with look the same. So the log is read backwards from the end of the work: the
//! lines that only pass on are left out, and of the nearest group the most telling one is taken.

use super::known::{self, Known};

/// Lines by which CRIU says that it gives up. What comes after them is about cleaning up.
const ENDS: &[&str] = &["Dumping FAILED", "Restoring FAILED", "Lazy pages transfer FAILED"];

/// Error lines that CRIU prints in good runs as well.
const HARMLESS: &[&str] = &["RLIMIT_NOFILE", "Can't set rlimit", "net_dev_iw"];

/// Pieces of lines that pass on what another line has told.
const PASSING: &[&str] = &[
    "Dump files (pid:",
    "Dump core (pid:",
    "Dump mappings (pid:",
    "Dump ids (pid:",
    "Dump fs (pid:",
    "Dump eventpoll (pid:",
    "Dump cgroup of threads",
    "Collect mappings (pid:",
    "Collect fds (pid:",
    "Can't infect (pid:",
    "Can't dump misc",
    "Can't dump thread",
    "Can't dump page with parasite",
    "Can't make",
    "Pre-dumping files failed",
    "Unable to dump a file system for",
    "Namespaces dumping finished with error",
    "exited, status=",
    "killed by signal",
    "`- Can't",
    "Unable to open fd=",
    "send_fds failed",
    "Message reply from daemon is trimmed",
    "Killing processes because of failure",
    "Unable to seize",
    "dumping known properties failed",
];

/// How far before the end an unknown line may stand to be taken for the cause, in lines, if those after it only pass on.
const NEAR: usize = 60;

/// Most lines that are kept as evidence.
const KEPT: usize = 12;

/// How many lines are shown before and behind an unknown one.
const AROUND: usize = 5;

/// The line that ended the work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fatal {
    /// Its number in the log, from 0.
    pub(super) line: usize,
    /// What it means, if that is known.
    pub(super) known: Option<&'static Known>,
    /// The first and last line of the errors that belong together with it.
    group: (usize, usize),
}

/// Finds it; `None` in a log without errors.
pub(super) fn fatal(log: &str) -> Option<Fatal> {
    let lines: Vec<&str> = log.lines().collect();
    let end = lines.iter().rposition(|line| ENDS.iter().any(|words| line.contains(words)));
    let end = end.unwrap_or(lines.len());
    let errors: Vec<usize> =
        (0..end).filter(|at| is_error(lines.get(*at).copied().unwrap_or_default())).collect();
    let groups: Vec<&[usize]> = errors.chunk_by(|one, next| next - one == 1).collect();
    let best = |group: &&[usize]| told(&lines, group);
    let nearest = groups.iter().rev().find_map(|group| {
        let fatal = best(group)?;
        (fatal.known.is_some() || end - fatal.line <= NEAR).then_some(fatal)
    });
    nearest.or_else(|| {
        // Nothing but lines that pass on: the first of the last group is the nearest to the cause.
        let group = groups.last()?;
        let line = *group.first()?;
        let known = group.iter().find_map(|at| known::find(lines.get(*at)?));
        Some(Fatal { line, known, group: (line, *group.last()?) })
    })
}

/// The most telling line of a group: one that is known for itself, one that names a common cause, or the first.
fn told(lines: &[&str], group: &[usize]) -> Option<Fatal> {
    let (first, last) = (*group.first()?, *group.last()?);
    let own: Vec<usize> = group
        .iter()
        .copied()
        .filter(|at| !PASSING.iter().any(|words| lines.get(*at).is_some_and(|line| line.contains(words))))
        .collect();
    let known = |at: usize| lines.get(at).and_then(|line| known::find(line)).map(|known| (at, known));
    let special = own.iter().find_map(|at| known(*at).filter(|(_, known)| !known.is_general()));
    let found = special.or_else(|| own.iter().find_map(|at| known(*at)));
    let (line, known) = match found {
        Some((line, known)) => (line, Some(known)),
        None => (*own.first()?, None),
    };
    Some(Fatal { line, known, group: (first, last) })
}

fn is_error(line: &str) -> bool {
    line.contains("Error (") && !harmless(line)
}

/// Whether good runs have this line too.
pub(super) fn harmless(line: &str) -> bool {
    HARMLESS.iter().any(|piece| line.contains(piece))
}

/// CRIU's own lines: the errors that belong together, and for an unknown one also what stands around it.
pub(super) fn evidence<'a>(lines: &[&'a str], fatal: &Fatal) -> Vec<&'a str> {
    let (first, last) = fatal.group;
    let around = if fatal.known.is_some() { 0 } else { AROUND };
    let from = first.max(fatal.line.saturating_sub(KEPT / 2)).saturating_sub(around);
    let to = last.saturating_add(around).min(from.saturating_add(KEPT + 2 * around));
    lines.iter().enumerate().filter(|(at, _)| (from..=to).contains(at)).map(|(_, line)| *line).collect()
}

/// The last lines of a log that holds no error.
pub(super) fn tail(log: &str) -> Vec<&str> {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(AROUND)..).unwrap_or_default().to_vec()
}

/// Behind these, a dump is no longer about single processes.
const STAGES: &[&str] =
    &["Dumping file-locks", "Dumping external sockets", "Dumping pstree", "Dumping namespaces"];

/// Words before a pid in lines that name one.
const BEFORE_PID: &[&str] =
    &["(pid: ", "non-zombie ", "Task ", "mapping on ", "namespace for ", "zombie ", "leader of "];

/// The process that line `at` is about: it stands in the line itself, before it (a restored process logs its own number),
/// or the line belongs to a dump of it that began earlier.
pub(super) fn pid(lines: &[&str], at: usize) -> Option<i32> {
    let line = lines.get(at)?;
    let own = BEFORE_PID.iter().find_map(|words| number(line.split_once(words)?.1));
    own.or_else(|| logger(line)).or_else(|| begun(lines, at).and_then(number))
}

/// The name of that process, where the log has it.
pub(super) fn name(lines: &[&str], at: usize) -> Option<String> {
    let words = begun(lines, at)?;
    (number(words) == pid(lines, at)).then_some(())?;
    let name = words.split_once("comm: ")?.1;
    Some(name.strip_suffix(')').unwrap_or(name).to_owned())
}

/// What stands behind `Dumping task (pid: ` in the nearest such line before `at`.
fn begun<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let before = lines.get(..at)?.iter().rev();
    let nearest = before
        .take_while(|line| !STAGES.iter().any(|stage| line.contains(stage)))
        .find_map(|line| line.split_once("Dumping task (pid: "));
    nearest.map(|(_, rest)| rest)
}

/// `(00.030410)      1: Error`, or `pie: 1: Error`.
fn logger(line: &str) -> Option<i32> {
    let before = line.split_once("Error (")?.0;
    let words = before.trim_end().strip_suffix(':')?;
    words.rsplit([' ', ')']).next()?.parse().ok()
}

fn number(text: &str) -> Option<i32> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(log: &str) -> &str {
        log.lines().nth(fatal(log).unwrap().line).unwrap()
    }

    #[test]
    fn an_early_error_that_criu_lives_with_is_not_the_cause() {
        let log = "(00.0) Error (criu/kerndat.c:1): something that did not matter\n\
                   (00.1) much\n(00.2) work\n\
                   (00.3) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.\n\
                   (00.3) Error (criu/cr-dump.c:1681): Dump files (pid: 7) failed with -1\n\
                   (00.4) net: Unlock network\n\
                   (00.5) Error (criu/cr-dump.c:2111): Dumping FAILED.\n\
                   (00.6) Error (criu/mount.c:1): mnt: a leftover: No space left on device\n";
        assert!(line_of(log).contains("Connected TCP"));
    }

    #[test]
    fn of_lines_that_belong_together_the_telling_one_is_taken() {
        let log = "(00.3) Error (criu/x.c:1): open failed: Operation not permitted\n\
                   (00.3) Error (criu/filesystems.c:426): Can't dump tmpfs content\n\
                   (00.5) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert!(line_of(log).contains("tmpfs content"));
    }

    #[test]
    fn lines_that_pass_on_are_better_than_nothing() {
        let log = "(00.3) Error (criu/cr-restore.c:1262): 4242 killed by signal 9: Killed\n\
                   (00.5) Error (criu/cr-restore.c:2320): Restoring FAILED.\n";
        let found = fatal(log).unwrap();
        assert_eq!((found.line, found.known.map(|known| known.name)), (0, Some("died-early")));
    }

    #[test]
    fn a_stage_that_is_nobodys_has_no_process() {
        let lines = [
            "(00.1) Dumping task (pid: 77 comm: a)",
            "(00.2) Dumping file-locks",
            "(00.3) Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks!",
        ];
        assert_eq!(pid(&lines, 2), None);
        assert_eq!(pid(&["(00.0)      1: Error (criu/x.c:1): y"], 0), Some(1));
        assert_eq!(pid(&["(00.0) pie: 12: Error (criu/x.c:1): y"], 0), Some(12));
        assert_eq!(pid(&["(00.0) Error (criu/x.c:1): y"], 0), None);
    }

    #[test]
    fn a_log_without_errors_has_no_fatal_line() {
        assert!(fatal("all\nis\nwell\n").is_none());
        assert!(fatal("(00.0) Error (criu/util.c:1): Can't set RLIMIT_NOFILE\n").is_none());
    }
}
