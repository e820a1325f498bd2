//! Limits as a list of writes: planned first, then made, and taken back as a whole when one of them fails.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::files;
use crate::error::{Error, Result};

/// One write to a cgroup's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) dir: PathBuf,
    pub(super) file: String,
    pub(super) value: String,
    /// The key of `config.json` that asks for it.
    pub(super) key: String,
    /// How the file tells what was there before.
    before: Before,
    /// A file that some kernels lack, and without which the limit holds as well.
    optional: bool,
}

/// How a file is read and written back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Before {
    /// It holds one value.
    Value,
    /// It holds a line for each key (a device, a network interface). A key that has no line yet is taken away again by
    /// this.
    Line { key: String, absent: Option<String> },
    /// It holds a line for each key, and the kernel forgets the others when this one's is written.
    LineOfAll(String),
    /// It is read in another form than it is written, and was this.
    Known(String),
}

impl Setting {
    pub(super) fn new(
        dir: &Path,
        file: impl Into<String>,
        value: impl ToString,
        key: impl Into<String>,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            file: file.into(),
            value: value.to_string(),
            key: key.into(),
            before: Before::Value,
            optional: false,
        }
    }

    /// The file holds a line for each key, and `absent` is what takes such a line away.
    pub(super) fn line(self, key: impl Into<String>, absent: Option<String>) -> Self {
        Self { before: Before::Line { key: key.into(), absent }, ..self }
    }

    /// The file holds a line for each key, and the kernel forgets the others when this one is written: they are written
    /// again after it.
    pub(super) fn line_of_all(self, key: impl Into<String>) -> Self {
        Self { before: Before::LineOfAll(key.into()), ..self }
    }

    /// The file is read in another form than it is written, and `value` is what it holds now.
    pub(super) fn back_to(self, value: impl ToString) -> Self {
        Self { before: Before::Known(value.to_string()), ..self }
    }

    /// The file isn't missed where the kernel lacks it.
    pub(super) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(&self.file)
    }

    fn write(&self, value: &str) -> Result<()> {
        // An empty value is none at all for write(2).
        let value = if value.is_empty() { "\n" } else { value };
        files::write(&self.dir, &self.file, value).map_err(|error| match error {
            Error::Call { source, .. } => Error::Limit {
                key: self.key.clone(),
                value: value.trim().to_owned(),
                path: self.path(),
                source,
            },
            other => other,
        })
    }

    /// What has to be written so that the file is as it was; `None` if that isn't known.
    fn former(&self) -> Result<Option<String>> {
        let text = || files::read(&self.dir, &self.file);
        Ok(match &self.before {
            Before::Value => Some(text()?),
            Before::Known(value) => Some(value.clone()),
            Before::Line { key, absent } => {
                let text = text()?;
                let own = text.lines().find(|line| line.split_whitespace().next() == Some(key));
                own.map(str::to_owned).or_else(|| absent.clone())
            }
            // The line itself comes first in such a file.
            Before::LineOfAll(_) => Some(text()?),
        })
    }

    /// Writes the value, and what the kernel forgets of `before` with it.
    fn set(&self, before: Option<&str>) -> Result<()> {
        self.write(&self.value)?;
        let Before::LineOfAll(key) = &self.before else { return Ok(()) };
        let others = before.into_iter().flat_map(str::lines);
        let mut others = others.filter(|line| line.split_whitespace().next() != Some(key));
        others.try_for_each(|line| self.write(line))
    }

    /// Writes what was there before.
    fn set_back(&self, before: &str) -> Result<()> {
        match &self.before {
            Before::LineOfAll(_) => before.lines().try_for_each(|line| self.write(line)),
            _ => self.write(before),
        }
    }
}

/// Limits as they were before a change, to be set again.
#[derive(Debug, Default)]
pub struct Former(Vec<(Setting, Option<String>)>);

impl Former {
    /// Sets them again, the last one first.
    ///
    /// # Errors
    /// [`Error::Limit`] with the first that the kernel refuses; the others are set all the same.
    pub fn set_again(&self) -> Result<()> {
        let mut first = Ok(());
        // Written in turn as they came, so that each is next to what it was valid beside.
        for (setting, value) in self.0.iter().rev() {
            let Some(value) = value else {
                tracing::warn!("{} of {} is not known as it was before", setting.file, setting.dir.display());
                continue;
            };
            let again = setting.set_back(value);
            if first.is_ok() {
                first = again;
            }
        }
        first
    }

    /// Sets them again after a failure, which is the one to be told.
    pub(super) fn take_back(&self) {
        if let Err(error) = self.set_again() {
            tracing::warn!("the former limits are not back: {}", error.in_full());
        }
    }
}

/// Makes the settings, all or none. Nothing is written before each one's file is known to be there.
///
/// The kernel takes some values only beside others (a memory limit below that of memory and swap, a quota above its
/// burst), and which has to be first depends on what is set now. What is refused with `EINVAL` is therefore tried again
/// for as long as another one was taken since.
///
/// # Errors
/// [`Error::NoController`]; [`Error::Limit`] with what the kernel refused.
pub(super) fn make(settings: Vec<Setting>) -> Result<Former> {
    let mut waiting = Vec::new();
    for setting in settings {
        match std::fs::metadata(setting.path()) {
            Ok(_) => waiting.push(setting),
            Err(_) if setting.optional => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(&setting)),
            Err(error) => return Err(Error::call("stat", setting.path().display(), error)),
        }
    }
    let mut former = Former::default();
    in_rounds(waiting, &mut former).inspect_err(|_| former.take_back())?;
    Ok(former)
}

fn in_rounds(mut waiting: Vec<Setting>, former: &mut Former) -> Result<()> {
    loop {
        let count = waiting.len();
        let mut refused = Vec::new();
        let mut first = None;
        for setting in waiting {
            // Files that can't be read (there is none among those of the kernel's own controllers) aren't known.
            let before = setting.former().unwrap_or(None);
            match setting.set(before.as_deref()) {
                Ok(()) => former.0.push((setting, before)),
                Err(Error::Limit { source, key, value, path })
                    if source.raw_os_error() == Some(Errno::EINVAL as i32) =>
                {
                    first.get_or_insert(Error::Limit { source, key, value, path });
                    refused.push(setting);
                }
                Err(error) => return Err(error),
            }
        }
        match first {
            None => return Ok(()),
            Some(error) if refused.len() == count => return Err(error),
            Some(_) => waiting = refused,
        }
    }
}

/// Which controller isn't there, and as far as it can be told, why.
fn missing(setting: &Setting) -> Error {
    let controller = setting.file.split('.').next().unwrap_or(&setting.file).to_owned();
    let needed_for = setting.key.clone();
    // Version 2 says which controllers a cgroup has, so that a file that it lacks of one that it has is told apart.
    let has = files::read_if_there(&setting.dir, "cgroup.controllers").ok().flatten();
    let has = has.is_some_and(|text| text.split_whitespace().any(|name| name == controller));
    let kind = files::read_if_there(&setting.dir, "cgroup.type").ok().flatten();
    if has || controller == "cgroup" {
        return Error::NoLimitFile { path: setting.path(), needed_for };
    }
    let why = kind.map(|kind| why_not(&setting.dir, &controller, &kind));
    Error::NoController { controller, needed_for, why: why.unwrap_or_default() }
}

/// Why a version 2 cgroup lacks a controller.
fn why_not(dir: &Path, controller: &str, kind: &str) -> String {
    if kind.contains("threaded") {
        return format!(
            "{} is a threaded cgroup, which has only controllers that know threads",
            dir.display()
        );
    }
    let mut level = dir;
    while let Some(above) = level.parent() {
        let Ok(Some(available)) = files::read_if_there(above, "cgroup.controllers") else { break };
        if available.split_whitespace().any(|name| name == controller) {
            let own = files::read_if_there(above, "cgroup.procs").ok().flatten();
            return if own.is_some_and(|procs| !procs.is_empty()) && above.join("cgroup.type").exists() {
                format!("{} has processes of its own, and so cannot hand it down", above.display())
            } else {
                format!("{} does not hand it down", above.display())
            };
        }
        level = above;
    }
    format!("{} does not have it", level.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn nothing_is_written_unless_every_file_is_there() {
        let dir = folder(&[("memory.max", "max\n")]);
        let settings =
            ["memory.max", "pids.max"].map(|file| Setting::new(dir.path(), file, 7, format!("linux.{file}")));
        match make(settings.to_vec()).unwrap_err() {
            Error::NoController { controller, needed_for, .. } => {
                assert_eq!((controller.as_str(), needed_for.as_str()), ("pids", "linux.pids.max"));
            }
            other => panic!("{other}"),
        }
        assert_eq!(fs::read_to_string(dir.path().join("memory.max")).unwrap(), "max\n");
        make(vec![Setting::new(dir.path(), "cpu.max.burst", 1, "k").optional()]).unwrap();
    }

    #[test]
    fn a_missing_file_of_a_controller_that_is_there_is_told_apart() {
        let dir = folder(&[("cgroup.controllers", "cpu memory\n"), ("cgroup.type", "domain\n")]);
        let error = |file: &str| make(vec![Setting::new(dir.path(), file, 1, "key")]).unwrap_err();
        assert!(matches!(error("cpu.idle"), Error::NoLimitFile { .. }));
        assert!(matches!(error("io.max"), Error::NoController { .. }));
    }

    #[test]
    fn why_a_controller_is_missing_is_told_from_above() {
        let dir = folder(&[("cgroup.controllers", "cpu\n"), ("cgroup.procs", "")]);
        let below = dir.path().join("web");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.controllers"), "").unwrap();
        assert!(why_not(&below, "cpu", "domain").ends_with("does not hand it down"));
        assert!(why_not(&below, "io", "domain").ends_with("does not have it"));
        assert!(why_not(&below, "io", "threaded").contains("threaded"));
        // A root has no type, and may have processes.
        fs::write(dir.path().join("cgroup.procs"), "1\n").unwrap();
        assert!(why_not(&below, "cpu", "domain").ends_with("does not hand it down"));
        fs::write(dir.path().join("cgroup.type"), "domain\n").unwrap();
        assert!(why_not(&below, "cpu", "domain").contains("processes of its own"));
    }

    #[test]
    fn lines_are_known_by_their_keys() {
        let dir = folder(&[("io.max", "8:0 rbps=1 wbps=max riops=max wiops=max\n")]);
        let at = |device: &str| {
            let setting = Setting::new(dir.path(), "io.max", "x", "key");
            setting.line(device, Some(format!("{device} rbps=max"))).former().unwrap()
        };
        assert_eq!(at("8:0").as_deref(), Some("8:0 rbps=1 wbps=max riops=max wiops=max"));
        assert_eq!(at("8:16").as_deref(), Some("8:16 rbps=max"));
    }
}
