//! The process's own attributes, and its program.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use rustix::thread::{CapabilitySet as Caps, CapabilitySets};

use crate::config::{Capabilities, Process};
use crate::error::{Error, Result};
use crate::sys;

/// A program that is there and may be executed.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

/// Sets `/proc/self/oom_score_adj`, while the host's /proc is still there.
pub(crate) fn set_oom_score(process: &Process) -> Result<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let path = "/proc/self/oom_score_adj";
    let current = std::fs::read_to_string(path).unwrap_or_default();
    if current.trim() == score.to_string() {
        return Ok(());
    }
    std::fs::write(path, score.to_string()).map_err(Error::at("write", path))
}

/// Sets the limits of setrlimit(2). One that the process has already is left alone, so that a limit that could not be
/// raised may still be asked for where it stands.
pub(crate) fn set_limits(process: &Process) -> Result<()> {
    for limit in &process.rlimits {
        let number = limit.kind.resource() as u32;
        let wanted = (limit.soft, limit.hard);
        if sys::rlimit(number, None).is_ok_and(|current| current == wanted) {
            continue;
        }
        sys::rlimit(number, Some(wanted)).map_err(|errno| {
            let what = match errno {
                Errno::EPERM => "raising a limit needs CAP_SYS_RESOURCE, which floe was not given here; lower it in the bundle".to_owned(),
                other => other.desc().to_owned(),
            };
            Error::start(format!("rlimit {:?} {}:{}: {what}", limit.kind, limit.soft, limit.hard))
        })?;
    }
    Ok(())
}

/// Standard streams on the host's `/dev/null` are put on the container's own, if it has one: what a container holds
/// open of the host stands in the way of its checkpoint.
pub(crate) fn reopen_null() -> Result<()> {
    use crate::sys::StandardStream::{Error as Stderr, Input, Output};
    use rustix::fs::{CWD, Mode, OFlags, fstat, makedev, openat};
    let path = "/dev/null";
    let Ok(null) = openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else { return Ok(()) };
    let is_null = |stat: rustix::fs::Stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
            && stat.st_rdev == makedev(1, 3)
    };
    if !fstat(&null).is_ok_and(is_null) {
        return Ok(());
    }
    let streams = [
        (Input, fstat(rustix::stdio::stdin())),
        (Output, fstat(rustix::stdio::stdout())),
        (Stderr, fstat(rustix::stdio::stderr())),
    ];
    for (stream, stat) in streams {
        if stat.is_ok_and(is_null) {
            sys::install_standard_stream(std::os::fd::AsFd::as_fd(&null), stream).map_err(Error::at("dup2", path))?;
        }
    }
    Ok(())
}

/// Takes on the process's user, groups and capabilities, goes to its folder and finds its program.
pub(crate) fn become_user(process: &Process) -> Result<Program> {
    let user = &process.user;
    let none = Capabilities::default();
    let capabilities = process.capabilities.as_ref().unwrap_or(&none);
    drop_bounding(capabilities)?;
    // Before the change of user the folder may be out of that user's reach, after it out of root's (NFS): both work.
    let arrived = go_to(&process.cwd).is_ok();
    rustix::thread::set_keep_capabilities(true).map_err(Error::at("prctl", "PR_SET_KEEPCAPS"))?;
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    if !groups.is_empty() || can_set_groups() {
        nix::unistd::setgroups(&groups).map_err(Error::at("setgroups", format!("{groups:?}")))?;
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    nix::unistd::setresgid(gid, gid, gid).map_err(Error::at("setresgid", gid.to_string()))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(Error::at("setresuid", uid.to_string()))?;
    rustix::thread::set_keep_capabilities(false).map_err(Error::at("prctl", "PR_SET_KEEPCAPS"))?;
    set_capabilities(capabilities)?;
    if !arrived {
        go_to(&process.cwd)?;
    }
    nix::sys::stat::umask(Mode::from_bits_truncate(user.umask.unwrap_or(0o022)));
    if process.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().map_err(Error::at("prctl", "PR_SET_NO_NEW_PRIVS"))?;
    }
    find(process)
}

/// A user namespace made without privileges denies setgroups(2) for good (user_namespaces(7)).
fn can_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny")
}

fn go_to(folder: &Path) -> Result<()> {
    match nix::unistd::chdir(folder) {
        Err(Errno::ENOENT) => {
            std::fs::create_dir_all(folder).map_err(Error::at("mkdir", folder))?;
            nix::unistd::chdir(folder).map_err(Error::at("chdir", folder))?;
        }
        other => other.map_err(Error::at("chdir", folder))?,
    }
    // A folder that an inherited descriptor leads to may lie outside of the root (CVE-2024-21626); then the kernel
    // has no path for it.
    nix::unistd::getcwd().map(drop).map_err(|_| {
        Error::start(format!(
            "the working directory {} lies outside of the container's root",
            folder.display()
        ))
    })
}

fn drop_bounding(capabilities: &Capabilities) -> Result<()> {
    let keep = Caps::from_bits_retain(capabilities.bounding.bits());
    for number in 0..64 {
        let one = Caps::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match rustix::thread::capability_is_in_bounding_set(one) {
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(one)
                .map_err(Error::at("prctl", format!("PR_CAPBSET_DROP {number}")))?,
            Ok(false) => {}
            // Beyond the last one that this kernel knows.
            Err(_) => break,
        }
    }
    Ok(())
}

fn set_capabilities(capabilities: &Capabilities) -> Result<()> {
    let sets = CapabilitySets {
        effective: Caps::from_bits_retain(capabilities.effective.bits()),
        permitted: Caps::from_bits_retain(capabilities.permitted.bits()),
        inheritable: Caps::from_bits_retain(capabilities.inheritable.bits()),
    };
    rustix::thread::set_capabilities(None, sets).map_err(|error| {
        Error::start(format!(
            "capset: {error}: floe itself must have every capability that the process is to have"
        ))
    })?;
    rustix::thread::clear_ambient_capability_set().map_err(Error::at("prctl", "PR_CAP_AMBIENT"))?;
    let (permitted, inheritable) = (capabilities.permitted, capabilities.inheritable);
    // The kernel takes only what is permitted and inheritable (capabilities(7)); configurations that name more
    // (`runc spec` of 1.1 does) mean as much as they can have.
    let possible = |capability: &crate::config::Capability| permitted.contains(*capability) && inheritable.contains(*capability);
    for capability in capabilities.ambient.iter().filter(possible) {
        let one = Caps::from_bits_retain(1 << capability.number());
        rustix::thread::configure_capability_in_ambient_set(one, true)
            .map_err(Error::at("add to the ambient set", capability.name()))?;
    }
    Ok(())
}

/// The program as execvp(3) would find it, in the container's PATH.
fn find(process: &Process) -> Result<Program> {
    let text =
        |text: &str| CString::new(text).map_err(|_| Error::start(format!("{text:?} holds a zero byte")));
    let args = process.args.iter().map(|arg| text(arg)).collect::<Result<Vec<_>>>()?;
    let mut env = process.env.iter().map(|variable| text(variable)).collect::<Result<Vec<_>>>()?;
    if !process.env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(text(&format!("HOME={}", home(process.user.uid)))?);
    }
    let name = process.args.first().map_or("", String::as_str);
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        let path = process.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
        std::env::split_paths(OsStr::new(path.unwrap_or(""))).map(|folder| folder.join(name)).collect()
    };
    let mut denied = None;
    for candidate in candidates {
        let path = CString::new(candidate.as_os_str().as_bytes()).map_err(|_| not_found(name))?;
        match sys::may_execute(&path) {
            Ok(()) if !candidate.is_dir() => return Ok(Program { path, args, env }),
            Ok(()) => denied = Some(format!("exec {}: it is a folder", candidate.display())),
            Err(Errno::EACCES) => denied = Some(format!("exec {}: permission denied", candidate.display())),
            Err(_) => {}
        }
    }
    Err(denied.map_or_else(|| not_found(name), |what| Error::start(what)))
}

fn not_found(name: &str) -> Error {
    let what = if name.contains('/') {
        format!("exec {name}: no such file or directory in the container")
    } else {
        format!("exec {name:?}: executable file not found in the container's $PATH")
    };
    Error::start(what)
}

fn home(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 5 && fields[2].parse() == Ok(uid) && !fields[5].is_empty());
    found.map_or_else(|| "/".to_owned(), |fields| fields[5].to_owned())
}

/// Waits at the fifo until `start` opens its other end.
pub(crate) fn wait_at(fifo: &OwnedFd) -> Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fifo));
    let end = loop {
        match openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.map_err(Error::at("open", "the exec fifo"))?,
        }
    };
    rustix::io::write(&end, &[0]).map(drop).map_err(Error::at("write", "the exec fifo"))
}

/// Becomes the program.
pub(crate) fn execute(program: &Program, process: &Process) -> Result<()> {
    let failed = match nix::unistd::execve(&program.path, &program.args, &program.env) {
        Ok(never) => match never {},
        Err(errno) => errno,
    };
    let name = process.args.first().map_or("", String::as_str);
    Err(Error::start(format!("exec {name}: {}", failed.desc())))
}
