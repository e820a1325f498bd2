//! When and where the new process runs. Set from outside, with the rights of the one who calls floe: a process in a user
//! namespace has none over the host's processors and disks.

mod sys;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::config::{IoPriority, NumberSet, Process, Scheduler};
use crate::error::{Error, Result};
use sys::SchedAttr;

/// Sets scheduling and I/O priority of `pid`.
///
/// # Errors
/// [`Error::Refused`] for what the caller may not set; [`Error::Call`].
pub(crate) fn set(pid: Pid, process: &Process) -> Result<()> {
    if let Some(scheduler) = &process.scheduler {
        sys::sched_setattr(pid, &attributes(scheduler)).map_err(|errno| explain(scheduler, errno))?;
    }
    if let Some(priority) = process.io_priority {
        sys::ioprio_set(pid, io_number(priority)).map_err(|errno| match errno {
            Errno::EPERM => Error::Refused {
                problem: format!(
                    "process.ioPriority.class {:?} needs CAP_SYS_NICE, which floe does not have",
                    priority.class
                ),
                hint: "take IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE, or give floe that capability",
            },
            errno => Error::call("ioprio_set", "process.ioPriority", errno),
        })?;
    }
    Ok(())
}

fn attributes(scheduler: &Scheduler) -> SchedAttr {
    SchedAttr {
        policy: scheduler.policy as u32,
        flags: scheduler.flags.iter().fold(0, |all, flag| all | *flag as u64),
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..SchedAttr::default()
    }
}

fn explain(scheduler: &Scheduler, errno: Errno) -> Error {
    let policy = scheduler.policy;
    match errno {
        Errno::EPERM => Error::Refused {
            problem: format!("process.scheduler cannot be set to {policy:?} (operation not permitted)"),
            hint: "it needs CAP_SYS_NICE, and in the container's cgroup time for real-time processes \
                   (linux.resources.cpu.realtimeRuntime) or, with SCHED_DEADLINE, all processors",
        },
        Errno::EBUSY => Error::Refused {
            problem: "process.scheduler asks for more time than the processors have left".to_owned(),
            hint: "lower the runtime, or raise the period",
        },
        errno => Error::call("sched_setattr", format!("process.scheduler, {policy:?}"), errno),
    }
}

/// `IOPRIO_PRIO_VALUE` of `include/uapi/linux/ioprio.h`.
fn io_number(priority: IoPriority) -> u16 {
    (priority.class as u16) << 13 | u16::from(priority.priority)
}

/// The processors that a process joins a container with, before it is in the container's cgroup.
///
/// # Errors
/// As [`set_final_affinity`].
pub(crate) fn set_initial_affinity(pid: Pid, process: &Process) -> Result<()> {
    let affinity = process.exec_cpu_affinity.as_ref();
    set_affinity(pid, affinity.and_then(|affinity| affinity.initial.as_ref()), "initial")
}

/// The processors that it has from then on. Where nothing is said they are left alone.
///
/// # Errors
/// [`Error::Refused`] if none of them is one that it may run on.
pub(crate) fn set_final_affinity(pid: Pid, process: &Process) -> Result<()> {
    let affinity = process.exec_cpu_affinity.as_ref();
    set_affinity(pid, affinity.and_then(|affinity| affinity.last.as_ref()), "final")
}

fn set_affinity(pid: Pid, processors: Option<&NumberSet>, which: &str) -> Result<()> {
    let Some(processors) = processors else { return Ok(()) };
    sys::sched_setaffinity(pid, processors.mask()).map_err(|errno| match errno {
        Errno::EINVAL => Error::Refused {
            problem: format!(
                "process.execCPUAffinity.{which} is {processors}, none of which it may run on here"
            ),
            hint: "see /sys/devices/system/cpu/online, and the container's cpuset.cpus.effective",
        },
        errno => {
            Error::call("sched_setaffinity", format!("process.execCPUAffinity.{which}, {processors}"), errno)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CpuAffinity, IoClass, SchedulerFlag, SchedulerPolicy};

    #[test]
    fn attributes_are_the_kernels() {
        let scheduler = Scheduler {
            policy: SchedulerPolicy::Deadline,
            nice: 0,
            priority: 0,
            flags: vec![SchedulerFlag::ResetOnFork, SchedulerFlag::DlOverrun],
            runtime: 1,
            deadline: 2,
            period: 3,
        };
        let attributes = attributes(&scheduler);
        assert_eq!((attributes.policy, attributes.flags), (6, 5));
        assert_eq!((attributes.runtime, attributes.deadline, attributes.period), (1, 2, 3));
        assert_eq!(io_number(IoPriority { class: IoClass::Idle, priority: 7 }), 0x6007);
    }

    #[test]
    fn processors_that_are_not_there_are_named() {
        let mut process = Process::sample();
        let none = CpuAffinity { initial: None, last: Some("8000-8191".parse().unwrap()) };
        process.exec_cpu_affinity = Some(none);
        set_initial_affinity(Pid::this(), &process).unwrap();
        let error = set_final_affinity(Pid::this(), &process).unwrap_err().to_string();
        assert!(error.starts_with("process.execCPUAffinity.final is 8000-8191"), "{error}");
    }
}
