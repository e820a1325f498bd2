//! The device program of a version 2 cgroup: loaded and put in the place of what was there.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::list::DeviceList;
use super::program::{Instruction, compile};
use super::{may_be_without, sys};
use crate::error::{Error, Result};

/// Makes the cgroup `dir` decide about devices as `list` does. There is no moment without a program, nor one with two
/// that are both needed, where the kernel (5.6) can replace one.
///
/// Where nobody may load programs (in a user namespace, or without being root), and where the list allows everything
/// anyway, a failure is passed over.
///
/// # Errors
/// [`Error::Call`].
pub(in crate::cgroup) fn enforce(dir: &Path, list: &DeviceList) -> Result<()> {
    match replace(dir, &compile(list)) {
        Err(error) if list.allows_everything() || may_be_without() => {
            tracing::debug!("device rules are not enforced: {}", error.in_full());
            Ok(())
        }
        other => other,
    }
}

fn replace(dir: &Path, program: &[Instruction]) -> Result<()> {
    let failed =
        |call| move |errno: Errno| Error::call(call, format!("device program of {}", dir.display()), errno);
    let cgroup = File::open(dir).map_err(Error::at("open", dir))?;
    let old = attached(&cgroup).map_err(failed("bpf (query)"))?;
    let new = load(program).map_err(failed("bpf (load)"))?;
    if let [one] = old.as_slice() {
        match sys::attach(cgroup.as_fd(), new.as_fd(), Some(one.as_fd())) {
            Ok(()) => return Ok(()),
            // Before Linux 5.6.
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(failed("bpf (replace)")(errno)),
        }
    }
    // Both have to allow for a moment; what the old one denies and the new one allows comes a little later.
    sys::attach(cgroup.as_fd(), new.as_fd(), None).map_err(failed("bpf (attach)"))?;
    for program in &old {
        match sys::detach(cgroup.as_fd(), program.as_fd()) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed("bpf (detach)")(errno)),
        }
    }
    Ok(())
}

/// The programs that are there: systemd's, or that of an earlier call. One that may not be looked at (a security module
/// can forbid that) stays: it can only deny more.
fn attached(cgroup: &File) -> std::result::Result<Vec<OwnedFd>, Errno> {
    let mut programs = Vec::new();
    for id in sys::attached(cgroup.as_fd())? {
        match sys::by_id(id) {
            Ok(program) => programs.push(program),
            // Gone meanwhile, or not ours to see.
            Err(Errno::ENOENT) => {}
            Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
                tracing::debug!("device program {id} is left attached: {errno}");
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

/// Before Linux 5.11 programs count as locked memory, of which few processes may have enough; for the time of the call
/// the limit is lifted.
fn load(program: &[Instruction]) -> std::result::Result<OwnedFd, Errno> {
    let refused = match sys::load(program) {
        Err(errno @ Errno::EPERM) => errno,
        other => return other,
    };
    let number = libc::RLIMIT_MEMLOCK;
    let before = crate::sys::rlimit(None, number, Some((u64::MAX, u64::MAX))).map_err(|_| refused)?;
    let loaded = sys::load(program);
    let _ = crate::sys::rlimit(None, number, Some(before));
    loaded
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::list::tests::rules;
    use super::*;

    /// A cgroup of the host's unified hierarchy that is removed at the end.
    struct Group(std::path::PathBuf);

    impl Group {
        fn new(name: &str) -> Self {
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
            let mount = line.and_then(|line| line.split(' ').nth(1)).expect(
                "these tests need cgroup version 2: mount -t cgroup2 none /sys/fs/cgroup/unified, as root",
            );
            let path = Path::new(mount).join(format!("floe-test-devices-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// Whether a process in it may run `script`.
        fn may(&self, script: &str) -> bool {
            let enter = format!("echo $$ >{}/cgroup.procs && {script}", self.0.display());
            Command::new("sh")
                .args(["-c", &enter])
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap()
                .success()
        }

        fn enforce(&self, lines: &[&str]) {
            enforce(&self.0, &DeviceList::of(&rules(lines)).unwrap()).unwrap();
        }

        fn programs(&self) -> Vec<u32> {
            sys::attached(File::open(&self.0).unwrap().as_fd()).unwrap()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            std::fs::remove_dir(&self.0).unwrap();
        }
    }

    const READ: &str = "exec </dev/zero";
    const WRITE: &str = "exec >/dev/zero";

    #[test]
    fn the_kernel_asks_the_program() {
        let group = Group::new("asked");
        assert!(group.may(READ) && group.may(WRITE) && group.programs().is_empty());
        group.enforce(&["deny a", "allow c 1:3 rwm", "allow c 1:5 r"]);
        assert!(group.may(READ) && !group.may(WRITE) && group.may("exec >/dev/null"));
        let node = std::env::temp_dir().join(format!("floe-test-node-{}", std::process::id()));
        let make = format!("mknod {} c 1 5", node.display());
        assert!(!group.may(&make));
        group.enforce(&["allow a", "deny c 1:5 w"]);
        assert!(group.may(READ) && !group.may(WRITE) && group.may("exec </dev/full"));
        assert!(!group.may("exec <>/dev/zero"), "a part of the access is denied");
        assert!(group.may(&make));
        std::fs::remove_file(&node).unwrap();
    }

    #[test]
    fn there_is_always_one_program() {
        let group = Group::new("one");
        let mut before = Vec::new();
        for lines in [&["deny a"][..], &["allow a"], &["allow c *:* rwm"]] {
            group.enforce(lines);
            let now = group.programs();
            assert!(now.len() == 1 && now != before, "{now:?} after {before:?}");
            before = now;
        }
        // Somebody else's beside it: both give way to the new one.
        let dir = File::open(&group.0).unwrap();
        let other = sys::load(&compile(&DeviceList::of(&rules(&["deny a"])).unwrap())).unwrap();
        sys::attach(dir.as_fd(), other.as_fd(), None).unwrap();
        assert!(group.programs().len() == 2 && !group.may(READ));
        group.enforce(&["allow a"]);
        assert!(group.programs().len() == 1 && group.may(READ));
    }

    #[test]
    fn no_moment_is_without_a_program() {
        let group = Group::new("moment");
        group.enforce(&["deny a", "allow c 1:3 rwm"]);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let allowed = std::thread::scope(|scope| {
            let tried = scope.spawn(|| {
                let mut allowed = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    allowed += u32::from(
                        group.may("for i in 1 2 3 4 5 6 7 8 9; do (exec </dev/zero) && exit 0; done; exit 1"),
                    );
                }
                allowed
            });
            for round in 0..200 {
                group.enforce(if round % 2 == 0 { &["deny a"] } else { &["deny a", "allow c 1:3 rwm"] });
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            tried.join().unwrap()
        });
        assert_eq!(allowed, 0);
    }
}
