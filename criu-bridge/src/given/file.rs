//! A configuration file of CRIU's: a long option a line, without its dashes, with its value behind a blank or `=`; `#` begins a
//! comment (criu(8), "Configuration files").

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Given, canonical};
use crate::error::{Error, Result};

/// Largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// Reads the options in the file `path`.
pub(super) fn read(path: &Path) -> Result<Vec<Given>> {
    let mut text = String::new();
    let file = File::open(path).map_err(|source| Error::call("open", path, source))?;
    let read = file.take(LIMIT).read_to_string(&mut text);
    read.map_err(|source| Error::call("read", path, source))?;
    let lines = text.lines().enumerate();
    Ok(lines
        .filter_map(|(number, line)| {
            Some(Given { from: Some((path.to_owned(), number + 1)), ..parse(line)? })
        })
        .collect())
}

fn parse(line: &str) -> Option<Given> {
    let line = line.split('#').next().unwrap_or_default().trim();
    if line.is_empty() {
        return None;
    }
    let (name, value) = match line.split_once(|letter: char| letter.is_whitespace() || letter == '=') {
        Some((name, value)) => (name, Some(value.trim().trim_matches(['"', '\'']).to_owned())),
        None => (line, None),
    };
    let name = canonical(name);
    let known = |name: &str| super::TABLE.iter().any(|(known, ..)| *known == name);
    Some(match name.strip_prefix("no-") {
        Some(rest) if !known(&name) && known(rest) => {
            Given { name: rest.to_owned(), value: Some("no".to_owned()), from: None }
        }
        _ => Given { name, value, from: None },
    })
}
