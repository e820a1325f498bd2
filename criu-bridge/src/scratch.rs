//! The tmpfs in which CRIU's small images live while it works.
//!
//! It is mounted nowhere: the mount exists as a descriptor (fsopen(2), fsmount(2), Linux 5.2) and goes with the last
//! one, so a killed floe leaves neither a mount nor a file behind. CRIU reaches it through `/proc/FLOE/fd/N`, which
//! is how it opens `images_dir_fd` anyway.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{Error, Result};

/// A private tmpfs. Dropped, it is gone with all that is in it.
#[derive(Debug)]
pub struct Scratch {
    root: OwnedFd,
}

/// Largest log that is read back.
const LOG_LIMIT: u64 = 64 << 20;

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// [`Error::Call`]: without CAP_SYS_ADMIN, or on a kernel before 5.2.
    pub fn new() -> Result<Self> {
        let failed = |call| move |source: rustix::io::Errno| Error::call(call, "tmpfs", source);
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen"))?;
        // In a user namespace CRIU reads its images as that namespace's root, which is nobody out here. Who has no
        // descriptor of it can't reach this file system, whatever its modes.
        fsconfig_set_string(&fs, "mode", "0711").map_err(failed("fsconfig"))?;
        // Snapshots may hold more pages than the default limit of half the memory; what bounds them is verified sizes.
        fsconfig_set_string(&fs, "size", "0").map_err(failed("fsconfig"))?;
        fsconfig_create(&fs).map_err(failed("fsconfig"))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("fsmount"))?;
        let root = openat(&mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open"))?;
        Ok(Self { root })
    }

    /// Opens `name`, which may not contain a slash, for reading.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn open(&self, name: &str) -> Result<File> {
        self.open_with(name, OFlags::RDONLY)
    }

    /// Makes `name` afresh, mode 0644.
    ///
    /// # Errors
    /// [`Error::Call`]; [`std::io::ErrorKind::AlreadyExists`] if it is there.
    pub fn create(&self, name: &str) -> Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Replaces what `name` holds.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?;
        std::io::Write::write_all(&mut file, bytes).map_err(|source| Error::call("write", name, source))
    }

    /// Gives a file another name, replacing what has it.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.root, from, &self.root, to)
            .map_err(|source| Error::call("rename", to, source))
    }

    fn open_with(&self, name: &str, flags: OFlags) -> Result<File> {
        if name.contains('/') || name == ".." {
            return Err(Error::call("open", name, rustix::io::Errno::INVAL));
        }
        openat(&self.root, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::from(0o644))
            .map(File::from)
            .map_err(|source| Error::call("open", name, source))
    }

    /// All of `name`.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name)?.read_to_end(&mut bytes).map_err(|source| Error::call("read", name, source))?;
        Ok(bytes)
    }

    /// A log as text, as far as it goes: evidence is taken as it comes.
    pub fn read_text(&self, name: &str) -> String {
        let mut bytes = Vec::new();
        if let Ok(file) = self.open(name) {
            let _ = file.take(LOG_LIMIT).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The names of all regular files, sorted.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn names(&self) -> Result<Vec<String>> {
        let dir =
            openat(&self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|source| Error::call("open", "scratch", source))?;
        let mut space = [std::mem::MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(&dir, &mut space);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|source| Error::call("readdir", "scratch", source))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." && entry.file_type() == rustix::fs::FileType::RegularFile {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

impl AsFd for Scratch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
