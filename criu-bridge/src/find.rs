//! Which CRIU is driven.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The prefix under which `scripts/setup` installs a CRIU of floe's own, unless `$FLOE_PREFIX` names another.
pub const DEFAULT_PREFIX: &str = "/opt/floe";

/// Finds CRIU: what the caller names, else `$FLOE_CRIU`, else the private copy of `scripts/setup`, else `criu` in
/// `PATH`.
///
/// A place that was named and does not hold a program is an error: falling back to another CRIU than the one
/// asked for would hide it.
///
/// # Errors
/// [`Error::NoCriu`] with every place that was looked at.
pub fn find(named: Option<&Path>) -> Result<PathBuf> {
    let env = std::env::var_os("FLOE_CRIU").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = named.map(Path::to_owned).or(env) {
        return if is_program(&path) { Ok(path) } else { Err(Error::NoCriu { tried: vec![path] }) };
    }
    let prefix = std::env::var_os("FLOE_PREFIX").map_or_else(|| PathBuf::from(DEFAULT_PREFIX), PathBuf::from);
    let mut tried = vec![prefix.join("bin/criu")];
    if let Some(path) = std::env::var_os("PATH") {
        tried
            .extend(std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join("criu")));
    }
    // Where an ordinary PATH leaves out the administrator's folders, Debian's criu would not be seen.
    tried.push(PathBuf::from("/usr/sbin/criu"));
    match tried.iter().find(|path| is_program(path)) {
        Some(path) => Ok(path.clone()),
        None => Err(Error::NoCriu { tried }),
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_without_a_program_is_an_error_not_a_fallback() {
        let missing = Path::new("/nonexistent/criu");
        match find(Some(missing)) {
            Err(Error::NoCriu { tried }) => assert_eq!(tried, [missing]),
            other => panic!("{other:?}"),
        }
    }
}
