//! Cgroups below a container's own, into which a further process may be put (`exec --cgroup`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;

use super::{CgroupPaths, Entrance};
use crate::error::{Error, Result};

const HINT: &str =
    "name a cgroup that the container has made, as PATH, or on version 1 also as CONTROLLER[,…]:PATH";

/// Which cgroups below the container's a process goes to, as it was asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Below {
    /// By controller; the empty name is for all.
    paths: BTreeMap<String, PathBuf>,
}

impl Below {
    /// Reads what was typed: one `PATH` for every hierarchy, or `CONTROLLER[,CONTROLLER…]:PATH`, any number of them.
    /// Paths are relative to the container's cgroup, with or without a slash in front.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for word in words {
            let refused = |problem: &str| refused(format!("cgroup {word:?} {problem}"));
            let (controllers, path) = word.split_once(':').unwrap_or(("", word));
            if words.len() > 1 && !word.contains(':') {
                return Err(refused("is for all controllers, and others are named too"));
            }
            if word.starts_with(':') {
                return Err(refused("names no controller"));
            }
            let path = inner(Path::new(path)).ok_or_else(|| refused("leads upwards"))?;
            for controller in controllers.split(',') {
                if paths.insert(controller.to_owned(), path.clone()).is_some() {
                    return Err(refused(&format!("is the second one for {controller}")));
                }
            }
        }
        Ok(Self { paths })
    }

    /// The directories, in the cgroup that has `own`; `None` where nothing was asked for.
    ///
    /// # Errors
    /// [`Error::Refused`] for a cgroup or a controller that isn't there.
    pub(crate) fn of(&self, own: &CgroupPaths) -> Result<Option<Chosen>> {
        if self.paths.is_empty() {
            return Ok(None);
        }
        let mut left: Vec<&String> = self.paths.keys().collect();
        let mut chosen = Chosen { directory: None, separate: Vec::new() };
        for (hierarchy, directory) in own.iter().filter(|(_, directory)| directory.exists()) {
            let name = |controller: &&String| hierarchy.split(',').any(|each| each == controller.as_str());
            let asked = self.paths.keys().find(|key| key.is_empty() || name(key));
            left.retain(|key| Some(*key) != asked);
            let directory = match asked.and_then(|key| self.paths.get(key)) {
                Some(path) => directory.join(path),
                None => directory.clone(),
            };
            if !directory.is_dir() {
                return Err(refused(format!("cgroup {} does not exist", directory.display())));
            }
            match hierarchy.is_empty() {
                true => chosen.directory = Some(directory),
                false => chosen.separate.push(directory),
            }
        }
        match left.first() {
            Some(key) => Err(refused(format!("the container has no cgroup of the controller {key:?}"))),
            None => Ok(Some(chosen)),
        }
    }
}

fn refused(problem: String) -> Error {
    Error::Refused { problem, hint: HINT }
}

/// The path without what is in front of it; `None` if it leads upwards.
fn inner(path: &Path) -> Option<PathBuf> {
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(inner)
}

/// Cgroups below a container's own that exist, one in each hierarchy: what a [`Below`] means for one container.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// That of version 2.
    directory: Option<PathBuf>,
    /// Those of version 1.
    separate: Vec<PathBuf>,
}

impl Chosen {
    /// How a process gets itself there.
    pub(crate) fn entrance(&self) -> Entrance {
        let tasks = self.separate.iter().map(|directory| directory.join("tasks")).collect();
        Entrance { directory: self.directory.clone(), tasks }
    }

    /// That of version 2, as seen from `own`.
    pub(super) fn below(&self, own: &Path) -> Option<&Path> {
        self.directory.as_deref()?.strip_prefix(own).ok()
    }

    /// Moves a process there.
    ///
    /// # Errors
    /// [`Error::Call`] with the file and the kernel's answer.
    pub(super) fn join(&self, pid: Pid) -> Result<()> {
        self.separate.iter().chain(&self.directory).try_for_each(|directory| {
            let file = directory.join("cgroup.procs");
            fs::write(&file, pid.to_string()).map_err(Error::at("write", &file))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(words: &[&str]) -> Result<Below> {
        Below::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_typed_is_read_or_refused() {
        assert_eq!(below(&[]).unwrap(), Below::default());
        assert_eq!(below(&["/a/b"]).unwrap(), below(&["a/./b"]).unwrap());
        assert_eq!(below(&["cpu,memory:a"]).unwrap(), below(&["cpu:/a", "memory:a"]).unwrap());
        for bad in [&["a", "cpu:b"] as &[_], &[":a"], &["../a"], &["cpu:a/../.."], &["cpu:a", "cpu:b"]] {
            assert!(below(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_hierarchy_gets_its_own_directory() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        for name in ["cpu/web/inner", "memory/web/inner", "pids/web"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        let own: CgroupPaths = [("cpu,cpuacct", "cpu/web"), ("memory", "memory/web"), ("pids", "pids/web")]
            .map(|(key, name)| (key.to_owned(), path(name)))
            .into();
        assert_eq!(below(&[]).unwrap().of(&own).unwrap(), None);
        let chosen = below(&["cpuacct,memory:inner"]).unwrap().of(&own).unwrap().unwrap();
        assert_eq!(
            chosen.entrance().tasks,
            ["cpu/web/inner/tasks", "memory/web/inner/tasks", "pids/web/tasks"].map(path)
        );
        assert!(below(&["inner"]).unwrap().of(&own).unwrap_err().to_string().contains("pids/web/inner"));
        assert!(below(&["blkio:inner"]).unwrap().of(&own).unwrap_err().to_string().contains("blkio"));
        let unified = [(String::new(), path("cpu/web"))].into();
        let chosen = below(&["/inner"]).unwrap().of(&unified).unwrap().unwrap();
        assert_eq!(chosen.entrance(), Entrance { directory: Some(path("cpu/web/inner")), tasks: vec![] });
    }
}
