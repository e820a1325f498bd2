//! The labels that a process gets from a security module when its program is executed: an AppArmor profile, an SELinux
//! context.
//!
//! The caller of a launch looks whether the host has the module ([`check`]); the process itself asks for the label
//! ([`set`]), through the `/proc` that was held open before it went anywhere (`Documentation/admin-guide/LSM` of the
//! kernel, `proc_pid_attr(5)`).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::config::Process;
use crate::error::{Error, Result};
use crate::proc::Proc;

/// Of the profile that is none: what asks for it is content with a host without AppArmor.
const UNCONFINED: &str = "unconfined";

/// Whether the host can give the labels. A container that runs with less protection than its configuration says would be
/// worse than none.
///
/// # Errors
/// [`Error::Refused`].
pub(crate) fn check(process: &Process) -> Result<()> {
    check_on(process, Path::new("/sys"))
}

fn check_on(process: &Process, sys: &Path) -> Result<()> {
    if let Some(profile) = process.apparmor_profile.as_deref().filter(|profile| *profile != UNCONFINED)
        && !apparmor_is_on(sys)
    {
        return Err(Error::Refused {
            problem: format!(
                "process.apparmorProfile is {profile:?}, and AppArmor is not enabled on this host"
            ),
            hint: "enable it (`aa-status` tells how it stands), or remove the profile to run without",
        });
    }
    if let Some(label) = &process.selinux_label
        && !sys.join("fs/selinux/enforce").exists()
    {
        return Err(Error::Refused {
            problem: format!("process.selinuxLabel is {label:?}, and SELinux is not enabled on this host"),
            hint: "enable it (`sestatus` tells how it stands), or remove the label to run without",
        });
    }
    Ok(())
}

fn apparmor_is_on(sys: &Path) -> bool {
    fs::read(sys.join("module/apparmor/parameters/enabled")).is_ok_and(|text| text.starts_with(b"Y"))
}

/// Asks for the labels at the next `execve(2)` of this process. `proc` is the host's /proc: what a container has in its
/// place might take the label and do nothing (CVE-2019-16884).
///
/// # Errors
/// [`Error::Child`] for a profile that isn't loaded; [`Error::Call`].
pub(crate) fn set(proc: &Proc, process: &Process) -> Result<()> {
    if let Some(profile) = &process.apparmor_profile {
        apparmor(proc, profile)?;
    }
    if let Some(label) = &process.selinux_label {
        let attribute =
            open(proc, "thread-self/attr/exec").map_err(Error::at("open", "/proc/self/attr/exec"))?;
        write(&attribute, label)
            .map_err(|error| Error::call("set process.selinuxLabel to", format!("{label:?}"), error))?;
    }
    Ok(())
}

fn apparmor(proc: &Proc, profile: &str) -> Result<()> {
    // Linux 5.8 gave AppArmor files of its own, beside those that the first module has.
    let attribute = match open(proc, "thread-self/attr/apparmor/exec") {
        Err(Errno::NOENT) => open(proc, "thread-self/attr/exec"),
        other => other,
    };
    let attribute = match attribute {
        // `check` has let it through, so it is the profile that is none.
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(Error::at("open", "/proc/self/attr/apparmor/exec"))?,
    };
    match write(&attribute, &format!("exec {profile}")) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) if profile == UNCONFINED => Ok(()),
        Err(Errno::NOENT) => Err(Error::start(format!(
            "process.apparmorProfile {profile:?} is not loaded (`aa-status` lists those that are; `apparmor_parser` loads one)"
        ))),
        Err(error) => Err(Error::call("set process.apparmorProfile to", format!("{profile:?}"), error)),
    }
}

fn open(proc: &Proc, path: &str) -> Result<OwnedFd, Errno> {
    proc.find(Path::new(path), OFlags::WRONLY)
}

/// The kernel takes a label in one write only.
fn write(attribute: impl AsFd, text: &str) -> Result<(), Errno> {
    rustix::io::write(attribute, text.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(apparmor: Option<&str>, selinux: Option<&str>) -> Process {
        let mut process = Process::sample();
        process.apparmor_profile = apparmor.map(str::to_owned);
        process.selinux_label = selinux.map(str::to_owned);
        process
    }

    #[test]
    fn a_label_needs_its_module() {
        let sys = tempfile::tempdir().unwrap();
        let refused = |process: &Process| check_on(process, sys.path()).err().map(|error| error.to_string());
        let (strict, context) = (process(Some("strict"), None), process(None, Some("a:b:c:d")));
        assert_eq!(refused(&process(None, None)), None);
        assert_eq!(refused(&process(Some("unconfined"), None)), None);
        assert!(refused(&strict).unwrap().starts_with("process.apparmorProfile"));
        assert!(refused(&context).unwrap().starts_with("process.selinuxLabel"));
        let parameters = sys.path().join("module/apparmor/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::write(parameters.join("enabled"), "N\n").unwrap();
        assert!(refused(&strict).is_some(), "built in, and switched off");
        fs::write(parameters.join("enabled"), "Y\n").unwrap();
        assert_eq!(refused(&strict), None);
        fs::create_dir_all(sys.path().join("fs/selinux")).unwrap();
        assert!(refused(&context).is_some(), "a mount point, and nothing mounted");
        fs::write(sys.path().join("fs/selinux/enforce"), "0").unwrap();
        assert_eq!(refused(&context), None, "permissive is enabled");
    }

    /// What is written, and where: on a directory that looks like /proc.
    #[test]
    fn labels_are_asked_for_where_the_module_listens() {
        for (folder, file) in [("attr/apparmor", "attr/apparmor/exec"), ("attr", "attr/exec")] {
            let dir = tempfile::tempdir().unwrap();
            let own = dir.path().join("thread-self");
            fs::create_dir_all(own.join(folder)).unwrap();
            fs::write(own.join(file), "").unwrap();
            let proc = Proc::pretended(fs::File::open(dir.path()).unwrap().into());
            set(&proc, &process(Some("strict"), None)).unwrap();
            assert_eq!(fs::read_to_string(own.join(file)).unwrap(), "exec strict");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("thread-self/attr")).unwrap();
        let proc = Proc::pretended(fs::File::open(dir.path()).unwrap().into());
        let exec = dir.path().join("thread-self/attr/exec");
        assert!(set(&proc, &process(None, Some("u:r:t:s0"))).is_err());
        fs::write(&exec, "").unwrap();
        set(&proc, &process(None, Some("u:r:t:s0"))).unwrap();
        assert_eq!(fs::read_to_string(&exec).unwrap(), "u:r:t:s0");
    }

    #[test]
    fn without_apparmor_unconfined_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let proc = Proc::pretended(fs::File::open(dir.path()).unwrap().into());
        set(&proc, &process(Some("unconfined"), None)).unwrap();
    }
}
