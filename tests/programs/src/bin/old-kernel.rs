//! Runs a program as on a kernel that lacks some system calls: `old-kernel NUMBER[,NUMBER…] PROGRAM [ARG…]`.
//!
//! Those calls fail with `ENOSYS`, for the program and whatever it starts.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use floe_test_programs::sys;

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let numbers = words.next().context("usage: old-kernel NUMBER[,NUMBER…] PROGRAM [ARG…]")?;
    let numbers = numbers.to_string_lossy();
    let calls = numbers
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<u32>, _>>()
        .context("numbers of system calls")?;
    let program = words.next().context("no program")?;
    sys::forget_system_calls(&calls).context("seccomp")?;
    Err(Command::new(&program).args(words).exec()).with_context(|| format!("exec {}", program.display()))
}
