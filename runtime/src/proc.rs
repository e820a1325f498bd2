//! procfs, where floe itself reads and writes it.
//!
//! What is written below `/proc` can decide over the host, and which file a path there leads to must be nobody else's
//! choice: with another file system, a link or a second mount in the place of one of its folders, a value would be
//! written elsewhere, and what it should have set would stay unset (CVE-2025-52881, CVE-2019-16884). So nothing is
//! looked up in the `/proc` that a container has. [`Proc::of_host`] is the host's, opened before anything of the
//! container is there, and known to be a procfs; [`Proc::private`] is a new instance that is mounted nowhere, so that
//! nothing can be put over its files. Both are entered by `openat2(2)` without leaving them, neither by a link nor by a
//! mount.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, chmodat, fstat, fstatfs, openat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::error::{Error, Result};

/// Inode of a procfs's root (`PROC_ROOT_INO` of `include/linux/proc_ns.h`): a folder of it that is bound somewhere has
/// another.
pub(crate) const ROOT: u64 = 1;

/// A procfs.
#[derive(Debug)]
pub(crate) struct Proc(OwnedFd);

impl Proc {
    /// A new instance, of the caller's pid namespace. It takes ten times as long as the host's, and may not be had in a
    /// user namespace that sees no whole one.
    pub(crate) fn private() -> Result<Self> {
        instance().map(Self).map_err(Error::at("mount", "proc"))
    }

    /// The one at `/proc`. It has to be a procfs as a whole.
    pub(crate) fn of_host() -> Result<Self> {
        let path = Path::new("/proc");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(Error::at("open", path))?;
        let system = fstatfs(&fd).map_err(Error::at("statfs", path))?;
        let about = fstat(&fd).map_err(Error::at("stat", path))?;
        if system.f_type != PROC_SUPER_MAGIC || about.st_ino != ROOT {
            return Err(Error::call("open", "/proc (it is no proc file system)", Errno::INVAL));
        }
        Ok(Self(fd))
    }

    /// A folder that stands for one.
    #[cfg(test)]
    pub(crate) fn pretended(folder: OwnedFd) -> Self {
        Self(folder)
    }

    /// Opens the file `path` of it, which is relative. No link leads out of it, and nothing that is mounted in it is
    /// entered (`EXDEV`).
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<File> {
        self.find(path, flags).map(File::from).map_err(Error::at("open", shown(path)))
    }

    /// As [`Proc::open`], for who makes something of the kernel's answer.
    pub(crate) fn find(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, path, flags, Mode::empty(), resolve)
    }

    /// Writes `value` to the file `path` of it, in one call: the kernel takes what most of these files get as a whole.
    pub(crate) fn write(&self, path: &Path, value: &str) -> Result<()> {
        let mut file = self.open(path, OFlags::WRONLY)?;
        file.write_all(value.as_bytes()).map_err(|error| {
            Error::call("write", format!("{:?} to {}", value.trim_end(), shown(path).display()), error)
        })
    }

    /// Opens once more, with other rights, what `fd` is a descriptor of (an `O_PATH` one, for instance). `name` is for
    /// messages.
    pub(crate) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags, name: &Path) -> Result<OwnedFd> {
        let path = format!("self/fd/{}", fd.as_raw_fd());
        loop {
            match openat(&self.0, &path, flags | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::INTR) => {}
                other => return other.map_err(Error::at("open", name)),
            }
        }
    }

    /// Sets the mode of what `fd` is an `O_PATH` descriptor of, which fchmod(2) does not take.
    pub(crate) fn change_mode(&self, fd: BorrowedFd<'_>, mode: Mode, name: &Path) -> Result<()> {
        let path = format!("self/fd/{}", fd.as_raw_fd());
        chmodat(&self.0, &path, mode, AtFlags::empty()).map_err(Error::at("chmod", name))
    }
}

fn instance() -> Result<OwnedFd, Errno> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

fn shown(path: &Path) -> PathBuf {
    Path::new("/proc").join(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    fn read(proc: &Proc, path: &str) -> Result<String> {
        let mut text = String::new();
        proc.open(Path::new(path), OFlags::RDONLY)?.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn what_is_read_is_the_kernels() {
        for proc in [Proc::private(), Proc::of_host()] {
            let proc = proc.unwrap();
            let own = std::process::id();
            assert!(read(&proc, "self/status").unwrap().contains(&format!("\nPid:\t{own}\n")));
            let score = read(&proc, &format!("{own}/oom_score_adj")).unwrap();
            // As a whole: a number without its end would be another.
            proc.write(Path::new("self/oom_score_adj"), score.trim()).unwrap();
        }
    }

    #[test]
    fn no_path_leads_out_of_it() {
        let proc = Proc::private().unwrap();
        for path in ["../etc/passwd", "/etc/passwd", "self/root/etc/passwd", "self/cwd", "self/exe"] {
            let error = read(&proc, path).unwrap_err().to_string();
            assert!(error.starts_with("open /"), "{path}: {error}");
        }
        assert_eq!(read(&proc, "sys/kernel/ostype").unwrap(), "Linux\n");
    }

    #[test]
    fn a_descriptor_is_opened_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        let path = openat(CWD, file.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let proc = Proc::of_host().unwrap();
        let again = proc.reopen(path.as_fd(), OFlags::RDONLY, file.path()).unwrap();
        let mut text = String::new();
        File::from(again).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        proc.change_mode(path.as_fd(), Mode::from(0o640), file.path()).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file.path()).unwrap());
        assert_eq!(mode & 0o7777, 0o640);
    }
}
