//! The cpuset controller of version 1: a cgroup starts without processors and memory nodes, and takes no process until
//! it has some.

use std::path::Path;

use crate::cgroup::files;
use crate::error::Result;

/// The name of one of its files. A hierarchy that was mounted with `noprefix` (as Android does) has them without the
/// controller's name.
pub(super) fn file(dir: &Path, name: &str) -> String {
    let usual = format!("cpuset.{name}");
    if !dir.join(&usual).exists() && dir.join(name).exists() { name.to_owned() } else { usual }
}

/// Gives a cgroup that has none what its parent has.
pub(in crate::cgroup) fn inherit(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    for name in ["cpus", "mems"] {
        let file = file(path, name);
        if files::read_if_there(path, &file)?.is_some_and(|value| value.is_empty()) {
            files::write(path, &file, &files::read(parent, &file)?)?;
        }
    }
    Ok(())
}
