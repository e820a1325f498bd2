//! floe's own program, in a form that a container cannot overwrite.
//!
//! The process that becomes the container's runs floe's code for a moment. A program in the container that gets hold
//! of `/proc/PID/exe` then could write to floe's file on the host (CVE-2019-5736). So the child is executed from a
//! sealed copy in memory (memfd_create(2), F_SEAL_WRITE), which nobody can change. Why a copy and not a mount is told
//! in `docs/decisions/0003-own-program-sealed.md`.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::{Error, Result};

/// Most program headers that are looked at; a program has a dozen.
const MAX_HEADERS: u64 = 256;

/// The copy, by a path that can be executed as long as the file is held.
///
/// Its number is above `above`, so that descriptors that are handed on do not take its place.
pub(super) fn sealed(above: i32) -> Result<(PathBuf, File)> {
    let own = "/proc/self/exe";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 and later want to be told that it will be executed; older ones do not know the flag.
    let memory = memfd_create("floe", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("floe", flags))
        .map_err(Error::at("memfd_create", "floe"))?;
    let mut copy = File::from(memory);
    let source = File::open(own).map_err(Error::at("open", own))?;
    let length = source.metadata().map_err(Error::at("stat", own))?.len();
    let needed = loaded(&source).filter(|loaded| *loaded <= length).unwrap_or(length);
    std::io::copy(&mut source.take(needed), &mut copy).map_err(Error::at("copy", own))?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
        .map_err(Error::at("seal", "the copy of floe"))?;
    let copy =
        rustix::io::fcntl_dupfd_cloexec(&copy, above).map_err(Error::at("duplicate", "the copy of floe"))?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())), File::from(copy)))
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
    use std::process::Command;

    use super::*;

    #[test]
    fn the_copy_runs_and_takes_no_writing() {
        let (path, file) = sealed(40).unwrap();
        assert!(file.as_raw_fd() >= 40);
        // This test program knows --list, and has its own name in what it lists.
        let output = Command::new(&path).arg("--list").output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("the_copy_runs_and_takes_no_writing"));
        assert!((&file).write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        let again = File::options().write(true).open(&path).and_then(|mut file| file.write_all(b"x"));
        assert!(again.is_err(), "nor through its path");
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
