//! What is known of seccomp.

use serde::Serialize;
use serde_json::{Value, json};

use super::reader::Reader;

/// `linux.seccomp` of the features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seccomp {
    enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operators: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    archs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    known_flags: Vec<&'static str>,
}

/// The names of the specification (`config-linux.md`), of which those that are known are told.
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
const ARCHS: [&str; 23] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

impl Seccomp {
    pub(super) fn of(reader: Reader) -> Self {
        let with = |change: Value| json!({ "linux": { "seccomp": change } });
        let rule = |action: &str, args: Value| json!([{ "names": ["kill"], "action": action, "args": args }]);
        let allowing = json!("SCMP_ACT_ALLOW");
        Self {
            enabled: reader.takes(&with(json!({ "defaultAction": allowing }))),
            actions: reader.known(ACTIONS, |action| {
                let mut filter = json!({ "defaultAction": allowing, "syscalls": rule(action, json!([])) });
                if action == "SCMP_ACT_NOTIFY" {
                    filter["listenerPath"] = json!("/run/agent");
                }
                with(filter)
            }),
            operators: reader.known(OPERATORS, |op| {
                let arg = json!([{ "index": 1, "value": 9, "valueTwo": 9, "op": op }]);
                with(json!({ "defaultAction": allowing, "syscalls": rule("SCMP_ACT_ERRNO", arg) }))
            }),
            archs: reader
                .known(ARCHS, |arch| with(json!({ "defaultAction": allowing, "architectures": [arch] }))),
            known_flags: reader
                .known(FLAGS, |flag| with(json!({ "defaultAction": allowing, "flags": [flag] }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Either there are filters, with all that the specification names, or nothing is told of them.
    #[test]
    fn nothing_of_the_specification_is_missing() {
        let own = Seccomp::of(Reader);
        let all = (ACTIONS.len(), OPERATORS.len(), ARCHS.len(), FLAGS.len());
        let told = (own.actions.len(), own.operators.len(), own.archs.len(), own.known_flags.len());
        assert_eq!(told, if own.enabled { all } else { (0, 0, 0, 0) }, "{own:?}");
    }
}
