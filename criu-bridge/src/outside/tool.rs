//! Programs of the host that read what they are to do from their standard input.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// Runs `program`, and whether it succeeded.
pub(super) fn feed(program: &str, arguments: &[&str], text: &str) -> Result<bool> {
    let failed = |source| Error::call("run", program, source);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    // Of one that ends before it has read all, the status tells.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
    Ok(child.wait().map_err(failed)?.success())
}
