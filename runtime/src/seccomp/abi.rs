//! The ways in which a program can call this kernel: which numbers system calls have in each.
//!
//! A filter sees the architecture of a call (`AUDIT_ARCH_*` of `include/uapi/linux/audit.h`) and its number. Only those
//! that this processor runs are here: a call of another never comes, so that what a profile says about it is passed over.

use crate::config::SeccompArch;

/// One table of system calls.
#[derive(Debug)]
pub(super) struct Abi {
    /// Its name in profiles.
    pub(super) arch: SeccompArch,
    /// What the kernel calls it; two tables may have the same (`x86_64` and `x32`).
    pub(super) audit: u32,
    /// The first number that is its own.
    pub(super) first: u32,
    /// The last number that is its own.
    pub(super) last: u32,
    /// Whether arguments are 32 bits wide. As libseccomp does it, only those are compared then.
    pub(super) narrow: bool,
    /// The highest number that has a name, without [`Abi::first`].
    highest: u32,
    name: fn(u32) -> Option<&'static str>,
    /// Calls beyond the table, which tell nothing of how new a kernel is.
    beyond: &'static [(u32, &'static str)],
}

impl Abi {
    /// Every call of the table by number, ascending, as `seccomp_data.nr` has it.
    pub(super) fn calls(&self) -> impl Iterator<Item = (u32, &'static str)> {
        let named = |number| Some((self.first + number, (self.name)(number)?));
        (0..=self.highest).filter_map(named)
    }

    /// As [`Abi::calls`], the calls that have numbers far beyond.
    pub(super) fn beyond(&self) -> impl Iterator<Item = (u32, &'static str)> {
        self.beyond.iter().copied()
    }
}

/// The tables of this processor; the first is the one of floe itself. None where no filter can be made.
pub(super) const ABIS: &[Abi] = tables::ABIS;

#[cfg(target_arch = "x86_64")]
mod tables {
    use syscalls::{x86, x86_64};

    use super::Abi;
    use crate::config::SeccompArch;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    /// `__X32_SYSCALL_BIT` of `arch/x86/include/uapi/asm/unistd.h`.
    const X32: u32 = 0x4000_0000;

    pub(super) const ABIS: &[Abi] = &[
        Abi {
            arch: SeccompArch::X86_64,
            audit: X86_64,
            first: 0,
            last: X32 - 1,
            narrow: false,
            highest: x86_64::Sysno::last().id() as u32,
            name: name_64,
            beyond: &[],
        },
        Abi {
            arch: SeccompArch::X86,
            audit: I386,
            first: 0,
            last: u32::MAX,
            narrow: true,
            highest: x86::Sysno::last().id() as u32,
            name: |number| Some(x86::Sysno::new(number as usize)?.name()),
            beyond: &[],
        },
        Abi {
            arch: SeccompArch::X32,
            audit: X86_64,
            first: X32,
            last: u32::MAX,
            narrow: true,
            highest: FIRST_OF_X32 + X32_ONLY.len() as u32 - 1,
            name: name_x32,
            beyond: &[],
        },
    ];

    fn name_64(number: u32) -> Option<&'static str> {
        Some(x86_64::Sysno::new(number as usize)?.name())
    }

    /// `arch/x86/entry/syscalls/syscall_64.tbl`: x32 has the numbers of `x86_64`, but for calls whose arguments differ.
    fn name_x32(number: u32) -> Option<&'static str> {
        match number.checked_sub(FIRST_OF_X32) {
            Some(own) => X32_ONLY.get(own as usize).copied(),
            None => name_64(number).filter(|name| !X32_ONLY.contains(name) && !NOT_X32.contains(name)),
        }
    }

    /// What only 64-bit programs have, most of it long gone.
    const NOT_X32: [&str; 11] = [
        "uselib",
        "_sysctl",
        "create_module",
        "get_kernel_syms",
        "query_module",
        "nfsservctl",
        "set_thread_area",
        "get_thread_area",
        "epoll_ctl_old",
        "epoll_wait_old",
        "vserver",
    ];

    const FIRST_OF_X32: u32 = 512;

    /// From number 512 on.
    const X32_ONLY: [&str; 36] = [
        "rt_sigaction",
        "rt_sigreturn",
        "ioctl",
        "readv",
        "writev",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "execve",
        "ptrace",
        "rt_sigpending",
        "rt_sigtimedwait",
        "rt_sigqueueinfo",
        "sigaltstack",
        "timer_create",
        "mq_notify",
        "kexec_load",
        "waitid",
        "set_robust_list",
        "get_robust_list",
        "vmsplice",
        "move_pages",
        "preadv",
        "pwritev",
        "rt_tgsigqueueinfo",
        "recvmmsg",
        "sendmmsg",
        "process_vm_readv",
        "process_vm_writev",
        "setsockopt",
        "getsockopt",
        "io_setup",
        "io_submit",
        "execveat",
        "preadv2",
        "pwritev2",
    ];
}

#[cfg(target_arch = "aarch64")]
mod tables {
    use syscalls::{aarch64, arm};

    use super::Abi;
    use crate::config::SeccompArch;

    /// `__ARM_NR_BASE` of `arch/arm/include/uapi/asm/unistd.h`.
    const PRIVATE: u32 = 0xf_0000;

    pub(super) const ABIS: &[Abi] = &[
        Abi {
            arch: SeccompArch::Aarch64,
            audit: 0xc000_00b7,
            first: 0,
            last: u32::MAX,
            narrow: false,
            highest: aarch64::Sysno::last().id() as u32,
            name: name_64,
            beyond: &[],
        },
        Abi {
            arch: SeccompArch::Arm,
            audit: 0x4000_0028,
            first: 0,
            last: u32::MAX,
            narrow: true,
            highest: arm::Sysno::last().id() as u32,
            name: |number| Some(arm::Sysno::new(number as usize)?.name()),
            beyond: &[
                (PRIVATE + 1, "breakpoint"),
                (PRIVATE + 2, "cacheflush"),
                (PRIVATE + 3, "usr26"),
                (PRIVATE + 4, "usr32"),
                (PRIVATE + 5, "set_tls"),
            ],
        },
    ];

    /// The kernel and every profile say `newfstatat`; the crate has another name, on this processor alone.
    fn name_64(number: u32) -> Option<&'static str> {
        match aarch64::Sysno::new(number as usize)?.name() {
            "fstatat" => Some("newfstatat"),
            name => Some(name),
        }
    }
}

#[cfg(target_arch = "riscv64")]
mod tables {
    use syscalls::riscv64;

    use super::Abi;
    use crate::config::SeccompArch;

    pub(super) const ABIS: &[Abi] = &[Abi {
        arch: SeccompArch::Riscv64,
        audit: 0xc000_00f3,
        first: 0,
        last: u32::MAX,
        narrow: false,
        highest: riscv64::Sysno::last().id() as u32,
        name: |number| Some(riscv64::Sysno::new(number as usize)?.name()),
        beyond: &[],
    }];
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod tables {
    pub(super) const ABIS: &[super::Abi] = &[];
}

/// 32-bit x86 had one call for all that sockets do, and one for System V IPC; which of it is meant is their first
/// argument (`socketcall(2)`, `ipc(2)`). Programs may still use them, so that a rule for a call is one for that, too.
///
/// The call that holds others, by its name; and what its first argument is for `name`.
pub(super) fn gathered(arch: SeccompArch, name: &str) -> Option<(&'static str, u32)> {
    if arch != SeccompArch::X86 {
        return None;
    }
    let within = |list: &[(&str, u32)]| list.iter().find(|(one, _)| *one == name).map(|(_, number)| *number);
    within(SOCKET_CALLS)
        .map(|number| ("socketcall", number))
        .or_else(|| within(IPC_CALLS).map(|number| ("ipc", number)))
}

/// `include/uapi/linux/net.h`.
const SOCKET_CALLS: &[(&str, u32)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// `include/uapi/linux/ipc.h`.
const IPC_CALLS: &[(&str, u32)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
