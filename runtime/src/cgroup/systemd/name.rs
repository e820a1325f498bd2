//! Names of slices and scopes, `systemd.slice(5)`, `systemd.unit(5)`.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::id::ContainerId;

/// Which unit a container gets, and in which slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitName {
    pub(super) slice: String,
    pub(super) unit: String,
}

impl UnitName {
    /// From `linux.cgroupsPath` in the form `slice:prefix:name`; without it, a scope of the container's name in the slice
    /// for services of the system, or for the user's own.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn parse(path: Option<&Path>, id: &ContainerId, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let Some(path) = path else {
            return Self::of(default, "floe", &id.folder_name());
        };
        let text = path.to_str().unwrap_or_default();
        match text.split(':').collect::<Vec<_>>()[..] {
            [slice, prefix, name] => Self::of(if slice.is_empty() { default } else { slice }, prefix, name),
            _ => Err(Error::Refused {
                problem: format!("linux.cgroupsPath {text:?} is not of the form slice:prefix:name"),
                hint: "write it so (system.slice:floe:web), or leave --systemd-cgroup out",
            }),
        }
    }

    fn of(slice: &str, prefix: &str, name: &str) -> Result<Self> {
        let bad = |problem: String| Error::Refused {
            problem,
            hint: "the form of linux.cgroupsPath is slice:prefix:name, such as system.slice:floe:web",
        };
        if name.is_empty() || name.ends_with(".slice") {
            return Err(bad(format!("linux.cgroupsPath names no scope: {name:?}")));
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if let Some(wrong) = unit.chars().find(|letter| !is_of_units(*letter)) {
            return Err(bad(format!("{unit:?} is no name of a unit because of {wrong:?}")));
        }
        slice_path(slice).ok_or_else(|| bad(format!("{slice:?} is no slice")))?;
        Ok(Self { slice: slice.to_owned(), unit })
    }

    /// Where its cgroup is, below that of the systemd instance.
    pub(super) fn path(&self) -> PathBuf {
        slice_path(&self.slice).unwrap_or_default().join(&self.unit)
    }
}

fn is_of_units(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter)
}

/// `a-b.slice` is within `a.slice`; `-.slice` is the root.
fn slice_path(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() || !part.chars().all(is_of_units) {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: Option<&str>) -> Result<UnitName> {
        UnitName::parse(path.map(Path::new), &ContainerId::parse("web").unwrap(), false)
    }

    #[test]
    fn the_three_parts_become_a_scope_in_a_slice() {
        for (path, slice, unit, place) in [
            (None, "system.slice", "floe-web.scope", "system.slice/floe-web.scope"),
            (Some("system.slice:crio:abc"), "system.slice", "crio-abc.scope", "system.slice/crio-abc.scope"),
            (Some(":docker:abc"), "system.slice", "docker-abc.scope", "system.slice/docker-abc.scope"),
            (Some("user.slice::abc"), "user.slice", "abc.scope", "user.slice/abc.scope"),
            (Some("-.slice:x:y"), "-.slice", "x-y.scope", "x-y.scope"),
            (
                Some("kubepods-burstable-pod1_2.slice:cri:c"),
                "kubepods-burstable-pod1_2.slice",
                "cri-c.scope",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-c.scope",
            ),
        ] {
            let name = parse(path).unwrap();
            assert_eq!((name.slice.as_str(), name.unit.as_str()), (slice, unit), "{path:?}");
            assert_eq!(name.path(), Path::new(place));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "/system.slice/web",
            "a:b",
            "a:b:c:d",
            "system.slice:floe:",
            "system.slice:floe:a/b",
            "x:y:z",
            "a--b.slice:y:z",
            "../x.slice:y:z",
            "system.slice:floe:pod.slice",
            ".slice:y:z",
            "system.slice:a b:c",
        ] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
