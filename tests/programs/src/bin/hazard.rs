//! A state that CRIU cannot dump, held until the end.
//!
//! `hazard --dir DIR KIND` makes the state and answers every question in `DIR/ask` with `ok`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use floe_test_programs::door::Door;
use floe_test_programs::hazard;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (folder, kind) = match words.as_slice() {
        [flag, folder, kind] if flag == "--dir" => (PathBuf::from(folder), kind),
        _ => bail!("usage: hazard --dir DIR KIND"),
    };
    let door = Door::new(folder.clone());
    match hazard::make(kind, &folder) {
        Ok(held) => {
            door.ready("ok\n")?;
            loop {
                let question = door.wait()?;
                door.answer(&question, &format!("ok {}\n", held.len()))?;
            }
        }
        Err(error) => {
            door.ready(&format!("failed: {error:#}\n"))?;
            Err(error)
        }
    }
}
