//! Numbered lines on the standard streams, when it is told to.
//!
//! `stdio-writer --dir DIR` understands, in `DIR/ask`:
//!
//! - `TOKEN write N`: writes the next N lines, `out 7` to stdout and `err 7` to stderr, counting from 1.
//! - `TOKEN read`: reads a line from stdin, and answers with it.
//! - `TOKEN streams`: answers with what each stream is: its target, offset and flags.
//!
//! Lines are written by one call each, unbuffered, so a line is there whole when it is answered.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use floe_test_programs::door::Door;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let folder = match (words.next().as_deref(), words.next(), words.next()) {
        (Some("--dir"), Some(folder), None) => PathBuf::from(folder),
        _ => bail!("usage: stdio-writer --dir DIR"),
    };
    let door = Door::new(folder);
    door.ready("ok\n")?;
    let mut line = 0;
    loop {
        let question = door.wait()?;
        let words: Vec<&str> = question.words.iter().map(String::as_str).collect();
        let result = match words.as_slice() {
            ["write", count] => write(&mut line, count),
            ["read"] => read(),
            ["streams"] => streams(),
            other => bail!("unknown question {other:?}"),
        };
        let answer = result.unwrap_or_else(|error| format!("failed: {error:#}"));
        door.answer(&question, &format!("{answer}\n"))?;
    }
}

fn write(line: &mut u64, count: &str) -> Result<String> {
    for _ in 0..count.parse::<u64>().context("how many lines")? {
        *line += 1;
        io::stdout().write_all(format!("out {line}\n").as_bytes()).context("stdout")?;
        io::stderr().write_all(format!("err {line}\n").as_bytes()).context("stderr")?;
    }
    Ok(format!("ok {line}"))
}

/// Byte by byte and past the standard library's buffer: what follows the line must stay where it is.
fn read() -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while nix::unistd::read(io::stdin(), &mut byte).context("stdin")? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    Ok(format!("ok {}", String::from_utf8_lossy(&line)))
}

fn streams() -> Result<String> {
    let mut lines = vec!["ok".to_owned()];
    for stream in 0..3 {
        let target = fs::read_link(format!("/proc/self/fd/{stream}")).context("readlink")?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{stream}")).context("fdinfo")?;
        let value = |key: &str| {
            info.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim).to_owned()
        };
        lines.push(format!("{stream} {} {} {}", target.display(), value("pos:"), value("flags:")));
    }
    Ok(lines.join("\n"))
}
