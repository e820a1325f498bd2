//! How the snapshot is written.

use clap::Args;

/// How the snapshot is written.
#[derive(Debug, Args)]
pub struct Writing {
    /// Compression: zstd, with a level from 1 to 19.
    #[arg(long, value_name = "zstd[:LEVEL]", default_value = "zstd", value_parser = level)]
    pub compress: i32,
}

fn level(text: &str) -> Result<i32, String> {
    let wrong = || format!("{text:?} is not zstd or zstd:LEVEL with a level from 1 to 19");
    match text.split_once(':') {
        None if text == "zstd" => Ok(1),
        Some(("zstd", level)) => {
            level.parse().ok().filter(|level| (1..=19).contains(level)).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}
