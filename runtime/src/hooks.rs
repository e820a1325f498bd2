//! Running the configuration's hooks on the host.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::Hook;
use crate::error::{Error, Result};

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

fn one(hook: &Hook, state: &serde_json::Value) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    let variables = hook.env.iter().filter_map(|variable| variable.split_once('='));
    // A file, not a pipe: a hook that prints much must not wait for a reader.
    let mut words = tempfile::tempfile().map_err(|error| format!("cannot be listened to: {error}"))?;
    let output = words.try_clone().map_err(|error| error.to_string())?;
    let mut child = command
        .env_clear()
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .map_err(|error| format!("cannot be executed: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook may end without reading.
        let _ = stdin.write_all(state.to_string().as_bytes());
    }
    let deadline = hook.timeout.map(|limit| Instant::now() + limit);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "took longer than {} s and was ended",
                    hook.timeout.unwrap_or_default().as_secs()
                ));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let rewound = std::io::Seek::seek(&mut words, std::io::SeekFrom::Start(0));
    let _ = rewound.and_then(|_| words.take(WORDS).read_to_string(&mut text));
    Err(format!("ended with {status}: {}", text.trim()))
}
