//! The program: found as the container's user finds it, and executed.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use rustix::fs::{FileType, OFlags};

use super::{identity, streams};
use crate::config::Process;
use crate::error::{Error, Result};
use crate::proc::Proc;
use crate::sys;

/// Where a program is looked for when the container's environment has no PATH: what execvp(3) and shells take.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest /etc/passwd that is read for a home directory, in bytes: it comes with the image.
const PASSWD_MAX: u64 = 1 << 20;

/// A program that is there and may be executed.
#[derive(Debug)]
pub(super) struct Program {
    /// As it was asked for.
    name: String,
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

/// Becomes who the process is to be, goes to its folder and finds its program. With `make_folder` the folder is made
/// if it is missing, as runc does it for a container's first process. `privileged` is called when everything is done
/// that the container's rights may not suffice for, before the process takes on those.
pub(super) fn prepare(
    process: &Process,
    make_folder: bool,
    privileged: impl FnOnce() -> Result<()>,
) -> Result<Program> {
    streams::give(process.user.uid)?;
    if make_folder {
        // Best as root; if it cannot be made, going there says why.
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&process.cwd);
    }
    // Before the change of user the folder may be out of root's reach (a network file system), after it out of that
    // user's: either will do.
    let early = nix::unistd::chdir(&process.cwd);
    privileged()?;
    identity::assume(&process.user, process.capabilities.as_ref())?;
    if early.is_err() {
        nix::unistd::chdir(&process.cwd).map_err(Error::at("chdir to process.cwd", &process.cwd))?;
    }
    check_folder(&process.cwd)?;
    let umask = process.user.umask.unwrap_or(0o022);
    nix::sys::stat::umask(Mode::from_bits_truncate(umask));
    if process.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().map_err(Error::at("prctl", "PR_SET_NO_NEW_PRIVS"))?;
    }
    find(process)
}

/// A folder to which an inherited descriptor leads may lie outside of the root (CVE-2024-21626); then the kernel has
/// no path for it.
fn check_folder(folder: &Path) -> Result<()> {
    match nix::unistd::getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => Err(Error::start(format!(
            "process.cwd {} lies outside of the container's root",
            folder.display()
        ))),
    }
}

/// The program as execvp(3) would find it, in the container's PATH. The words of the errors are those that engines
/// know from runc.
fn find(process: &Process) -> Result<Program> {
    let args = process.args.iter().map(|arg| text(arg)).collect::<Result<Vec<_>>>()?;
    let env = environment(process)?;
    let name = process.args.first().cloned().unwrap_or_default();
    let path = if name.contains('/') { named(&name)? } else { in_path(&name, process)? };
    Ok(Program { name, path, args, env })
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::start(format!("{text:?} holds a zero byte")))
}

fn named(name: &str) -> Result<CString> {
    let path = text(name)?;
    match may_execute(&path) {
        Ok(()) => Ok(path),
        Err(why) => Err(Error::start(format!("exec: {name:?}: {why}"))),
    }
}

fn in_path(name: &str, process: &Process) -> Result<CString> {
    let set = process.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let mut denied = None;
    // An empty part would be the working directory, which may be anybody's: it is passed over.
    for folder in set.unwrap_or(DEFAULT_PATH).split(':').filter(|folder| folder.starts_with('/')) {
        let path = text(&format!("{}/{name}", folder.trim_end_matches('/')))?;
        match may_execute(&path) {
            Ok(()) if !name.is_empty() => return Ok(path),
            Err(why) if why == PERMISSION => denied = Some(path),
            _ => {}
        }
    }
    match denied {
        Some(path) => Err(Error::start(format!("exec: {:?}: {PERMISSION}", path.to_string_lossy()))),
        None => Err(Error::start(format!("exec: {name:?}: executable file not found in $PATH"))),
    }
}

const PERMISSION: &str = "permission denied";

/// With the words by which engines know that a program was found and can't be executed (exit status 126).
const DIRECTORY: &str = "permission denied (it is a directory)";

/// Whether it is a file that this user may execute; else why not, in words.
fn may_execute(path: &std::ffi::CStr) -> Result<(), &'static str> {
    match rustix::fs::stat(path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            return Err(DIRECTORY);
        }
        Ok(_) => {}
        Err(rustix::io::Errno::ACCESS) => return Err(PERMISSION),
        Err(rustix::io::Errno::LOOP) => return Err("too many levels of symbolic links"),
        Err(_) => return Err("no such file or directory"),
    }
    match sys::may_execute(path) {
        Ok(()) => Ok(()),
        Err(Errno::EACCES | Errno::EPERM) => Err(PERMISSION),
        Err(errno) => Err(errno.desc()),
    }
}

/// The process's environment: of a name that comes twice the last, and a HOME.
fn environment(process: &Process) -> Result<Vec<CString>> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<&str> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for variable in process.env.iter().rev() {
        if seen.insert(name(variable)) {
            kept.push(variable);
        }
    }
    kept.reverse();
    let mut env = kept.into_iter().map(text).collect::<Result<Vec<_>>>()?;
    if !seen.contains("HOME") {
        env.push(text(&format!("HOME={}", home(process.user.uid)))?);
    }
    Ok(env)
}

/// The home directory that the container's /etc/passwd has for `uid`, or `/`.
fn home(uid: u32) -> String {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut passwd = Vec::new();
    // Not to wait at a fifo that an image has there.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open("/etc/passwd");
    if let Ok(file) = file {
        let _ = file.take(PASSWD_MAX).read_to_end(&mut passwd);
    }
    home_in(&String::from_utf8_lossy(&passwd), uid).unwrap_or("/").to_owned()
}

fn home_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let (found, home) = (fields.next()?.parse::<u32>().ok()?, fields.nth(2)?);
        (found == uid && home.starts_with('/')).then_some(home)
    })
}

/// Waits at the fifo until `start` opens its other end. It is opened through `proc`, since its path is out of reach and
/// what the container has at /proc may be anything.
/// The end that is returned is held until the program is executed.
pub(super) fn wait_at(fifo: OwnedFd, proc: Proc) -> Result<OwnedFd> {
    let end = proc.reopen(fifo.as_fd(), OFlags::WRONLY, Path::new("the exec fifo"))?;
    // Before the program is executed: its path could lead through this directory.
    drop(proc);
    // Nothing is written: a `start` that was killed meanwhile would not read it, and SIGPIPE would end the process that
    // was just started. The end stays open until execve(2), whose success `start` sees by that.
    Ok(end)
}

impl Program {
    /// Becomes the program.
    pub(super) fn execute(&self) -> Result<()> {
        let failed = match nix::unistd::execve(&self.path, &self.args, &self.env) {
            Ok(never) => match never {},
            Err(errno) => errno,
        };
        let why = match failed {
            Errno::ENOEXEC => "exec format error (a program for another processor, or a script without #!)",
            Errno::ENOENT => "no such file or directory (its interpreter or loader is missing)",
            errno => errno.desc(),
        };
        Err(Error::start(format!("exec: {:?}: {why}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_in_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nno:x:1:1\nuser:x:1000:1000::/home/user:/bin/sh\n\
                      odd:x:7:7::relative:/bin/sh\n";
        assert_eq!(home_in(passwd, 0), Some("/root"));
        assert_eq!(home_in(passwd, 1000), Some("/home/user"));
        assert_eq!(home_in(passwd, 1), None);
        assert_eq!(home_in(passwd, 7), None);
    }
}
