//! SELinux labels of mounts.
//!
//! A file system that is mounted anew gets the container's label as its option `context`; what is bound keeps its own,
//! unless the configuration asks for a change (`relabel`).

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{XattrFlags, fsetxattr, lsetxattr, statfs};

use crate::config::{Config, Relabel};
use crate::error::{Error, Result};

/// `SELINUX_MAGIC` of `include/uapi/linux/magic.h`.
const SELINUX: u32 = 0xf97c_ff8c;

/// Where a label is kept (`xattr(7)`).
const ATTRIBUTE: &str = "security.selinux";

/// Folders whose labels the whole host depends on, and everything directly above them: they are never changed.
const NEVER: [&str; 14] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sys",
    "/usr", "/var",
];

/// Deepest nesting that is relabelled.
const MAX_DEPTH: usize = 256;

/// Whether this host has SELinux.
pub(crate) fn is_enabled() -> bool {
    ["/sys/fs/selinux", "/selinux"].iter().any(|place| {
        statfs(*place).is_ok_and(|system| u32::try_from(system.f_type).is_ok_and(|kind| kind == SELINUX))
    })
}

/// The options of a new file system with the label `label`. Those that are the kernel's own, and mqueue, whose root is
/// labelled instead, stay without one.
pub(super) fn option(kind: &str, data: &str, label: &str) -> String {
    let has_one = data.split(',').any(|option| option.starts_with("context="));
    if has_one || matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2") {
        return data.to_owned();
    }
    // Quoted, since a label may hold commas (`s0:c1,c2`).
    let context = format!("context=\"{label}\"");
    if data.is_empty() { context } else { format!("{data},{context}") }
}

/// Labels the root of a mount.
pub(super) fn set(fd: BorrowedFd<'_>, label: &str, name: &Path) -> Result<()> {
    // An O_PATH descriptor has no attributes; the folder that it stands for is reached by `.`.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let folder =
        rustix::fs::openat(fd, ".", flags, rustix::fs::Mode::empty()).map_err(Error::at("open", name))?;
    fsetxattr(&folder, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()).map_err(Error::at("label", name))
}

/// Labels the sources of those bind mounts for which the configuration asks it. A host without SELinux has no labels,
/// and a configuration without one none to give: nothing is done then, as runc has it.
pub(crate) fn change_sources(config: &Config) -> Result<()> {
    let Some(label) = config.mount_label.as_deref().filter(|_| is_enabled()) else { return Ok(()) };
    for mount in &config.mounts {
        let (Some(relabel), Some(source)) = (mount.relabel, mount.source.as_deref()) else { continue };
        let source = std::fs::canonicalize(source).map_err(Error::at("open", source))?;
        if NEVER.iter().any(|never| source == Path::new(never)) {
            return Err(Error::Refused {
                problem: format!("cannot relabel {}: the host depends on its label", source.display()),
                hint: "take `relabel` out of that mount, or bind a folder of its own",
            });
        }
        change(&source, &chosen(label, relabel), 0)?;
    }
    Ok(())
}

/// The label for what other containers use too has no categories of its own.
fn chosen(label: &str, relabel: Relabel) -> String {
    match relabel {
        Relabel::Private => label.to_owned(),
        Relabel::Shared => {
            // user:role:type:level, and the level begins with its sensitivity (selinux(8)).
            let parts: Vec<&str> = label.splitn(4, ':').collect();
            match parts.as_slice() {
                [user, role, kind, _level] => format!("{user}:{role}:{kind}:s0"),
                _ => label.to_owned(),
            }
        }
    }
}

/// Links are labelled, not followed.
fn change(path: &Path, label: &str, depth: usize) -> Result<()> {
    match lsetxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        // A file system without labels, or one that has a single one for all its files.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        // Gone meanwhile.
        Err(rustix::io::Errno::NOENT) if depth > 0 => return Ok(()),
        Err(error) => return Err(Error::call("label", path.display(), error)),
    }
    let is_folder = std::fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    if !is_folder || depth == MAX_DEPTH {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(Error::at("read", path))? {
        change(&entry.map_err(Error::at("read", path))?.path(), label, depth + 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    #[test]
    fn new_file_systems_have_the_label_as_an_option() {
        let context = format!("context=\"{LABEL}\"");
        assert_eq!(option("tmpfs", "", LABEL), context);
        assert_eq!(option("devpts", "mode=0620", LABEL), format!("mode=0620,{context}"));
        assert_eq!(option("tmpfs", "context=other", LABEL), "context=other");
        for kind in ["proc", "sysfs", "mqueue", "cgroup2"] {
            assert_eq!(option(kind, "", LABEL), "");
        }
    }

    #[test]
    fn what_is_shared_has_no_categories() {
        assert_eq!(chosen(LABEL, Relabel::Private), LABEL);
        assert_eq!(chosen(LABEL, Relabel::Shared), "system_u:object_r:container_file_t:s0");
        assert_eq!(chosen("odd", Relabel::Shared), "odd");
    }

    /// Needs root, as setting an attribute of this name does.
    #[test]
    fn everything_below_is_labelled_and_no_link_followed() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("sub/link")).unwrap();
        change(dir.path(), LABEL, 0).unwrap();
        let label = |path: &Path| {
            let mut bytes = [0u8; 128];
            rustix::fs::lgetxattr(path, ATTRIBUTE, &mut bytes)
                .map(|length| String::from_utf8_lossy(&bytes[..length]).trim_end_matches('\0').to_owned())
        };
        for path in ["", "sub", "sub/file"] {
            assert_eq!(label(&dir.path().join(path)).unwrap(), LABEL, "{path}");
        }
        assert!(label(outside.path()).is_err(), "what a link leads to is somebody else's");
    }
}
