//! A guest: what goes into it, and its run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A guest that has not been booted yet, with a job, floe and a bundle beside it.
pub struct Machine {
    job: &'static str,
    kind: &'static str,
    folder: tempfile::TempDir,
    seconds: u32,
    mebibytes: u32,
    processors: u32,
}

impl Machine {
    /// For a job of `tests/vm/jobs`.
    pub fn new(job: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { job, kind: "plain", folder, seconds: 600, mebibytes: 1024, processors: 1 };
        fs::copy(here().join("jobs").join(job), machine.place("job")).unwrap();
        fs::copy(here().join("jobs/lib"), machine.place("lib")).unwrap();
        fs::create_dir(machine.place("empty")).unwrap();
        strip(Path::new(env!("CARGO_BIN_EXE_floe")), &machine.place("floe"));
        done(Command::new(here().join("../../scripts/bundle-busybox")).arg(machine.place("bundle")));
        machine
    }

    /// Booted by systemd, and not by the job alone.
    pub fn booted_by_systemd(mut self) -> Self {
        self.kind = "systemd";
        self
    }

    /// With so much time and memory, and a second processor.
    pub fn large(mut self, seconds: u32, mebibytes: u32) -> Self {
        (self.seconds, self.mebibytes, self.processors) = (seconds, mebibytes, 2);
        self
    }

    /// A path in the folder that becomes the job's.
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Boots it, and waits for its end; the job has to be content.
    #[track_caller]
    pub fn run(self) {
        let mut guest = Command::new(here().join("guest"));
        guest.arg(self.folder.path()).arg(self.kind);
        guest.env("FLOE_VM_SECONDS", self.seconds.to_string());
        guest.env("FLOE_VM_MEMORY", self.mebibytes.to_string());
        guest.env("FLOE_VM_PROCESSORS", self.processors.to_string());
        let said = done(&mut guest);
        assert!(said.contains(&format!("{}: all is well", self.job)), "{said}");
        // What it took is shown with --nocapture.
        println!("{said}");
    }
}

fn here() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vm"))
}

/// A program without what debuggers need: it is a quarter of the size, and there sooner.
#[track_caller]
pub fn strip(program: &Path, to: &Path) {
    done(Command::new("strip").arg("-o").arg(to).arg(program));
}

/// Runs a command, which has to succeed; what it said.
#[track_caller]
pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/setup"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}
