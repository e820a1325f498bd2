//! Filters of system calls.
//!
//! The caller of a launch compiles a profile ([`compile`]) and sends the program to the process that becomes the
//! container's, which has nothing to do but to load it ([`Filter::load`]), as late as it can: everything that happens
//! between that and `execve(2)` has to be in the profile.
//!
//! Who decides about calls with `SCMP_ACT_NOTIFY` is an agent outside: [`tell_agent`] sends it the descriptor from which
//! it hears of them. `docs/decisions/0009-seccomp-filters.md` says why the compiler is floe's own.

mod abi;
mod agent;
mod bpf;
mod compile;

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::config::{Seccomp, SeccompFlag};
use crate::error::{Error, Result};
use crate::sys;

pub(crate) use agent::tell_agent;
pub(crate) use bpf::Instruction;

// Of `include/uapi/linux/seccomp.h`.
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_NEW_LISTENER: u32 = 1 << 3;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A profile as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    program: Vec<Instruction>,
    flags: u32,
}

/// Compiles a profile.
///
/// # Errors
/// [`Error::Refused`] when it is too long for the kernel, or floe has no tables of system calls for this processor.
pub(crate) fn compile(profile: &Seccomp) -> Result<Filter> {
    if abi::ABIS.is_empty() {
        return Err(Error::Refused {
            problem: "linux.seccomp: this build of floe makes no filters for its processor".to_owned(),
            hint: "remove it from config.json to run without",
        });
    }
    let program = compile::program(profile);
    if program.len() > bpf::MOST {
        return Err(Error::Refused {
            problem: format!(
                "linux.seccomp is too long: it takes {} instructions, and the kernel accepts {}",
                program.len(),
                bpf::MOST
            ),
            hint: "name fewer architectures, or use fewer conditions on arguments",
        });
    }
    Ok(Filter { program, flags: flags(profile) })
}

/// Where nothing is said, speculation is left as it is, as with runc: the mitigation costs every program, and those that
/// need it ask for it (`prctl(2)`, `PR_SET_SPECULATION_CTRL`).
fn flags(profile: &Seccomp) -> u32 {
    let notifies = profile.notifies();
    let listener = if notifies { FLAG_NEW_LISTENER } else { 0 };
    let Some(given) = &profile.flags else { return listener | FLAG_SPEC_ALLOW };
    let number = |flag: &SeccompFlag| match flag {
        SeccompFlag::Log => FLAG_LOG,
        SeccompFlag::SpecAllow => FLAG_SPEC_ALLOW,
        // It is about what a listener has received, and the kernel refuses it without one.
        SeccompFlag::WaitKillableRecv if notifies => FLAG_WAIT_KILLABLE_RECV,
        SeccompFlag::WaitKillableRecv | SeccompFlag::Tsync => 0,
    };
    given.iter().map(number).fold(listener, |all, flag| all | flag)
}

impl Filter {
    /// Whether an agent decides about some calls.
    pub(crate) fn notifies(&self) -> bool {
        self.flags & FLAG_NEW_LISTENER != 0
    }

    /// Loads it into this process. Returns the descriptor for the agent, if one decides.
    ///
    /// # Errors
    /// [`Error::Child`] in words; `EACCES` without `CAP_SYS_ADMIN` and "no new privileges".
    pub(crate) fn load(&self) -> Result<Option<OwnedFd>> {
        sys::load_seccomp(self.flags, &self.program).map_err(|errno| match errno {
            Errno::EINVAL if self.flags & FLAG_WAIT_KILLABLE_RECV != 0 => Error::start(
                "linux.seccomp.flags: the kernel refused them (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs Linux 5.19)",
            ),
            Errno::EBUSY => Error::start(
                "linux.seccomp: an agent decides about calls of floe itself already, and there can be but one",
            ),
            Errno::ENOSYS => Error::start("linux.seccomp: this kernel has no filters (CONFIG_SECCOMP_FILTER)"),
            errno => Error::call("load the filter of", "linux.seccomp", errno),
        })
    }
}

#[cfg(test)]
mod tests;
