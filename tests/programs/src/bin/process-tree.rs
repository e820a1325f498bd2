//! A hundred processes that check everything between them when they are asked.
//!
//! `process-tree --dir DIR [--processes N] [--file-locks] [--users] [--ticking]`: has to be the first process of its pid namespace, with an
//! IPC namespace of its own, `/proc`, `/dev` and `/dev/pts`; `DIR` is a folder that it may fill.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use floe_test_programs::tree::{self, Settings};

fn main() -> Result<()> {
    tree::run(settings(std::env::args().skip(1))?)
}

fn settings(mut words: impl Iterator<Item = String>) -> Result<Settings> {
    let (mut folder, mut nodes) = (None, 100);
    let (mut locks, mut users, mut ticking) = (false, false, false);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("flag needs an argument: {word}"));
        match word.as_str() {
            "--dir" => folder = Some(PathBuf::from(value()?)),
            "--processes" => nodes = value()?.parse().context("--processes")?,
            "--file-locks" => locks = true,
            "--users" => users = true,
            "--ticking" => ticking = true,
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(Settings { folder: folder.context("--dir is missing")?, nodes, locks, users, ticking })
}
