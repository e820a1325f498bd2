//! What may be typed: the flags that every verb has, and the verbs.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Command, FromArgMatches, Parser, ValueEnum};

use crate::commands::{self, Verb};

/// Freezes a running container, keeps it as one file, and lets it run again.
#[derive(Debug, Parser)]
// podman repeats flags, for which runc's library takes the last.
#[command(
    name = "floe",
    version,
    disable_version_flag = true,
    max_term_width = 100,
    args_override_self = true
)]
pub struct Cli {
    /// Print the version.
    #[arg(long, short, visible_short_alias = 'V', action = ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Where the state of containers is kept: /run/floe, for an ordinary user $XDG_RUNTIME_DIR/floe.
    // The help is the same for everybody.
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = floe_runtime::default_root(), hide_default_value = true)]
    pub root: PathBuf,
    /// Write messages to this file as well.
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of the messages in that file.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
    /// Tell more.
    #[arg(long, global = true)]
    pub debug: bool,
    /// The CRIU to use; otherwise $FLOE_CRIU, the one that scripts/setup installed, or criu in PATH.
    #[arg(long, global = true, value_name = "PATH")]
    pub criu: Option<PathBuf>,
    /// Let systemd make the cgroups; linux.cgroupsPath is slice:prefix:name then.
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,
    /// Accepted for compatibility.
    // Not for use behind a verb: `spec` has a flag of this name, and clap would take the one for the other.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub rootless: Option<Option<String>>,
}

/// Text for people or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// How progress is shown, on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// A bar on a terminal, nothing elsewhere.
    Auto,
    Bar,
    /// One JSON object a line.
    Json,
    None,
}

/// Reads what was typed.
///
/// Building every verb's grammar takes longer than most of them do. So the verbs that engines call all the time are tried
/// with their own alone; whatever that does not take, help included, is left to the whole.
pub fn parse() -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let one = words.iter().skip(1).find_map(|word| commands::frequent(word.to_str()?));
    one.and_then(|verb| parse_one(verb, &words)).map_or_else(|| parse_whole(words), Ok)
}

fn parse_whole(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(as_go_writes(words))
}

/// Programs in Go write `-image-path` for `--image-path` now and then (containerd's `-no-subreaper`), for which runc's
/// library takes it. Only for verbs without words of a program behind the name, and only for flags that they have.
fn as_go_writes(mut words: Vec<OsString>) -> Vec<OsString> {
    let command = <Cli as clap::CommandFactory>::command();
    let Some(at) = verb_at(&command, &words) else { return words };
    let named = words[at].to_str().filter(|name| matches!(*name, "checkpoint" | "restore"));
    let Some(verb) = named.and_then(|name| command.find_subcommand(name)) else { return words };
    for word in &mut words[at + 1..] {
        let Some(name) = word.to_str().and_then(|text| text.strip_prefix('-')) else { continue };
        let name = name.split('=').next().unwrap_or(name);
        let mut flags = verb.get_arguments().chain(command.get_arguments());
        if name.len() > 1 && flags.any(|flag| flag.get_long() == Some(name)) {
            let long = format!("-{}", word.to_string_lossy());
            *word = OsString::from(long);
        }
    }
    words
}

/// Which of the words is the verb: the first that is neither a flag of every verb nor the value of one.
fn verb_at(command: &Command, words: &[OsString]) -> Option<usize> {
    let takes_the_next = |name: &str| {
        command.get_arguments().any(|flag| {
            flag.get_long() == Some(name) && flag.get_action().takes_values() && !flag.is_require_equals_set()
        })
    };
    let mut at = 1;
    loop {
        let word = words.get(at)?.to_str()?;
        at += match word.strip_prefix("--") {
            Some(name) => 1 + usize::from(takes_the_next(name)),
            None if word.starts_with('-') => 1,
            None => return Some(at),
        };
    }
}

fn parse_one(verb: Command, words: &[OsString]) -> Option<Cli> {
    let floe = Globals::augment_args(Command::new("floe").args_override_self(true))
        .subcommand_required(true)
        .subcommand(verb);
    let matches = floe.try_get_matches_from(words).ok()?;
    Some(Cli {
        version: None,
        globals: Globals::from_arg_matches(&matches).ok()?,
        verb: Verb::from_arg_matches(&matches).ok()?,
    })
}

/// Says what was wrong with what was typed. Engines look for the words `flag needs an argument`.
pub fn usage(error: &clap::Error) -> ExitCode {
    let value = error.get(ContextKind::InvalidValue);
    let empty = matches!(value, Some(ContextValue::String(text)) if text.is_empty());
    if error.kind() == ErrorKind::InvalidValue
        && empty
        && let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
    {
        let name = flag.split([' ', '=']).next().unwrap_or(flag);
        crate::logging::complain(&format!("floe: flag needs an argument: {name}"));
        return ExitCode::from(2);
    }
    if error.kind() == ErrorKind::DisplayVersion {
        let _ = std::io::stdout().write_all(version().as_bytes());
        return ExitCode::SUCCESS;
    }
    // Help is no error.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The version in runc's form, which engines read: the name and number in the first line, then a key a line.
fn version() -> String {
    let commit = option_env!("FLOE_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.map(|commit| format!("commit: {commit}\n")).unwrap_or_default();
    let spec = floe_runtime::OCI_VERSION;
    format!("floe version {}\n{commit}spec: {spec}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["floe", "spec", "--rootless"]).is_ok());
        assert!(Cli::try_parse_from(["floe", "--rootless=auto", "list"]).is_ok());
    }

    #[test]
    fn flags_may_stand_behind_a_name() {
        // As with runc, for every verb but exec.
        for words in
            ["create web --bundle x", "run web -b x --detach", "kill web --all", "delete web --force"]
        {
            let cli = Cli::try_parse_from(["floe"].into_iter().chain(words.split(' ')));
            assert!(cli.is_ok(), "{words}: {cli:?}");
        }
        let words = ["floe", "run", "--config", "file", "web", "sh", "-c", "true", "--detach"];
        let Verb::Run(arguments) = Cli::try_parse_from(words).unwrap().verb else { panic!("not run") };
        assert!(format!("{arguments:?}").contains(r#"["sh", "-c", "true", "--detach"]"#), "{arguments:?}");
    }

    #[test]
    fn engines_read_the_version() {
        for flag in ["--version", "-v", "-V"] {
            let kind = Cli::try_parse_from(["floe", flag]).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::DisplayVersion, "{flag}");
        }
        let text = version();
        assert!(text.starts_with(concat!("floe version ", env!("CARGO_PKG_VERSION"), "\n")), "{text}");
        assert!(text.ends_with(&format!("\nspec: {}\n", floe_runtime::OCI_VERSION)), "{text}");
    }

    #[test]
    fn a_verb_alone_is_read_as_among_all() {
        for line in [
            "--root /r --log l --log-format json create --bundle b --pid-file p --console-socket c web",
            "create web -b b",
            "--root create start web",
            "run --detach -b b web",
            "run --config f --env A=b --env B=c web sh -c true --detach",
            "run -d -d --bundle a --bundle b web",
            "state web",
            "kill --all web TERM",
            "delete --force web --debug",
            "exec -t --user 1:2 web ls --debug -- -x",
        ] {
            let words: Vec<OsString> =
                std::iter::once("floe").chain(line.split(' ')).map(OsString::from).collect();
            let verb = words.iter().skip(1).find_map(|word| commands::frequent(word.to_str()?)).unwrap();
            let whole = Cli::try_parse_from(&words).unwrap();
            match parse_one(verb, &words) {
                Some(alone) => assert_eq!(format!("{alone:?}"), format!("{whole:?}"), "{line}"),
                None => {
                    assert!(line.starts_with("--root create"), "{line}: the state directory is called so")
                }
            }
        }
    }

    #[test]
    fn a_program_keeps_its_own_flags() {
        let cli = Cli::try_parse_from(["floe", "exec", "-t", "web", "ls", "--debug", "--", "-x"]).unwrap();
        assert!(matches!(cli.verb, Verb::Exec(_)));
        assert!(!cli.globals.debug, "behind the container's name everything is the program's");
    }

    #[test]
    fn one_dash_is_enough_for_the_flags_of_two_verbs_and_nobody_elses() {
        let go = |text: &str| {
            let words = as_go_writes(text.split(' ').map(OsString::from).collect());
            words.join(OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(
            go("floe --root restore --debug restore -no-subreaper -work-path=w -d x"),
            "floe --root restore --debug restore --no-subreaper --work-path=w -d x"
        );
        for words in [
            "floe exec web tool restore -detach",
            "floe run -b checkpoint web",
            "floe state restore -leave-running",
            "floe --rootless checkpoint -no-such-flag x",
            "floe --root",
        ] {
            assert_eq!(go(words), words);
        }
    }
}
