//! floe's own program, in a form that a container cannot overwrite.
//!
//! The process that becomes the container's runs floe's code for a moment. A program in the container that gets hold
//! of `/proc/PID/exe` then could write to floe's file on the host (CVE-2019-5736). So the child is executed through a
//! read-only mount of the file that is in nobody's mount table, and taken off before the child is told anything; where
//! such a mount can't be had, from a sealed copy in memory. Why is told in `docs/decisions/0003-own-program-protected.md`.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{CWD, MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Result};
use crate::sys::{self, MountAttr};

/// Where the kernel shows a process its program. `proc_pid_exe(5)`.
const OWN: &str = "/proc/self/exe";

/// Most program headers that are looked at; a program has a dozen.
const MAX_HEADERS: u64 = 256;

/// The program, by a path that can be executed as long as this is held.
///
/// It is to be dropped before the child does anything: a mount that nobody holds any more belongs to no namespace, and
/// the kernel lets nobody change such a mount or make another of it, whatever privileges they have.
#[derive(Debug)]
pub(super) struct OwnProgram(OwnedFd);

impl OwnProgram {
    /// Its descriptor's number is above `above`, so that descriptors that are handed on do not take its place.
    pub(super) fn open(above: i32) -> Result<Self> {
        let program = match read_only_mount() {
            Ok(mount) => mount,
            // An ordinary user may not mount, and kernels before 5.12 cannot.
            Err(error) => {
                tracing::debug!("floe is copied, for a mount of it cannot be had: {error}");
                sealed_copy()?
            }
        };
        let program =
            rustix::io::fcntl_dupfd_cloexec(&program, above).map_err(Error::at("duplicate", OWN))?;
        Ok(Self(program))
    }

    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// `open_tree(2)` and `mount_setattr(2)`: Linux 5.2 and 5.12, and CAP_SYS_ADMIN.
fn read_only_mount() -> std::io::Result<OwnedFd> {
    let mount = open_tree(CWD, OWN, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    sys::mount_setattr(
        mount.as_fd(),
        false,
        &MountAttr { set: nix::libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() },
    )?;
    Ok(mount)
}

fn sealed_copy() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 and later want to be told that it will be executed; older ones do not know the flag.
    let memory = memfd_create("floe", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("floe", flags))
        .map_err(Error::at("memfd_create", "floe"))?;
    let mut copy = File::from(memory);
    let source = File::open(OWN).map_err(Error::at("open", OWN))?;
    let length = source.metadata().map_err(Error::at("stat", OWN))?.len();
    let needed = loaded(&source).filter(|loaded| *loaded <= length).unwrap_or(length);
    std::io::copy(&mut source.take(needed), &mut copy).map_err(Error::at("copy", OWN))?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
        .map_err(Error::at("seal", "the copy of floe"))?;
    Ok(copy.into())
}

/// How much of a program from its beginning the kernel and the loader read: what its program headers name (`elf(5)`).
/// Symbols and debugging information lie behind that, and are most of a file that has them. `None` when it isn't a
/// 64-bit ELF file of this machine's byte order; then all of it is copied.
fn loaded(program: &File) -> Option<u64> {
    let header: [u8; 64] = bytes(program, 0)?;
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    if !header.starts_with(&[0x7f, b'E', b'L', b'F', 2, order]) {
        return None;
    }
    // e_phoff, e_phentsize and e_phnum of Elf64_Ehdr.
    let (start, size, count) = (long(&header, 32)?, short(&header, 54)?, short(&header, 56)?);
    if size < 56 || count == 0 || count > MAX_HEADERS {
        return None;
    }
    let table_end = start.checked_add(size * count)?;
    (0..count).try_fold(table_end, |end, number| {
        let entry: [u8; 56] = bytes(program, start + size * number)?;
        // p_offset and p_filesz of Elf64_Phdr.
        let (offset, length) = (long(&entry, 8)?, long(&entry, 32)?);
        Some(end.max(offset.checked_add(length)?))
    })
}

fn bytes<const LENGTH: usize>(file: &File, at: u64) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// This test program knows --list, and has the name of a test in what it lists.
    fn runs(program: &OwnProgram) {
        let output = Command::new(program.path()).arg("--list").output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("the_copy_runs_and_takes_no_writing"));
    }

    #[test]
    fn the_copy_runs_and_takes_no_writing() {
        let file = File::from(sealed_copy().unwrap());
        let program = OwnProgram(file.try_clone().unwrap().into());
        runs(&program);
        assert!((&file).write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        let again =
            File::options().write(true).open(program.path()).and_then(|mut file| file.write_all(b"x"));
        assert!(again.is_err(), "nor through its path");
    }

    #[test]
    fn the_mount_runs_and_nobody_can_make_it_writable() {
        let mount = read_only_mount().unwrap();
        let high = OwnProgram(rustix::io::fcntl_dupfd_cloexec(&mount, 40).unwrap());
        assert!(high.0.as_raw_fd() >= 40);
        drop(mount);
        runs(&high);
        // A process that was executed through it, when nobody holds it any more: as a container finds it.
        let mut child = Command::new(high.path())
            .args(["--exact", "launch::exe::tests::waits_for_its_input", "--ignored"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The kernel lets us go on before it has closed the child's copy of the descriptor, still within execve(2).
        let copy = format!("/proc/{}/fd/{}", child.id(), high.0.as_raw_fd());
        while std::fs::symlink_metadata(&copy).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(high);
        // `spawn` comes back when the child has let go of this process's memory, a moment before it has its own.
        let command = format!("/proc/{}/cmdline", child.id());
        while !String::from_utf8_lossy(&std::fs::read(&command).unwrap()).contains("waits_for_its_input") {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let exe = format!("/proc/{}/exe", child.id());
        let refused = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        // Not a write, which a program that runs refuses anyhow.
        let mode = std::fs::metadata(&exe).unwrap().permissions();
        assert_eq!(refused(std::fs::set_permissions(&exe, mode)), Some(nix::libc::EROFS));
        let held = open_tree(CWD, &*exe, OpenTreeFlags::OPEN_TREE_CLOEXEC).unwrap();
        let writable = MountAttr { clear: nix::libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        let changed = sys::mount_setattr(held.as_fd(), false, &writable).map_err(std::io::Error::from);
        assert_eq!(refused(changed), Some(nix::libc::EINVAL));
        let copied = open_tree(CWD, &*exe, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
        assert_eq!(refused(copied.map(drop).map_err(std::io::Error::from)), Some(nix::libc::EINVAL));
        let place = tempfile::NamedTempFile::new().unwrap();
        let bound = nix::mount::mount(
            Some(&*exe),
            place.path(),
            None::<&str>,
            nix::mount::MsFlags::MS_BIND,
            None::<&str>,
        );
        assert_eq!(bound, Err(nix::errno::Errno::EINVAL));
        let again = nix::mount::mount(
            None::<&str>,
            &*exe,
            None::<&str>,
            nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_BIND,
            None::<&str>,
        );
        assert_eq!(again, Err(nix::errno::Errno::EINVAL));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    #[ignore = "the other half of the test above, which runs it"]
    fn waits_for_its_input() {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn what_is_needed_of_a_program_is_a_part_of_it() {
        let program = File::open("/proc/self/exe").unwrap();
        let needed = loaded(&program).unwrap();
        assert!(needed > 4096 && needed <= program.metadata().unwrap().len());
    }

    #[test]
    fn other_files_are_copied_whole() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"#!/bin/sh\n").unwrap();
        assert_eq!(loaded(&file), None);
        // A header that promises a table far behind the end.
        let mut header = [0u8; 64];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        header[32..40].copy_from_slice(&u64::MAX.to_ne_bytes());
        (header[54], header[56]) = (56, 3);
        file.write_all_at(&header, 0).unwrap();
        assert_eq!(loaded(&file), None);
    }
}
