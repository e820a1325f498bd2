//! `linux.seccomp`.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};

use super::Source;
use crate::config::{
    Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompFlag, SeccompOperator, SeccompRule,
};
use crate::error::Result;

/// Highest error number of the kernel, `MAX_ERRNO` of `include/linux/err.h`.
const MAX_ERRNO: u32 = 4095;

pub(super) fn convert(seccomp: &LinuxSeccomp, source: Source<'_>) -> Result<Seccomp> {
    let default_action = action(
        seccomp.default_action(),
        seccomp.default_errno_ret(),
        "linux.seccomp.defaultErrnoRet",
        source,
    )?;
    if default_action == SeccompAction::Notify {
        return Err(source.bad(
            "linux.seccomp.defaultAction",
            "must not be SCMP_ACT_NOTIFY: the calls with which floe hands over to the agent would wait for it",
        ));
    }
    let rules = seccomp.syscalls().iter().flatten().enumerate();
    let rules = rules.map(|(number, call)| rule(call, number, source)).collect::<Result<_>>()?;
    let listener_path = seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    let listener_metadata = seccomp.listener_metadata().clone().filter(|text| !text.is_empty());
    let converted = Seccomp {
        default_action,
        architectures: seccomp.architectures().iter().flatten().filter_map(|one| arch(*one)).collect(),
        flags: seccomp.flags().as_ref().map(|flags| flags.iter().map(|one| flag(*one)).collect()),
        rules,
        listener_path,
        listener_metadata,
    };
    check_listener(&converted, source)?;
    Ok(converted)
}

fn check_listener(seccomp: &Seccomp, source: Source<'_>) -> Result<()> {
    let key = "linux.seccomp.listenerPath";
    match &seccomp.listener_path {
        Some(path) if !path.is_absolute() => Err(source.bad(key, "must be absolute")),
        None if seccomp.notifies() => {
            Err(source.bad(key, "is missing, and a rule of linux.seccomp.syscalls has SCMP_ACT_NOTIFY"))
        }
        None if seccomp.listener_metadata.is_some() => {
            Err(source.bad("linux.seccomp.listenerMetadata", format!("is set, and {key} is not")))
        }
        _ => Ok(()),
    }
}

fn rule(call: &LinuxSyscall, number: usize, source: Source<'_>) -> Result<SeccompRule> {
    let key = |part: &str| format!("linux.seccomp.syscalls[{number}].{part}");
    if call.names().is_empty() {
        return Err(source.bad(key("names"), "is empty; a rule is about one call at least"));
    }
    let action = action(call.action(), call.errno_ret(), &key("errnoRet"), source)?;
    if action == SeccompAction::Notify && call.names().iter().any(|name| name == "write") {
        return Err(source.bad(
            key("action"),
            "must not be SCMP_ACT_NOTIFY for write: floe's call that hands over to the agent would wait for it",
        ));
    }
    let args = call.args().iter().flatten().enumerate();
    Ok(SeccompRule {
        names: call.names().clone(),
        action,
        args: args
            .map(|(at, arg)| condition(*arg, &key(&format!("args[{at}]")), source))
            .collect::<Result<_>>()?,
    })
}

fn condition(arg: LinuxSeccompArg, key: &str, source: Source<'_>) -> Result<SeccompArg> {
    let index = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
    Ok(SeccompArg {
        index: index
            .ok_or_else(|| source.bad(format!("{key}.index"), "must be 0 to 5: a call has six arguments"))?,
        op: operator(arg.op()),
        value: arg.value(),
        value_two: arg.value_two().unwrap_or(0),
    })
}

fn action(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    key: &str,
    source: Source<'_>,
) -> Result<SeccompAction> {
    let number = || {
        let number = errno.unwrap_or(nix::libc::EPERM.unsigned_abs());
        u16::try_from(number).map_err(|_| source.bad(key, format!("{number} is above 65535")))
    };
    let converted = match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        LinuxSeccompAction::ScmpActErrno if errno.is_some_and(|errno| errno > MAX_ERRNO) => {
            return Err(source.bad(key, format!("is above {MAX_ERRNO}, the highest error number")));
        }
        LinuxSeccompAction::ScmpActErrno => SeccompAction::Errno(number()?),
        LinuxSeccompAction::ScmpActTrace => SeccompAction::Trace(number()?),
        LinuxSeccompAction::ScmpActNotify => SeccompAction::Notify,
        LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
    };
    let takes_one = matches!(converted, SeccompAction::Errno(_) | SeccompAction::Trace(_));
    if errno.is_some() && !takes_one {
        return Err(source.bad(key, "is set, and only SCMP_ACT_ERRNO and SCMP_ACT_TRACE take a number"));
    }
    Ok(converted)
}

fn operator(operator: LinuxSeccompOperator) -> SeccompOperator {
    match operator {
        LinuxSeccompOperator::ScmpCmpNe => SeccompOperator::Ne,
        LinuxSeccompOperator::ScmpCmpLt => SeccompOperator::Lt,
        LinuxSeccompOperator::ScmpCmpLe => SeccompOperator::Le,
        LinuxSeccompOperator::ScmpCmpEq => SeccompOperator::Eq,
        LinuxSeccompOperator::ScmpCmpGe => SeccompOperator::Ge,
        LinuxSeccompOperator::ScmpCmpGt => SeccompOperator::Gt,
        LinuxSeccompOperator::ScmpCmpMaskedEq => SeccompOperator::MaskedEq,
    }
}

fn flag(flag: LinuxSeccompFilterFlag) -> SeccompFlag {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => SeccompFlag::Log,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => SeccompFlag::Tsync,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SeccompFlag::SpecAllow,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => SeccompFlag::WaitKillableRecv,
    }
}

/// `None` is this machine's own, which is filtered anyway.
fn arch(arch: Arch) -> Option<SeccompArch> {
    Some(match arch {
        Arch::ScmpArchNative => return None,
        Arch::ScmpArchX86 => SeccompArch::X86,
        Arch::ScmpArchX86_64 => SeccompArch::X86_64,
        Arch::ScmpArchX32 => SeccompArch::X32,
        Arch::ScmpArchArm => SeccompArch::Arm,
        Arch::ScmpArchAarch64 => SeccompArch::Aarch64,
        Arch::ScmpArchMips => SeccompArch::Mips,
        Arch::ScmpArchMips64 => SeccompArch::Mips64,
        Arch::ScmpArchMips64n32 => SeccompArch::Mips64N32,
        Arch::ScmpArchMipsel => SeccompArch::Mipsel,
        Arch::ScmpArchMipsel64 => SeccompArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => SeccompArch::Mipsel64N32,
        Arch::ScmpArchPpc => SeccompArch::Ppc,
        Arch::ScmpArchPpc64 => SeccompArch::Ppc64,
        Arch::ScmpArchPpc64le => SeccompArch::Ppc64Le,
        Arch::ScmpArchS390 => SeccompArch::S390,
        Arch::ScmpArchS390x => SeccompArch::S390X,
        Arch::ScmpArchParisc => SeccompArch::Parisc,
        Arch::ScmpArchParisc64 => SeccompArch::Parisc64,
        Arch::ScmpArchRiscv64 => SeccompArch::Riscv64,
        Arch::ScmpArchLoongarch64 => SeccompArch::Loongarch64,
        Arch::ScmpArchM68k => SeccompArch::M68k,
        Arch::ScmpArchSh => SeccompArch::Sh,
        Arch::ScmpArchSheb => SeccompArch::Sheb,
    })
}
