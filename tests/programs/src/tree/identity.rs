//! Who a process is: session, group, user, limits, priority, place, and a child that has ended.
//!
//! All of it is in the portrait; here it is made different from process to process.

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Gid, Pid, Uid, chdir, setgroups, setpgid, setresgid, setresuid, setsid};

use super::{Node, Part, Settings};
use crate::report::Report;
use crate::sys::{self, Side};

/// What the child that has ended returned.
const STATUS: i32 = 37;

/// Whether a node ends up as an ordinary user.
#[must_use]
pub fn gives_up_root(index: usize, settings: &Settings) -> bool {
    settings.users && index % 10 == 6
}

/// What children inherit, or what must be there before them.
///
/// # Errors
/// The kernel's.
pub fn before_children(node: &Node) -> Result<()> {
    match node.index % 10 {
        1 if node.index != 1 => {
            setsid().context("setsid")?;
        }
        2 => setpgid(Pid::from_raw(0), Pid::from_raw(0)).context("setpgid")?,
        _ => {}
    }
    Ok(())
}

/// Makes a node different, as long as it may, and has one thread.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let index = node.index;
    match index % 10 {
        3 => parts.push(Box::new(Ended::new()?)),
        4 => {
            rustix::process::nice(5 + (index / 10) as i32)?;
        }
        5 => {
            umask(Mode::from_bits_truncate(0o027));
            let place = node.settings.folder.join(format!("place-{index}"));
            std::fs::create_dir(&place)?;
            chdir(&place)?;
        }
        7 => unusual(index)?,
        8 => {
            sys::handle_quietly(Signal::SIGUSR2 as i32, libc::SA_RESTART | libc::SA_ONSTACK)?;
            sys::handle_quietly(Signal::SIGHUP as i32, libc::SA_NODEFER)?;
        }
        _ => {}
    }
    Ok(())
}

/// What takes away the right to do the rest.
///
/// # Errors
/// The kernel's.
pub fn at_last(node: &Node) -> Result<()> {
    if gives_up_root(node.index, &node.settings) {
        let id = 1000 + node.index as u32;
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        setgroups(&[group, Gid::from_raw(id + 1), Gid::from_raw(id + 2)])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
        // Whoever changes its user may not look at itself any more, until it says that it may be looked at.
        prctl::set_dumpable(true)?;
    }
    Ok(())
}

fn unusual(index: usize) -> Result<()> {
    std::fs::write("/proc/self/oom_score_adj", format!("{}", 100 + index)).context("oom_score_adj")?;
    prctl::set_no_new_privs()?;
    prctl::set_child_subreaper(index == 17)?;
    prctl::set_pdeathsig(Signal::SIGCONT)?;
    prctl::set_name(c"unusual (name)")?;
    sys::schedule_as_batch()?;
    let (_, most) = getrlimit(Resource::RLIMIT_STACK)?;
    setrlimit(Resource::RLIMIT_CORE, 4096 * index as u64, 4096 * index as u64).context("RLIMIT_CORE")?;
    setrlimit(Resource::RLIMIT_STACK, most.min(9 << 20), most).context("RLIMIT_STACK")?;
    Ok(())
}

/// A child that has ended, and that nobody has asked for.
struct Ended {
    child: Pid,
}

impl Ended {
    fn new() -> Result<Self> {
        match sys::fork()? {
            Side::Child => std::process::exit(STATUS),
            Side::Parent(child) => Ok(Self { child }),
        }
    }

    fn wait(&self) -> Result<WaitStatus> {
        Ok(waitid(Id::Pid(self.child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?)
    }
}

impl Part for Ended {
    fn look(&mut self, _round: u32, report: &mut Report) {
        if let Some(found) = report.works("wait for a child that has ended", self.wait()) {
            report.same("a child that has ended", &WaitStatus::Exited(self.child, STATUS), &found);
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        // It is recorded as ended, so it has to be.
        self.wait().map(drop)
    }
}
