//! Where a container's cgroup is, and who makes it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::systemd::{Scope, ScopePlace};
use super::{Cgroup, V1, V2, delegated, find};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::ContainerId;

/// Where the cgroup of a container is. It is part of the container's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Place {
    /// A path below each hierarchy's root, absolute in form.
    Path(PathBuf),
    /// A scope of systemd.
    Scope(ScopePlace),
    /// Nowhere: an ordinary user's container, of one who was given no cgroup. In JSON `null`.
    Nowhere,
}

impl Place {
    /// Where the container `id` with this configuration has its cgroup.
    ///
    /// # Errors
    /// [`Error::Refused`] when systemd is to make it and there is none, or the path isn't of its form; when it can have
    /// none, and needs one.
    pub(crate) fn of(config: &Config, id: &ContainerId) -> Result<Self> {
        if config.systemd_cgroup {
            let path = config.cgroup_path.as_deref();
            return ScopePlace::of(path, id, config.annotations.clone()).map(Self::Scope);
        }
        if let Some(path) =
            config.cgroup_path.as_ref().filter(|path| path.to_string_lossy().split(':').count() == 3)
        {
            return Err(Error::Refused {
                problem: format!("linux.cgroupsPath {} names a scope of systemd", path.display()),
                hint: "pass --systemd-cgroup, or use a path",
            });
        }
        match delegated::place(config, id)? {
            Some(path) => Ok(Self::Path(path)),
            None => Ok(Self::Nowhere),
        }
    }

    /// Where it most probably was, by its `cgroupsPath` alone.
    ///
    /// # Errors
    /// As [`Place::of`].
    pub(crate) fn named(path: Option<&str>, id: &ContainerId) -> Result<Self> {
        match path {
            Some(path) if path.split(':').count() == 3 => {
                ScopePlace::of(Some(Path::new(path)), id, BTreeMap::new()).map(Self::Scope)
            }
            _ => Ok(delegated::path(path.map(Path::new), id).map_or(Self::Nowhere, Self::Path)),
        }
    }

    /// The cgroup on this host, if there is to be one. Nothing is made yet.
    ///
    /// # Errors
    /// [`Error::Refused`] when no cgroup hierarchy is mounted, or when the path is a root itself: a container that shared
    /// the host's own cgroup could not be frozen or ended without the host.
    pub(crate) fn open(&self) -> Result<Option<Box<dyn Cgroup>>> {
        match self {
            Self::Path(path) => open_path(path).map(Some),
            Self::Scope(place) => Ok(Some(Box::new(Scope::new(place.clone(), open_path(&place.path)?)))),
            Self::Nowhere => Ok(None),
        }
    }
}

/// The cgroup at `path` (absolute in form, relative to each hierarchy's root) on this host.
pub(super) fn open_path(path: &Path) -> Result<Box<dyn Cgroup>> {
    let inner = inner_path(path)?;
    Ok(match find::hierarchies()? {
        find::Hierarchies::V1 { separate, unified } => {
            let directories =
                separate.into_iter().map(|one| (one.name, one.mount_point.join(&inner))).collect();
            let v1 = V1::new(directories);
            match unified {
                Some(mount_point) => {
                    Box::new(v1.beside(V2::new(mount_point.clone(), mount_point.join(&inner))))
                }
                None => Box::new(v1),
            }
        }
        find::Hierarchies::V2(mount_point) => Box::new(V2::new(mount_point.clone(), mount_point.join(inner))),
    })
}

/// The part below a hierarchy's root: at least one name, and none that leads upwards.
pub(super) fn inner_path(path: &Path) -> Result<PathBuf> {
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => inner = PathBuf::new(),
        }
        if component == Component::ParentDir {
            break;
        }
    }
    if inner.as_os_str().is_empty() {
        return Err(Error::Refused {
            problem: format!("cgroup path {} does not name a cgroup below the root", path.display()),
            hint: "set linux.cgroupsPath to a path such as /floe/web, without `..`",
        });
    }
    Ok(inner)
}
