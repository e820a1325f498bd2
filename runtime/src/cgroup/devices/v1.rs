//! The list of a version 1 cgroup: changed to another one rule by rule.

use std::path::Path;

use super::letters;
use super::list::DeviceList;
use super::may_be_without;
use crate::cgroup::files;
use crate::config::{DeviceRule, DeviceRuleKind};
use crate::error::{Error, Result};

/// Makes the cgroup `dir` decide about devices as `list` does. Only what differs is written, so that processes that are
/// in it already never miss a device that both allow. On failure the former list is set again, as far as the kernel
/// told it.
///
/// # Errors
/// [`Error::Call`] with the rule that the kernel refused; [`Error::Refused`] when the list is another one afterwards,
/// because the cgroup above allows less.
pub(in crate::cgroup) fn enforce(dir: &Path, list: &DeviceList) -> Result<()> {
    if may_be_without() {
        return Ok(());
    }
    let before = DeviceList::parse(&files::read(dir, "devices.list")?);
    write(dir, &before.towards(list)).and_then(|()| check(dir, list)).inspect_err(|_| {
        let now = files::read(dir, "devices.list").map(|text| DeviceList::parse(&text));
        if let Err(error) = now.and_then(|now| write(dir, &now.towards(&before))) {
            tracing::warn!("the former device rules are not back: {}", error.in_full());
        }
    })
}

fn write(dir: &Path, rules: &[DeviceRule]) -> Result<()> {
    rules.iter().try_for_each(|rule| {
        files::write(dir, if rule.allow { "devices.allow" } else { "devices.deny" }, &line(rule))
    })
}

/// The kernel passes a rule over that it can't carry out.
fn check(dir: &Path, list: &DeviceList) -> Result<()> {
    let now = DeviceList::parse(&files::read(dir, "devices.list")?);
    // A list that allows doesn't tell its exceptions.
    if now == *list || (list.allows_by_default() && now.allows_by_default()) {
        return Ok(());
    }
    Err(Error::Refused {
        problem: format!("the kernel did not take linux.resources.devices over into {}", dir.display()),
        hint: "the cgroup above it allows fewer devices; choose another linux.cgroupsPath, or ask for less",
    })
}

/// `c 1:3 rwm`, with `*` for any number. For kind `a` the kernel reads no further and resets its whole list.
fn line(rule: &DeviceRule) -> String {
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let kind = match rule.kind {
        DeviceRuleKind::All => 'a',
        DeviceRuleKind::Char => 'c',
        DeviceRuleKind::Block => 'b',
    };
    format!("{kind} {}:{} {}", number(rule.major), number(rule.minor), letters(rule.access))
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::rules;
    use super::*;

    #[test]
    fn rules_have_the_kernels_form() {
        let lines: Vec<String> =
            rules(&["deny a", "allow c 136:* rw", "allow b 8:0 m"]).iter().map(line).collect();
        assert_eq!(lines, ["a *:* rwm", "c 136:* rw", "b 8:0 m"]);
    }

    /// The controller's hierarchy, which a host of version 2 has too when somebody mounts it.
    struct Mount(tempfile::TempDir);

    impl Mount {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let none = None::<&str>;
            nix::mount::mount(
                none,
                dir.path(),
                Some("cgroup"),
                nix::mount::MsFlags::empty(),
                Some("devices"),
            )
            .expect("this test mounts the device controller of cgroup version 1: run it as root");
            Self(dir)
        }
    }

    impl Drop for Mount {
        fn drop(&mut self) {
            nix::mount::umount(self.0.path()).unwrap();
        }
    }

    #[test]
    fn the_kernels_list_becomes_another() {
        let mount = Mount::new();
        let dir = mount.0.path().join(format!("floe-test-devices-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let list = || std::fs::read_to_string(dir.join("devices.list")).unwrap();
        let enforce = |lines: &[&str]| enforce(&dir, &DeviceList::of(&rules(lines)).unwrap());
        enforce(&["deny a", "allow c 1:3 rwm", "allow c 5:* r"]).unwrap();
        assert_eq!(list(), "c 1:3 rwm\nc 5:* r\n");
        enforce(&["deny a", "allow c 1:3 r", "allow b 8:0 rwm"]).unwrap();
        assert_eq!(list(), "c 1:3 r\nb 8:0 rwm\n");
        enforce(&["allow a", "deny c 1:3 w"]).unwrap();
        assert_eq!(list(), "a *:* rwm\n");
        // Below a cgroup that allows less, more isn't to be had.
        enforce(&["deny a", "allow c 1:3 rwm"]).unwrap();
        let below = dir.join("below");
        std::fs::create_dir(&below).unwrap();
        let more = DeviceList::of(&rules(&["deny a", "allow c 1:5 rwm"])).unwrap();
        assert!(super::enforce(&below, &more).is_err());
        assert_eq!(std::fs::read_to_string(below.join("devices.list")).unwrap(), "c 1:3 rwm\n", "as it was");
        std::fs::remove_dir(&below).unwrap();
        std::fs::remove_dir(&dir).unwrap();
    }
}
