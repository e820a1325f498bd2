//! Seccomp: libcontainer has numbers for actions and comparisons, OCI has words.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::source::Source;
use crate::error::Result;

/// A filter as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seccomp {
    default_action: i64,
    architectures: Vec<String>,
    flags: Vec<String>,
    syscalls: Vec<Syscall>,
    default_errno_ret: Option<u32>,
    listener_path: String,
    listener_metadata: String,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Syscall {
    name: String,
    names: Vec<String>,
    action: i64,
    #[serde(alias = "errno_ret")]
    errnoret: Option<u32>,
    args: Vec<Argument>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Argument {
    index: u32,
    value: u64,
    value_two: u64,
    op: i64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// By libcontainer's numbers, from 1.
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
];

/// By libcontainer's numbers, from 1.
const COMPARISONS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_GT",
    "SCMP_CMP_GE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_MASKED_EQ",
];

/// Names of libcontainer and OCI for processors: those of `seccomp(2)` in lower case without the beginning.
fn architecture(name: &str) -> String {
    if name.starts_with("SCMP_ARCH_") {
        return name.to_owned();
    }
    let name = match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    format!("SCMP_ARCH_{}", name.to_ascii_uppercase())
}

fn numbered(words: &[&'static str], number: i64) -> Option<&'static str> {
    usize::try_from(number).ok()?.checked_sub(1).and_then(|place| words.get(place).copied())
}

impl Seccomp {
    pub(super) fn refuse_unknown(&self, source: Source<'_>) -> Result<()> {
        source.none_unknown("seccomp", &self.unknown)?;
        source.none_unknown_of("seccomp.syscalls", self.syscalls.iter().map(|call| &call.unknown))?;
        for (number, call) in self.syscalls.iter().enumerate() {
            let list = format!("seccomp.syscalls[{number}].args");
            source.none_unknown_of(&list, call.args.iter().map(|argument| &argument.unknown))?;
        }
        Ok(())
    }

    pub(super) fn in_oci_words(&self, source: Source<'_>) -> Result<Value> {
        let action = |key: &str, number: i64| {
            numbered(&ACTIONS, number).ok_or_else(|| {
                source.bad(key, format!("{number} is no action; they are numbered from 1 to 9"))
            })
        };
        let mut value = json!({
            "defaultAction": action("seccomp.default_action", self.default_action)?,
            "architectures": self.architectures.iter().map(|name| architecture(name)).collect::<Vec<_>>(),
        });
        if !self.flags.is_empty() {
            value["flags"] = json!(self.flags);
        }
        if let Some(errno) = self.default_errno_ret {
            value["defaultErrnoRet"] = json!(errno);
        }
        for (key, text) in
            [("listenerPath", &self.listener_path), ("listenerMetadata", &self.listener_metadata)]
        {
            if !text.is_empty() {
                value[key] = json!(text);
            }
        }
        let mut syscalls = Vec::new();
        for (number, call) in self.syscalls.iter().enumerate() {
            let key = format!("seccomp.syscalls[{number}]");
            let names: Vec<&String> =
                Some(&call.name).filter(|name| !name.is_empty()).into_iter().chain(&call.names).collect();
            let mut converted = json!({
                "names": names,
                "action": action(&format!("{key}.action"), call.action)?,
                "args": call.arguments(&key, source)?,
            });
            if let Some(errno) = call.errnoret {
                converted["errnoRet"] = json!(errno);
            }
            syscalls.push(converted);
        }
        value["syscalls"] = json!(syscalls);
        Ok(value)
    }
}

impl Syscall {
    fn arguments(&self, key: &str, source: Source<'_>) -> Result<Vec<Value>> {
        let convert = |(number, argument): (usize, &Argument)| {
            let op = numbered(&COMPARISONS, argument.op).ok_or_else(|| {
                let problem = format!("{} is no comparison; they are numbered from 1 to 7", argument.op);
                source.bad(format!("{key}.args[{number}].op"), problem)
            })?;
            Ok(json!({
                "index": argument.index,
                "value": argument.value,
                "valueTwo": argument.value_two,
                "op": op,
            }))
        };
        self.args.iter().enumerate().map(convert).collect()
    }
}
