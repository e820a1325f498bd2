//! What only the caller can do for the new process, since it has the host's privileges and paths.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::Pid;
use rustix::process::PidfdGetfdFlags;

use crate::config::{Config, Process, Rlimit, TimeOffset, TimeOffsets};
use crate::error::{Error, Result};
use crate::pidfd;
use crate::sys;

/// Writes the offsets of the clocks of the time namespace that `pid` has made for its children. `time_namespaces(7)`.
pub(super) fn set_clocks(pid: i32, offsets: &TimeOffsets) -> Result<()> {
    let path = format!("/proc/{pid}/timens_offsets");
    let text = clocks_text(offsets);
    let mut file = fs::OpenOptions::new().write(true).open(&path).map_err(Error::at("open", &path))?;
    file.write_all(text.as_bytes()).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::ERANGE) => Error::Refused {
            problem: format!("the kernel takes no such offsets of clocks: {}", text.trim().replace('\n', ", ")),
            hint: "a clock may neither be below 0 nor run out within decades: change linux.timeOffsets in config.json",
        },
        _ => Error::call("write", format!("{:?} to {path}", text.trim()), error),
    })
}

fn clocks_text(offsets: &TimeOffsets) -> String {
    let clocks = [("monotonic", offsets.monotonic), ("boottime", offsets.boottime)];
    let line = |(name, offset): (&str, Option<TimeOffset>)| {
        offset.map_or(String::new(), |offset| format!("{name} {} {}\n", offset.secs, offset.nanosecs))
    };
    clocks.map(line).concat()
}

/// Sets `/proc/PID/oom_score_adj`, which the processes that `pid` makes inherit. One that it has already is left alone,
/// since lowering it is a privilege.
///
/// To be done before `pid` protects itself: the file is root's from then on.
pub(super) fn set_oom_score(pid: i32, process: &Process) -> Result<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    let current = fs::read_to_string(&path).unwrap_or_default();
    if current.trim() == score.to_string() {
        return Ok(());
    }
    fs::write(&path, score.to_string()).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::EACCES) => Error::Refused {
            problem: format!(
                "cannot set process.oomScoreAdj to {score}: it is {} here, and lowering it needs CAP_SYS_RESOURCE",
                current.trim()
            ),
            hint: "raise it in config.json, or give floe that capability",
        },
        _ => Error::call("write", format!("{score} to {path}"), error),
    })
}

/// Sets the limits of `setrlimit(2)`, from outside: a process in a user namespace may not raise its own. One that it
/// has already is left alone.
pub(super) fn set_limits(pid: Pid, process: &Process) -> Result<()> {
    process.rlimits.iter().try_for_each(|limit| set_limit(pid, limit))
}

fn set_limit(pid: Pid, limit: &Rlimit) -> Result<()> {
    let number = limit.kind.resource() as u32;
    let name = limit.kind.name();
    let wanted = (limit.soft, limit.hard);
    let current = sys::rlimit(Some(pid), number, None).map_err(Error::at("prlimit", &name))?;
    if current == wanted {
        return Ok(());
    }
    sys::rlimit(Some(pid), number, Some(wanted)).map(drop).map_err(|errno| match errno {
        Errno::EPERM if limit.hard > current.1 => Error::Refused {
            problem: format!(
                "cannot set {name} to {}: the hard limit is {} here, and raising it needs CAP_SYS_RESOURCE, which floe \
                 does not have",
                limit.hard, current.1
            ),
            hint: "lower it in process.rlimits of config.json, or raise the limit of the one who calls floe",
        },
        _ => Error::call("prlimit", format!("{name} soft {} hard {}", limit.soft, limit.hard), errno),
    })
}

/// A copy of the descriptor that `pid`, which is not yet waited for, has under a number. `pidfd_getfd(2)`, Linux 5.6.
///
/// It isn't sent, since the process is under a filter already: but for `write`, no call is certain to be let through.
pub(super) fn take(pid: Pid, number: i32) -> Result<OwnedFd> {
    let failed = || Error::at("pidfd_getfd", format!("descriptor {number} of process {pid}"));
    let process = pidfd::open(pid).map_err(failed())?;
    rustix::process::pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).map_err(failed())
}

/// Refuses the one number that is no id: to the kernel it means "leave it as it is" (`setresuid(2)`, `chown(2)`), so that
/// a process that asks for it would stay root.
pub(super) fn check_ids(config: &Config) -> Result<()> {
    let user = &config.process.user;
    let groups = user.additional_gids.iter().map(|gid| ("process.user.additionalGids", *gid));
    let own = [("process.user.uid", user.uid), ("process.user.gid", user.gid)].into_iter().chain(groups);
    let devices = config.devices.iter().flat_map(|device| {
        [
            ("the uid of a device of linux.devices", device.uid),
            ("the gid of a device of linux.devices", device.gid),
        ]
    });
    match own.chain(devices).find(|(_, id)| *id == u32::MAX) {
        None => Ok(()),
        Some((key, id)) => Err(Error::Refused {
            problem: format!("{key} is {id}, which is no number of a user or group"),
            hint: "choose one below; 4294967295 is -1, and means nobody in particular",
        }),
    }
}

/// The descriptors from 3 on that are to be kept have to be there, and the caller's: every one of this process's own
/// has close-on-exec.
pub(super) fn check_preserved(count: u32) -> Result<()> {
    let last = count.checked_add(2).and_then(|last| i32::try_from(last).ok()).ok_or(Error::Refused {
        problem: format!("cannot hand on {count} descriptors"),
        hint: "--preserve-fds takes the number of descriptors after standard error",
    })?;
    match (3..=last).find(|number| !sys::is_handed_on(*number).unwrap_or(false)) {
        None => Ok(()),
        Some(number) => Err(Error::Refused {
            problem: format!("cannot hand on {count} descriptors: number {number} is not open"),
            hint: "--preserve-fds takes the number of descriptors after standard error, which have to be open",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RlimitKind;

    #[test]
    fn a_clock_that_is_left_alone_has_no_line() {
        let offset = |secs, nanosecs| Some(TimeOffset { secs, nanosecs });
        let offsets = TimeOffsets { monotonic: offset(-5, 7), boottime: offset(86_400, 0) };
        assert_eq!(clocks_text(&offsets), "monotonic -5 7\nboottime 86400 0\n");
        assert_eq!(clocks_text(&TimeOffsets { monotonic: None, ..offsets }), "boottime 86400 0\n");
    }

    #[test]
    fn a_limit_that_stands_is_not_set_again() {
        let own = nix::unistd::getpid();
        let (soft, hard) = sys::rlimit(None, RlimitKind::Core.resource() as u32, None).unwrap();
        set_limit(own, &Rlimit { kind: RlimitKind::Core, soft, hard }).unwrap();
    }

    #[test]
    fn descriptors_that_are_not_there_are_named() {
        check_preserved(0).unwrap();
        assert!(check_preserved(100_000).unwrap_err().to_string().contains("is not open"));
        assert!(check_preserved(u32::MAX).is_err());
    }
}
