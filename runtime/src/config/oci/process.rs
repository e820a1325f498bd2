//! The process of a bundle, or of `exec --process`.

use std::path::Path;

use oci_spec::runtime::{Capabilities as OciSet, PosixRlimitType, Process as Oci};

use super::{Source, scheduling};
use crate::config::{Capabilities, CapabilitySet, ConsoleSize, Process, Rlimit, RlimitKind, User};
use crate::error::{Error, Result};

/// Reads the JSON of a `process` object from `file`.
///
/// # Errors
/// [`Error::Json`], [`Error::BadConfig`], [`Error::Unsupported`].
pub fn from_json(text: &[u8], file: &Path) -> Result<Process> {
    let source = Source { file };
    let process: Oci = super::parse(text, "OCI process", "process.", source)?;
    convert(&process, source)
}

pub(super) fn convert(process: &Oci, source: Source<'_>) -> Result<Process> {
    let args = process.args().clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(source.bad("process.args", "is empty; its first entry is the program"));
    }
    if !process.cwd().is_absolute() {
        return Err(source.bad("process.cwd", "must be absolute"));
    }
    let user = process.user();
    if user.umask().is_some_and(|mask| mask > 0o777) {
        return Err(source
            .bad("process.user.umask", "has bits beyond 0777 (511 in JSON, which has no octal numbers)"));
    }
    let rlimits = process.rlimits().iter().flatten();
    let mut seen = std::collections::HashSet::new();
    for (number, limit) in process.rlimits().iter().flatten().enumerate() {
        if !seen.insert(kind(limit.typ())) {
            let problem = format!("is a second {}", limit.typ());
            return Err(source.bad(format!("process.rlimits[{number}]"), problem));
        }
    }
    Ok(Process {
        args,
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        user: User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
        },
        capabilities: process
            .capabilities()
            .as_ref()
            .map(|sets| {
                Ok::<_, Error>(Capabilities {
                    bounding: set(sets.bounding(), "bounding", source)?,
                    effective: set(sets.effective(), "effective", source)?,
                    inheritable: set(sets.inheritable(), "inheritable", source)?,
                    permitted: set(sets.permitted(), "permitted", source)?,
                    ambient: set(sets.ambient(), "ambient", source)?,
                })
            })
            .transpose()?,
        rlimits: rlimits
            .map(|limit| Rlimit { kind: kind(limit.typ()), soft: limit.soft(), hard: limit.hard() })
            .collect(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        terminal: process.terminal().unwrap_or(false),
        console_size: process.console_size().as_ref().map(|size| ConsoleSize {
            height: u16::try_from(size.height()).unwrap_or(u16::MAX),
            width: u16::try_from(size.width()).unwrap_or(u16::MAX),
        }),
        oom_score_adj: process.oom_score_adj(),
        apparmor_profile: label(process.apparmor_profile(), "process.apparmorProfile", source)?,
        selinux_label: label(process.selinux_label(), "process.selinuxLabel", source)?,
        scheduler: scheduling::scheduler(process, source)?,
        io_priority: scheduling::io_priority(process, source)?,
        exec_cpu_affinity: scheduling::cpu_affinity(process, source)?,
    })
}

/// The kernel takes a label up to a zero byte or the end of a line.
fn label(label: &Option<String>, key: &str, source: Source<'_>) -> Result<Option<String>> {
    match label.as_deref() {
        None | Some("") => Ok(None),
        Some(text) if text.contains(char::is_control) => Err(source.bad(key, "holds a control character")),
        Some(text) => Ok(Some(text.to_owned())),
    }
}

fn set(names: &Option<OciSet>, which: &str, source: Source<'_>) -> Result<CapabilitySet> {
    let convert = |capability: &oci_spec::runtime::Capability| {
        let name = capability.to_string();
        name.parse().map_err(|error| source.bad(format!("process.capabilities.{which}"), format!("{error}")))
    };
    names.iter().flatten().map(convert).collect()
}

fn kind(kind: PosixRlimitType) -> RlimitKind {
    match kind {
        PosixRlimitType::RlimitCpu => RlimitKind::Cpu,
        PosixRlimitType::RlimitFsize => RlimitKind::Fsize,
        PosixRlimitType::RlimitData => RlimitKind::Data,
        PosixRlimitType::RlimitStack => RlimitKind::Stack,
        PosixRlimitType::RlimitCore => RlimitKind::Core,
        PosixRlimitType::RlimitRss => RlimitKind::Rss,
        PosixRlimitType::RlimitNproc => RlimitKind::Nproc,
        PosixRlimitType::RlimitNofile => RlimitKind::Nofile,
        PosixRlimitType::RlimitMemlock => RlimitKind::Memlock,
        PosixRlimitType::RlimitAs => RlimitKind::As,
        PosixRlimitType::RlimitLocks => RlimitKind::Locks,
        PosixRlimitType::RlimitSigpending => RlimitKind::Sigpending,
        PosixRlimitType::RlimitMsgqueue => RlimitKind::Msgqueue,
        PosixRlimitType::RlimitNice => RlimitKind::Nice,
        PosixRlimitType::RlimitRtprio => RlimitKind::Rtprio,
        PosixRlimitType::RlimitRttime => RlimitKind::Rttime,
    }
}
