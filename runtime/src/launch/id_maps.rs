//! The id maps of a new user namespace, written by one who may: `user_namespaces(7)`.
//!
//! Whoever has CAP_SETUID (or CAP_SETGID) writes any map of ids that are mapped where it is itself. An ordinary user
//! writes one line with its own id and nothing else; groups only after setgroups(2) is denied for good, since dropping
//! a group can open what was closed to it. For more there are newuidmap(1) and newgidmap(1), which are setuid root and
//! look up in `/etc/subuid` and `/etc/subgid` which ids the administrator gave the user.

use std::fs;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use rustix::thread::CapabilitySet;

use crate::config::IdMapping;
use crate::error::{Error, Result};
use crate::privilege;

/// Which of the two maps.
#[derive(Debug)]
struct Kind {
    file: &'static str,
    key: &'static str,
    tool: &'static str,
    ranges: &'static str,
}

const USERS: Kind =
    Kind { file: "uid_map", key: "linux.uidMappings", tool: "newuidmap", ranges: "/etc/subuid" };
const GROUPS: Kind =
    Kind { file: "gid_map", key: "linux.gidMappings", tool: "newgidmap", ranges: "/etc/subgid" };

/// How a map gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the right to map any id.
    Privileged,
    /// As one's own id.
    Own,
    /// By the tool.
    Tool,
}

fn way(mappings: &[IdMapping], privileged: bool, own: u32) -> Way {
    match mappings {
        _ if privileged => Way::Privileged,
        [IdMapping { host, count: 1, .. }] if *host == own => Way::Own,
        _ => Way::Tool,
    }
}

/// Writes the id maps of the new user namespace of `pid`, a child of this process.
pub(super) fn write(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let users = way(uids, privilege::has(CapabilitySet::SETUID), uid);
    let groups = way(gids, privilege::has(CapabilitySet::SETGID), gid);
    give(pid, &USERS, uids, users)?;
    if groups == Way::Own {
        let path = format!("/proc/{pid}/setgroups");
        fs::write(&path, "deny").map_err(Error::at("write", &path))?;
    }
    give(pid, &GROUPS, gids, groups)
}

fn give(pid: i32, kind: &Kind, mappings: &[IdMapping], way: Way) -> Result<()> {
    if way == Way::Tool {
        return by_tool(pid, kind, mappings);
    }
    let path = format!("/proc/{pid}/{}", kind.file);
    let text = text(mappings);
    let mut file = fs::OpenOptions::new().write(true).open(&path).map_err(Error::at("open", &path))?;
    // The kernel takes a map in one write only.
    file.write_all(text.as_bytes())
        .map_err(|error| Error::call("write", format!("{:?} to {path} ({})", text.trim(), kind.key), error))
}

fn text(mappings: &[IdMapping]) -> String {
    let line = |IdMapping { container, host, count }: &IdMapping| format!("{container} {host} {count}\n");
    mappings.iter().map(line).collect()
}

fn by_tool(pid: i32, kind: &Kind, mappings: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(kind.tool);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for IdMapping { container, host, count } in mappings {
        command.args([container, host, count].map(u32::to_string));
    }
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_tool(kind)),
        other => other.map_err(Error::at("run", kind.tool))?,
    };
    if output.status.success() {
        return Ok(());
    }
    Err(refused(kind, mappings, String::from_utf8_lossy(&output.stderr).trim().trim_end_matches('.')))
}

fn no_tool(kind: &Kind) -> Error {
    Error::Refused {
        problem: format!(
            "{} maps other ids than the user's own, which needs {}, and that is not installed",
            kind.key, kind.tool
        ),
        hint: "install it (Debian: uidmap; Fedora: shadow-utils), or map only the own id, as `floe spec --rootless` does",
    }
}

fn refused(kind: &Kind, mappings: &[IdMapping], said: &str) -> Error {
    Error::Refused {
        problem: format!(
            "{} {:?} is refused by {} ({}): {said}",
            kind.key,
            text(mappings).trim_end().replace('\n', ", "),
            kind.tool,
            kind.ranges
        ),
        hint: "map ids that the user was given (usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER), or only \
               the own id, as `floe spec --rootless` does",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IdMapping = IdMapping { container: 0, host: 1000, count: 1 };
    const MORE: IdMapping = IdMapping { container: 1, host: 100_000, count: 65_535 };

    #[test]
    fn a_map_has_a_line_for_each_range() {
        assert_eq!(text(&[OWN, MORE]), "0 1000 1\n1 100000 65535\n");
    }

    #[test]
    fn an_ordinary_user_writes_its_own_id_only() {
        assert_eq!(way(&[OWN], false, 1000), Way::Own);
        assert_eq!(way(&[OWN], false, 1001), Way::Tool, "somebody else's");
        assert_eq!(way(&[OWN, MORE], false, 1000), Way::Tool);
        assert_eq!(way(&[IdMapping { count: 2, ..OWN }], false, 1000), Way::Tool);
        assert_eq!(way(&[OWN, MORE], true, 0), Way::Privileged);
    }

    #[test]
    fn what_is_refused_is_named_with_its_key() {
        let error =
            refused(&USERS, &[OWN, MORE], "newuidmap: uid range [1-65536) -> [100000-165535) not allowed");
        let words = error.to_string();
        assert!(
            words.contains("linux.uidMappings \"0 1000 1, 1 100000 65535\"") && words.contains("not allowed"),
            "{words}"
        );
        assert!(no_tool(&GROUPS).to_string().contains("newgidmap"));
    }
}
