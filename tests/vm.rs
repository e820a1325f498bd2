//! In a guest with a stock Debian kernel, for what the kernel of the machine that tests may not have. `tests/vm/image`
//! builds the guest, each job in `tests/vm/jobs` is a script that runs there as root, and says what it found wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs a job in a guest of this kind, with floe and a bundle beside it.
#[track_caller]
fn run(job: &str, kind: &str) {
    let here = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vm"));
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    fs::copy(here.join("jobs").join(job), place("job")).unwrap();
    fs::copy(here.join("jobs/lib"), place("lib")).unwrap();
    fs::create_dir(place("empty")).unwrap();
    let done = |command: &mut Command| {
        let output =
            command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/setup"));
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
        said
    };
    // Without what debuggers need it is a quarter of the size, and there sooner.
    done(Command::new("strip").arg("-o").arg(place("floe")).arg(env!("CARGO_BIN_EXE_floe")));
    done(Command::new(here.join("../../scripts/bundle-busybox")).arg(place("bundle")));
    let said = done(Command::new(here.join("guest")).arg(dir.path()).arg(kind));
    assert!(said.contains(&format!("{job}: all is well")), "{said}");
}

#[test]
fn cgroup_version_2_with_every_controller() {
    run("cgroup2", "plain");
}

#[test]
fn apparmor_profiles() {
    run("apparmor", "plain");
}

#[test]
fn scopes_of_systemd() {
    run("systemd", "systemd");
}
