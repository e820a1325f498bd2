//! Mounts: libcontainer has the flags of mount(2) as numbers, OCI has words.

use std::path::PathBuf;

use nix::libc;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Command;
use crate::config::source::Source;
use crate::config::{Config, MountKind, Relabel};
use crate::error::Result;

/// `EXT_COPYUP` of libcontainer: a new tmpfs begins with what it covers.
const COPY_UP: i64 = 1;

/// A mount as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mount {
    source: String,
    destination: PathBuf,
    device: String,
    flags: i64,
    #[serde(alias = "clearedflags")]
    cleared_flags: i64,
    propagation_flags: Vec<i64>,
    data: String,
    relabel: String,
    extensions: i64,
    premount_cmds: Vec<Command>,
    postmount_cmds: Vec<Command>,
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

/// The flags that a mount may have, with the words that set and clear them. `mount(2)`, `mount(8)`.
const FLAGS: [(u64, &str, &str); 15] = [
    (libc::MS_RDONLY, "ro", "rw"),
    (libc::MS_NOSUID, "nosuid", "suid"),
    (libc::MS_NODEV, "nodev", "dev"),
    (libc::MS_NOEXEC, "noexec", "exec"),
    (libc::MS_SYNCHRONOUS, "sync", "async"),
    (libc::MS_REMOUNT, "remount", ""),
    (libc::MS_MANDLOCK, "mand", "nomand"),
    (libc::MS_DIRSYNC, "dirsync", ""),
    (libc::MS_NOSYMFOLLOW, "nosymfollow", "symfollow"),
    (libc::MS_NOATIME, "noatime", "atime"),
    (libc::MS_NODIRATIME, "nodiratime", "diratime"),
    (libc::MS_RELATIME, "relatime", "norelatime"),
    (libc::MS_STRICTATIME, "strictatime", "nostrictatime"),
    (libc::MS_I_VERSION, "iversion", "noiversion"),
    (libc::MS_SILENT, "silent", "loud"),
];

/// What says how a mount spreads, with and without those below it.
const PROPAGATIONS: [(u64, &str, &str); 4] = [
    (libc::MS_PRIVATE, "private", "rprivate"),
    (libc::MS_SLAVE, "slave", "rslave"),
    (libc::MS_SHARED, "shared", "rshared"),
    (libc::MS_UNBINDABLE, "unbindable", "runbindable"),
];

/// The word for a propagation: one of the four, alone or with `MS_REC`.
pub(super) fn propagation(flags: i64) -> Option<&'static str> {
    let flags = u64::try_from(flags).ok()?;
    PROPAGATIONS.iter().find_map(|(flag, alone, all)| match flags {
        flags if flags == *flag => Some(*alone),
        flags if flags == flag | libc::MS_REC => Some(*all),
        _ => None,
    })
}

pub(super) fn in_oci_words(mounts: &[Mount], source: Source<'_>) -> Result<Vec<Value>> {
    mounts
        .iter()
        .enumerate()
        .map(|(number, mount)| {
            let options = mount.options(&format!("mounts[{number}]"), source)?;
            let mut value = json!({ "destination": mount.destination, "options": options });
            for (key, text) in [("source", &mount.source), ("type", &mount.device)] {
                if !text.is_empty() {
                    value[key] = json!(text);
                }
            }
            Ok(value)
        })
        .collect()
}

/// What OCI has no words for.
pub(super) fn set_the_rest(mounts: &[Mount], config: &mut Config, source: Source<'_>) -> Result<()> {
    for (number, (mount, made)) in mounts.iter().zip(&mut config.mounts).enumerate() {
        let commands = |list: &[Command], name: &str| -> Result<Vec<_>> {
            let key = |place: usize| format!("mounts[{number}].{name}[{place}]");
            list.iter().enumerate().map(|(place, command)| command.of_mount(&key(place), source)).collect()
        };
        made.before = commands(&mount.premount_cmds, "premount_cmds")?;
        made.after = commands(&mount.postmount_cmds, "postmount_cmds")?;
        let bound = matches!(made.kind, MountKind::Bind { .. });
        made.relabel = match mount.relabel.as_str() {
            "" => None,
            "z" if bound => Some(Relabel::Shared),
            "Z" if bound => Some(Relabel::Private),
            other => {
                let problem = format!("{other:?} is neither z nor Z, or this is no bind mount");
                return Err(source.bad(format!("mounts[{number}].relabel"), problem));
            }
        };
    }
    Ok(())
}

impl Mount {
    fn options(&self, key: &str, source: Source<'_>) -> Result<Vec<String>> {
        let number = |name: &str, flags: i64| {
            u64::try_from(flags)
                .map_err(|_| source.bad(format!("{key}.{name}"), format!("{flags} is below 0")))
        };
        let (set, cleared) = (number("flags", self.flags)?, number("cleared_flags", self.cleared_flags)?);
        let mut words: Vec<String> = Vec::new();
        let mut left = set;
        if set & libc::MS_BIND != 0 {
            words.push(if set & libc::MS_REC != 0 { "rbind" } else { "bind" }.to_owned());
            left &= !(libc::MS_BIND | libc::MS_REC);
        }
        for (flag, on, off) in FLAGS {
            if set & flag != 0 {
                words.push(on.to_owned());
                left &= !flag;
            } else if cleared & flag != 0 && !off.is_empty() {
                words.push(off.to_owned());
            }
        }
        if left != 0 {
            return Err(source
                .unsupported(format!("{key}.flags"), format!("nothing is known of the flags {left:#x}")));
        }
        for (place, flags) in self.propagation_flags.iter().enumerate() {
            let word = propagation(*flags).ok_or_else(|| {
                let problem = format!("{flags:#x} is no propagation of mount(2)");
                source.bad(format!("{key}.propagation_flags[{place}]"), problem)
            })?;
            words.push(word.to_owned());
        }
        match self.extensions {
            0 => {}
            COPY_UP => words.push("tmpcopyup".to_owned()),
            other => {
                return Err(source.unsupported(format!("{key}.extensions"), format!("{other} is not known")));
            }
        }
        words.extend(self.data.split(',').filter(|part| !part.is_empty()).map(str::to_owned));
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn flags_become_words() {
        let mount = Mount {
            flags: (libc::MS_NOSUID | libc::MS_STRICTATIME).cast_signed(),
            data: "mode=755,size=65536k".to_owned(),
            propagation_flags: vec![(libc::MS_SLAVE | libc::MS_REC).cast_signed()],
            extensions: COPY_UP,
            ..Mount::default()
        };
        let source = Source { file: Path::new("c.json") };
        let words = ["nosuid", "strictatime", "rslave", "tmpcopyup", "mode=755", "size=65536k"];
        assert_eq!(mount.options("mounts[0]", source).unwrap(), words);
        let bind = Mount { flags: 0x5000 | 1, ..Mount::default() };
        assert_eq!(bind.options("mounts[0]", source).unwrap(), ["rbind", "ro"]);
        for (flags, key) in [(1 << 40, "mounts[0].flags"), (-1, "mounts[0].flags")] {
            let error = Mount { flags, ..Mount::default() }.options("mounts[0]", source).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn a_propagation_is_one_of_four() {
        assert_eq!(propagation(0x4_4000 | 0x4_0000 | 0x4000), Some("rprivate"));
        assert_eq!(propagation(1 << 19), Some("slave"));
        assert_eq!(propagation(0x4000), None);
        assert_eq!(propagation(-3), None);
    }
}
