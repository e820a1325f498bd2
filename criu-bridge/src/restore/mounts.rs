//! Sources of bind mounts that are elsewhere than the configuration says.

use std::path::{Path, PathBuf};

use floe_runtime::config::{Config, MountKind};

use crate::error::{Error, Result};
use crate::record::Record;

/// Those that this host remembers: the container that was frozen had others than its bundle where it was itself restored
/// with others.
pub(super) fn as_they_were(config: &mut Config, record: &Record) {
    for mount in config.mounts.iter_mut().filter(|mount| matches!(mount.kind, MountKind::Bind { .. })) {
        if let Some(source) = record.binds.get(&mount.destination) {
            mount.source = Some(source.clone());
        }
    }
}

/// Those that the one who restores names: source in the configuration, and what takes its place.
///
/// # Errors
/// [`Error::Unfit`] for one that is no source, or of which one is a folder and the other is none; [`Error::Call`] for a new
/// one that is not there.
pub(super) fn map(config: &mut Config, all: &[(PathBuf, PathBuf)]) -> Result<()> {
    // Of the configuration as it is, so that two can change places.
    let before: Vec<Option<PathBuf>> = config.mounts.iter().map(|mount| mount.source.clone()).collect();
    for (source, new) in all {
        map_one(config, &before, source, new)?;
    }
    Ok(())
}

fn map_one(config: &mut Config, before: &[Option<PathBuf>], source: &Path, new: &Path) -> Result<()> {
    let at =
        |path: &Path| path.canonicalize().map_err(|error| Error::call("find the new source", path, error));
    let same = |one: &Path| {
        one == source
            || matches!((one.canonicalize(), source.canonicalize()), (Ok(one), Ok(other)) if one == other)
    };
    let new = at(new)?;
    let mut found = false;
    for (mount, old) in config.mounts.iter_mut().zip(before) {
        let Some(old) = old.as_ref().filter(|old| same(old)) else { continue };
        if !matches!(mount.kind, MountKind::Bind { .. }) {
            continue;
        }
        if old.exists() && old.is_dir() != new.is_dir() {
            return Err(Error::Unfit {
                what: format!("of {} and {} one is a folder and one is none", old.display(), new.display()),
                hint: "give --map a new source of the same kind".to_owned(),
            });
        }
        mount.source = Some(new.clone());
        found = true;
    }
    if found {
        return Ok(());
    }
    let known: Vec<String> = config
        .mounts
        .iter()
        .filter(|mount| matches!(mount.kind, MountKind::Bind { .. }))
        .filter_map(|mount| Some(mount.source.as_ref()?.display().to_string()))
        .collect();
    let hint = match known.is_empty() {
        true => "leave --map out: it has no bind mounts".to_owned(),
        false => format!("give --map one of its sources: {}", known.join(", ")),
    };
    let what = format!("its configuration has no bind mount with the source {}", source.display());
    Err(Error::Unfit { what, hint })
}
