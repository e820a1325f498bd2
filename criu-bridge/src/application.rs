//! Commands of the application around a freeze: to make it quiet before, to let it go on after, to give a clone seeds,
//! secrets and addresses of its own.
//!
//! They come from the command line, from annotations of the configuration that the container on this host was made of or is
//! restored with, and for the host from a file in that bundle; never from a snapshot. A command is a line for `/bin/sh -c`,
//! or a JSON array with the program and its arguments where there is no shell.
//!
//! | annotation | runs |
//! |---|---|
//! | `floe.hook.before-freeze` | in the container, before anything is frozen; a failure ends the checkpoint |
//! | `floe.hook.after-freeze` | in the container, if it runs on, be it after a failure; its own failure is a warning |
//! | `floe.hook.after-restore` | in the restored container; a failure takes the restore back |
//!
//! At the same points commands run on the host, which the bundle's `floe-hooks.json` names: `{"before-freeze": ["…"], …}`.
//! They are no annotations: orchestrators hand those through from whoever may start a container, who is not to run commands
//! as the host's root.
//!
//! In the environment are `FLOE_HOOK` (the point), `FLOE_CONTAINER`, `FLOE_SNAPSHOT` (the snapshot's id) and, after a restore,
//! `FLOE_CLONE`: how many times this snapshot has been restored on this host, counted from 1.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use floe_runtime::config::{Config, Hook};
use floe_runtime::{Container, Status};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// The bundle's file of commands for the host.
const FILE: &str = "floe-hooks.json";

/// Longest such file, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// When a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before anything is frozen.
    BeforeFreeze,
    /// After the snapshot is complete, or was given up.
    AfterFreeze,
    /// When the restored container runs.
    AfterRestore,
}

impl Moment {
    const ALL: [Self; 3] = [Self::BeforeFreeze, Self::AfterFreeze, Self::AfterRestore];

    /// Its name, in annotations, flags and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeFreeze => "before-freeze",
            Self::AfterFreeze => "after-freeze",
            Self::AfterRestore => "after-restore",
        }
    }
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the container, as the user of its first process.
    Container,
    /// On this host, with floe's own rights.
    Host,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Command {
    moment: Moment,
    side: Side,
    line: String,
    words: Vec<String>,
}

/// The commands of one checkpoint or restore, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    commands: Vec<Command>,
    /// How long each may take.
    pub timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { commands: Vec::new(), timeout: Duration::from_secs(60) }
    }
}

/// What a command is told.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The snapshot's id.
    pub snapshot: &'a str,
    /// The number of the clone.
    pub clone: Option<u64>,
}

impl Hooks {
    /// Adds a command.
    ///
    /// # Errors
    /// [`Error::Hook`] for an empty one, and for what begins like a JSON array and is none.
    pub fn add(&mut self, moment: Moment, side: Side, line: &str) -> Result<()> {
        let words = words(line).map_err(|problem| Error::Hook {
            name: moment.name(),
            line: line.to_owned(),
            problem,
        })?;
        self.commands.push(Command { moment, side, line: line.to_owned(), words });
        Ok(())
    }

    /// With what the annotations of `config` say and the file in `bundle`, which runs first. A container of a native
    /// configuration has no bundle.
    ///
    /// # Errors
    /// As [`Hooks::add`]; [`Error::Call`] if the file is there and cannot be read.
    pub fn of_container(&self, config: &Config, bundle: Option<&Path>) -> Result<Self> {
        let file = bundle.map_or_else(|| Ok(FileOfBundle::default()), FileOfBundle::read)?;
        let mut hooks = Self { commands: Vec::new(), timeout: self.timeout };
        for (moment, lines) in Moment::ALL.into_iter().zip(file.by_moment()) {
            let inside = config.annotations.get(&format!("floe.hook.{}", moment.name()));
            let host = lines.iter().map(|line| (Side::Host, line));
            let mut all: Vec<_> = host.chain(inside.map(|line| (Side::Container, line))).collect();
            // The host prepares first and tidies up last.
            if moment != Moment::BeforeFreeze {
                all.rotate_left(lines.len());
            }
            all.into_iter().try_for_each(|(side, line)| hooks.add(moment, side, line))?;
        }
        hooks.commands.extend(self.commands.iter().cloned());
        Ok(hooks)
    }

    /// Whether anything is to run at `moment`.
    pub(crate) fn any(&self, moment: Moment) -> bool {
        self.commands.iter().any(|command| command.moment == moment)
    }

    /// Runs what is to run at `moment`. Those in the container are left out, with a warning, where it is paused, and in
    /// silence where it has ended.
    ///
    /// # Errors
    /// That of the first that failed; the ones behind it are not run, but for those after a freeze.
    pub(crate) fn run(
        &self,
        moment: Moment,
        container: &Container,
        about: About<'_>,
        progress: &dyn Progress,
    ) -> floe_runtime::Result<()> {
        let mut failed = None;
        for command in self.commands.iter().filter(|command| command.moment == moment) {
            let done = match (command.side, container.status()) {
                (Side::Host, _) => container.run_hook(moment.name(), &self.hook(command, container, about)),
                (Side::Container, Status::Running) => {
                    container.run_hook_inside(moment.name(), &self.hook(command, container, about))
                }
                (Side::Container, Status::Paused) => {
                    progress.warn(&format!(
                        "{} is paused: its {} command was not run: {}",
                        container.id(),
                        moment.name(),
                        command.line
                    ));
                    Ok(())
                }
                (Side::Container, _) => Ok(()),
            };
            match done {
                Ok(()) => {}
                Err(error) if moment == Moment::AfterFreeze => {
                    // Each of them may be what lets a part of the application go on.
                    if let Some(earlier) = failed.replace(error) {
                        progress.warn(&earlier.to_string());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn hook(&self, command: &Command, container: &Container, about: About<'_>) -> Hook {
        let mut env = vec![
            format!("FLOE_HOOK={}", command.moment.name()),
            format!("FLOE_CONTAINER={}", container.id()),
            format!("FLOE_SNAPSHOT={}", about.snapshot),
        ];
        env.extend(about.clone.map(|number| format!("FLOE_CLONE={number}")));
        if command.side == Side::Host {
            let own = std::env::vars_os().filter_map(|(name, value)| {
                Some(format!("{}={}", name.into_string().ok()?, value.into_string().ok()?))
            });
            env.splice(0..0, own);
        }
        // In the container the path is only what messages name.
        let path = match command.side {
            Side::Container => PathBuf::from(&command.line),
            Side::Host => PathBuf::from(&command.words[0]),
        };
        let args = command.words.clone();
        Hook { path, args, env, dir: None, timeout: Some(self.timeout) }
    }
}

/// A bundle's commands for the host.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FileOfBundle {
    before_freeze: Vec<String>,
    after_freeze: Vec<String>,
    after_restore: Vec<String>,
}

impl FileOfBundle {
    fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join(FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(|source| Error::call("open", &path, source))?,
        };
        let status = file.metadata().map_err(|source| Error::call("stat", &path, source))?;
        if status.uid() != nix::unistd::geteuid().as_raw() || status.mode() & 0o022 != 0 {
            return Err(Error::Option {
                what: format!(
                    "{} has commands for this host, and others than root may write to it",
                    path.display()
                ),
                hint: "make it root's own, without the right to write for others".to_owned(),
            });
        }
        let mut text = String::new();
        let read = file.take(FILE_LIMIT).read_to_string(&mut text);
        read.map_err(|source| Error::call("read", &path, source))?;
        serde_json::from_str(&text).map_err(|error| Error::call("parse", &path, std::io::Error::from(error)))
    }

    /// In the order of [`Moment::ALL`].
    fn by_moment(&self) -> [&[String]; 3] {
        [&self.before_freeze, &self.after_freeze, &self.after_restore]
    }
}

fn words(line: &str) -> std::result::Result<Vec<String>, String> {
    let line = line.trim();
    if line.is_empty() {
        return Err("it is empty".to_owned());
    }
    if !line.starts_with('[') {
        return Ok(["/bin/sh", "-c", line].map(str::to_owned).to_vec());
    }
    let words: Vec<String> =
        serde_json::from_str(line).map_err(|error| format!("it is no JSON array of strings: {error}"))?;
    if words.first().is_none_or(String::is_empty) {
        return Err("it names no program".to_owned());
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_for_the_host_come_from_a_file() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(FileOfBundle::read(bundle.path()).unwrap().by_moment(), [&[] as &[String]; 3]);
        std::fs::write(bundle.path().join(FILE), r#"{"after-restore": ["true"]}"#).unwrap();
        assert_eq!(FileOfBundle::read(bundle.path()).unwrap().after_restore, ["true"]);
        let others = |mode| {
            std::fs::set_permissions(
                bundle.path().join(FILE),
                std::os::unix::fs::PermissionsExt::from_mode(mode),
            )
        };
        others(0o664).unwrap();
        assert!(FileOfBundle::read(bundle.path()).unwrap_err().to_string().contains("write to it"));
        others(0o644).unwrap();
        std::fs::write(bundle.path().join(FILE), r#"{"after-restor": ["true"]}"#).unwrap();
        let error = FileOfBundle::read(bundle.path()).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("after-restor"), "{error}");
    }

    #[test]
    fn a_line_is_for_the_shell_and_an_array_for_itself() {
        assert_eq!(words(" redis-cli save ").unwrap(), ["/bin/sh", "-c", "redis-cli save"]);
        assert_eq!(words(r#"["/bin/quiet", "two words"]"#).unwrap(), ["/bin/quiet", "two words"]);
        for wrong in ["", "  ", "[", "[1]", "[]", r#"[""]"#] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
        let mut hooks = Hooks::default();
        let error = hooks.add(Moment::AfterRestore, Side::Host, "[").unwrap_err().to_string();
        assert!(
            error.starts_with("the after-restore command [ cannot be run: it is no JSON array"),
            "{error}"
        );
    }
}
