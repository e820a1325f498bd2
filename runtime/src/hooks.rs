//! Running the configuration's hooks.
//!
//! Those of the container's own namespaces are run by its process on its way there, which has one thread and keeps to
//! it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::config::Hook;
use crate::error::{Error, Result};
use crate::launch::SOCKET_VARIABLE;
use crate::pidfd;

/// Longest part of a hook's words that is kept.
const WORDS: u64 = 4096;

/// Runs `hooks` one after the other, each with the OCI state on its standard input. The first that fails ends it.
///
/// # Errors
/// [`Error::Hook`] with exit status, signal or time limit, and what it printed.
pub(crate) fn run(point: &'static str, hooks: &[Hook], state: &serde_json::Value) -> Result<()> {
    hooks.iter().try_for_each(|hook| {
        one(hook, state).map_err(|problem| Error::Hook { point, path: hook.path.clone(), problem })
    })
}

/// As [`run`], where a failure is a warning and the others are run all the same.
pub(crate) fn run_all(point: &'static str, hooks: &[Hook], state: &serde_json::Value) {
    for hook in hooks {
        if let Err(error) = run(point, std::slice::from_ref(hook), state) {
            tracing::warn!("{}", error.in_full());
        }
    }
}

fn one(hook: &Hook, state: &serde_json::Value) -> Result<(), String> {
    let (input, words) = ears(state)?;
    let output = words.try_clone().map_err(|error| format!("cannot be listened to: {error}"))?;
    let mut child = command(hook)
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .map_err(|error| format!("cannot be executed: {error}"))?;
    let status = match wait(&mut child, hook.timeout) {
        Ok(Some(status)) => status,
        Ok(None) => return Err(too_long(hook)),
        Err(error) => return Err(format!("cannot be waited for: {error}")),
    };
    if status.success() { Ok(()) } else { Err(format!("ended with {status}: {}", heard(words))) }
}

/// What a hook reads, and what it writes into. Files in memory, not pipes: a hook may print much and read nothing, and
/// neither must wait for the other.
pub(crate) fn ears(state: &serde_json::Value) -> Result<(File, File), String> {
    let mut input = memory().map_err(|error| format!("cannot be told the state: {error}"))?;
    let written = input.write_all(state.to_string().as_bytes()).and_then(|()| input.rewind());
    written.map_err(|error| format!("cannot be told the state: {error}"))?;
    let words = memory().map_err(|error| format!("cannot be listened to: {error}"))?;
    Ok((input, words))
}

/// The beginning of what a hook has said.
pub(crate) fn heard(mut words: File) -> String {
    let mut text = Vec::new();
    let _ = words.rewind().and_then(|()| words.take(WORDS).read_to_end(&mut text));
    String::from_utf8_lossy(&text).trim().to_owned()
}

pub(crate) fn too_long(hook: &Hook) -> String {
    format!("took longer than {} s and was ended", hook.timeout.unwrap_or_default().as_secs())
}

fn command(hook: &Hook) -> Command {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(folder) = &hook.dir {
        command.current_dir(folder);
    }
    // As with runc, a hook without an environment has that of the runtime; what tells a child its socket is not part
    // of it.
    if hook.env.is_empty() {
        command.env_remove(SOCKET_VARIABLE);
    } else {
        let variables = hook.env.iter().map(|variable| variable.split_once('=').unwrap_or((variable, "")));
        command.env_clear().envs(variables.filter(|(name, _)| !name.is_empty()));
    }
    command
}

fn memory() -> Result<File, rustix::io::Errno> {
    memfd_create("hook", MemfdFlags::CLOEXEC).map(File::from)
}

/// Waits for the end of `child`, for `limit` at most; then it is killed, and `None` is returned.
fn wait(child: &mut Child, limit: Option<Duration>) -> std::io::Result<Option<ExitStatus>> {
    // Not waited for yet, so the number is its own.
    let pidfd = pidfd::open(Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)))?;
    if ends_within(&pidfd, limit)? {
        return child.wait().map(Some);
    }
    child.kill()?;
    child.wait().map(|_| None)
}

/// Whether the process ends before `limit` is over; without one it is waited for.
pub(crate) fn ends_within(pidfd: &OwnedFd, limit: Option<Duration>) -> std::io::Result<bool> {
    // A limit beyond what the clock can say is none.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], time.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<Duration>) -> Hook {
        let args = ["hook", "-c", script].map(str::to_owned).to_vec();
        let env = vec!["PATH=/usr/bin:/bin".into(), "A=b".into()];
        Hook { path: "/bin/sh".into(), args, env, dir: Some("/usr".into()), timeout }
    }

    fn failure(script: &str, timeout: Option<Duration>) -> String {
        let state = serde_json::json!({"id": "web"});
        run("prestart", &[hook(script, timeout)], &state).unwrap_err().to_string()
    }

    #[test]
    fn a_hook_has_its_arguments_environment_and_the_state() {
        let script =
            r#"test "$0 $A" = "hook b" && grep -q '"id":"web"' && test -z "$HOME" && test "$(pwd)" = /usr"#;
        let state = serde_json::json!({"id": "web"});
        run("prestart", &[hook(script, Some(Duration::from_secs(9)))], &state).unwrap();
        // As much as no pipe holds, of which it reads nothing, and prints as much.
        let state = serde_json::json!({"annotations": "x".repeat(1 << 20)});
        run("prestart", &[hook("head -c 1000000 /dev/zero >&2; exit 0", None)], &state).unwrap();
    }

    #[test]
    fn a_failure_is_told_in_the_hooks_words() {
        assert!(
            failure("echo no luck >&2; exit 3", None)
                .contains("prestart hook /bin/sh: ended with exit status: 3: no luck")
        );
        assert!(failure("kill -9 $$", None).contains("signal: 9"));
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let start = Instant::now();
        assert!(failure("exec sleep 20", Some(Duration::from_secs(1))).contains("longer than 1 s"));
        assert!(start.elapsed() < Duration::from_secs(10));
        // Too long for any clock.
        run("prestart", &[hook("exit 0", Some(Duration::MAX))], &serde_json::Value::Null).unwrap();
    }
}
