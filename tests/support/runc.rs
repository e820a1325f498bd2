//! The runc of the distribution, beside floe, and a `criu` for programs that look for it in PATH.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{MARK, Place, Said, said};

/// A CRIU of the private prefix: `criu`, or `criu-next`.
pub fn criu(name: &str) -> PathBuf {
    let path = super::prefix().join("bin").join(name);
    assert!(path.exists(), "{} is missing; scripts/setup installs it", path.display());
    path
}

/// A PATH whose first `criu` is this one.
pub fn path_with(place: &Place, criu: &Path) -> OsString {
    let folder = place.join("path");
    fs::create_dir_all(&folder).unwrap();
    let _ = fs::remove_file(folder.join("criu"));
    symlink(criu, folder.join("criu")).unwrap();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&rest))).unwrap()
}

/// A runc with a state folder in the place, and these words.
pub fn runc<S: AsRef<OsStr>>(place: &Place, criu: &Path, words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("runc");
    command.arg("--root").arg(place.join("runc")).args(words).env("PATH", path_with(place, criu));
    command.env(MARK, place.mark()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs it, and it has to succeed.
#[track_caller]
pub fn runc_ok<S: AsRef<OsStr>>(place: &Place, criu: &Path, words: impl IntoIterator<Item = S>) -> Said {
    let mut command = runc(place, criu, words);
    // A container that stays would hold the file for its output, which CRIU does not find in it.
    let said = if command.get_args().any(|word| word == "--detach") {
        let code = command.status().unwrap().code();
        Said { code, stdout: String::new(), stderr: String::new() }
    } else {
        said(&mut command)
    };
    let log = words_after(&command, "--image-path").map(|folder| folder.join("dump.log"));
    let log = log.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("Error (")).collect();
    assert_eq!(said.code, Some(0), "{command:?}: {said:?}: {errors:#?}");
    said
}

fn words_after(command: &Command, flag: &str) -> Option<PathBuf> {
    command.get_args().skip_while(|word| *word != flag).nth(1).map(PathBuf::from)
}
