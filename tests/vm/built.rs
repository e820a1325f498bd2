//! The test programs of this machine in a guest: built here, where there is a compiler, and run there, where the kernel is
//! another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::machine::{Machine, done, strip};

impl Machine {
    /// Puts test programs into it: of each its name, and behind it arguments if there are to be any.
    #[track_caller]
    pub fn with_programs(self, programs: &[&str]) -> Self {
        let built = Built::new(programs);
        let repository = fs::canonicalize(repository()).unwrap();
        let inside = |path: &Path| self.place("tree").join(path.strip_prefix(&repository).unwrap());
        for folder in ["tests", "tree/cli", "tree/runtime", "tree/target/programs"] {
            fs::create_dir_all(self.place(folder)).unwrap();
        }
        done(Command::new("cp").arg("-a").arg(repository.join("scripts")).arg(self.place("tree")));
        // podman's profile, which scripts/setup installs here.
        fs::copy("/usr/share/containers/seccomp.json", self.place("seccomp.json"))
            .expect("/usr/share/containers/seccomp.json: run scripts/setup");
        // The path by which the tests know it.
        let floe = inside(Path::new(env!("CARGO_BIN_EXE_floe")));
        fs::create_dir_all(floe.parent().unwrap()).unwrap();
        fs::hard_link(self.place("floe"), floe).unwrap();
        for program in &built.programs {
            strip(program, &self.place("tree/target/programs").join(program.file_name().unwrap()));
        }
        let mut list = String::new();
        for program in programs {
            let name = name(program);
            strip(&built.test(name), &self.place("tests").join(name));
            list += &format!("{program}\n");
        }
        fs::write(self.place("list"), list).unwrap();
        fs::write(self.place("repository"), repository.to_str().unwrap()).unwrap();
        self
    }
}

fn name(program: &str) -> &str {
    program.split(' ').next().unwrap_or(program)
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What cargo has built, or found to be as it should.
struct Built {
    tests: Vec<(String, PathBuf)>,
    /// The programs that are frozen.
    programs: Vec<PathBuf>,
}

impl Built {
    fn new(programs: &[&str]) -> Self {
        // As `make` builds them, so that nothing is built twice.
        let mut tests = vec!["test", "--no-run", "--workspace"];
        tests.extend(programs.iter().flat_map(|program| ["--test", name(program)]));
        let tests = cargo(&tests).into_iter().filter(|(kind, ..)| kind == "test");
        let programs = cargo(&["build", "--workspace", "--bins"]);
        let programs = programs.into_iter().filter(|(.., package)| package.contains("tests/programs"));
        Self {
            tests: tests.map(|(_, name, path, _)| (name, path)).collect(),
            programs: programs.map(|(_, _, path, _)| path).collect(),
        }
    }

    #[track_caller]
    fn test(&self, name: &str) -> PathBuf {
        let found = self.tests.iter().find(|(test, _)| test == name);
        found.unwrap_or_else(|| panic!("cargo has not built the test {name}: {:?}", self.tests)).1.clone()
    }
}

/// Kind, name, path and package of each program that cargo builds by these words.
#[track_caller]
fn cargo(words: &[&str]) -> Vec<(String, String, PathBuf, String)> {
    let folder = Path::new(env!("CARGO_BIN_EXE_floe")).parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command.args(words).args(["--quiet", "--locked", "--message-format", "json"]);
    command.current_dir(repository()).arg("--target-dir").arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let programs = messages.filter_map(|message| {
        let (path, target) = (message["executable"].as_str()?, &message["target"]);
        Some((text(&target["kind"][0]), text(&target["name"]), path.into(), text(&message["package_id"])))
    });
    programs.collect()
}
