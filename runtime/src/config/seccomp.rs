//! Which system calls a container may make: `linux.seccomp` of the OCI runtime specification, `seccomp(2)`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A filter, as rules. Where several rules name one call, one without conditions goes before those that have some, and
/// then the first of them counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seccomp {
    /// What happens to a call that no rule matches. Not [`SeccompAction::Notify`].
    pub default_action: SeccompAction,
    /// The architectures whose calls are filtered; this machine's own is always one of them. A call of any other kills
    /// its thread.
    pub architectures: Vec<SeccompArch>,
    /// Flags of `seccomp(2)`; `None` sets [`SeccompFlag::SpecAllow`] where the kernel knows it, as runc does.
    pub flags: Option<Vec<SeccompFlag>>,
    /// The rules.
    pub rules: Vec<SeccompRule>,
    /// The UNIX socket of the agent that gets the descriptor of notifications. There if a rule has
    /// [`SeccompAction::Notify`].
    pub listener_path: Option<PathBuf>,
    /// What the agent gets told beside that.
    pub listener_metadata: Option<String>,
}

impl Seccomp {
    /// Whether any call is passed on to an agent.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == SeccompAction::Notify)
    }
}

/// What happens to some calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRule {
    /// The calls, by name. One that is not known on an architecture is passed over there.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: SeccompAction,
    /// Conditions on the arguments, all of which have to hold; when two are about the same argument, any of all.
    pub args: Vec<SeccompArg>,
}

/// What happens to a call (`SECCOMP_RET_*` in `seccomp(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompAction {
    /// Its thread is killed by SIGSYS.
    KillThread,
    /// Its process is killed by SIGSYS, with a core dump.
    KillProcess,
    /// Its thread gets the signal SIGSYS.
    Trap,
    /// It fails with this error number, at most 4095.
    Errno(u16),
    /// A tracer is told this number; without one the call fails with `ENOSYS`.
    Trace(u16),
    /// It is executed and logged.
    Log,
    /// The agent at [`Seccomp::listener_path`] decides.
    Notify,
    /// It is executed.
    Allow,
}

/// A condition on an argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompArg {
    /// Which, 0 to 5.
    pub index: u32,
    /// How it is compared.
    pub op: SeccompOperator,
    /// What with; for [`SeccompOperator::MaskedEq`] the mask.
    pub value: u64,
    /// For [`SeccompOperator::MaskedEq`] what the masked argument has to be.
    pub value_two: u64,
}

/// A comparison, unsigned, of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the comparisons say what they are")]
pub enum SeccompOperator {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// A flag of `seccomp(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompFlag {
    /// All threads get the filter. A container's process has one when it is loaded, so this asks for nothing.
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    /// What is not allowed is logged (Linux 4.14).
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    /// Speculative Store Bypass is not mitigated (Linux 4.17).
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    /// A call that the agent has received waits until it is answered, whatever signals come but fatal ones (Linux 5.19).
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

/// An architecture, as the kernel tells them apart (`AUDIT_ARCH_*` in `include/uapi/linux/audit.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the architectures say what they are")]
pub enum SeccompArch {
    #[serde(rename = "SCMP_ARCH_X86")]
    X86,
    #[serde(rename = "SCMP_ARCH_X86_64")]
    X86_64,
    #[serde(rename = "SCMP_ARCH_X32")]
    X32,
    #[serde(rename = "SCMP_ARCH_ARM")]
    Arm,
    #[serde(rename = "SCMP_ARCH_AARCH64")]
    Aarch64,
    #[serde(rename = "SCMP_ARCH_MIPS")]
    Mips,
    #[serde(rename = "SCMP_ARCH_MIPS64")]
    Mips64,
    #[serde(rename = "SCMP_ARCH_MIPS64N32")]
    Mips64N32,
    #[serde(rename = "SCMP_ARCH_MIPSEL")]
    Mipsel,
    #[serde(rename = "SCMP_ARCH_MIPSEL64")]
    Mipsel64,
    #[serde(rename = "SCMP_ARCH_MIPSEL64N32")]
    Mipsel64N32,
    #[serde(rename = "SCMP_ARCH_PPC")]
    Ppc,
    #[serde(rename = "SCMP_ARCH_PPC64")]
    Ppc64,
    #[serde(rename = "SCMP_ARCH_PPC64LE")]
    Ppc64Le,
    #[serde(rename = "SCMP_ARCH_S390")]
    S390,
    #[serde(rename = "SCMP_ARCH_S390X")]
    S390X,
    #[serde(rename = "SCMP_ARCH_PARISC")]
    Parisc,
    #[serde(rename = "SCMP_ARCH_PARISC64")]
    Parisc64,
    #[serde(rename = "SCMP_ARCH_RISCV64")]
    Riscv64,
    #[serde(rename = "SCMP_ARCH_LOONGARCH64")]
    Loongarch64,
    #[serde(rename = "SCMP_ARCH_M68K")]
    M68k,
    #[serde(rename = "SCMP_ARCH_SH")]
    Sh,
    #[serde(rename = "SCMP_ARCH_SHEB")]
    Sheb,
}
