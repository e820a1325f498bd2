//! Tar headers (POSIX ustar): plain ones, that every reader takes.

use crate::error::{Error, Result};
use crate::manifest::MemberKind;
use crate::name::MemberName;

/// Bytes of a tar block.
pub(crate) const BLOCK: u64 = 512;

/// The header of a member. Owner, group and time are zero: nothing of the writer's host is in it.
pub(crate) fn header(name: &MemberName, kind: MemberKind, mode: u32, size: u64) -> Result<[u8; 512]> {
    let mut header = tar::Header::new_ustar();
    let path = match kind {
        MemberKind::Directory => format!("{name}/"),
        MemberKind::File => name.to_string(),
    };
    header
        .set_path(&path)
        .map_err(|_| Error::BadName { name: path, what: "it does not fit a tar header" })?;
    header.set_entry_type(match kind {
        MemberKind::Directory => tar::EntryType::Directory,
        MemberKind::File => tar::EntryType::Regular,
    });
    header.set_mode(mode & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    // Both names are optional in ustar, and podman writes them.
    let _ = header.set_username("root");
    let _ = header.set_groupname("root");
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Zero bytes up to the next block.
pub(crate) fn padding(size: u64) -> usize {
    let rest = size % BLOCK;
    if rest == 0 { 0 } else { usize::try_from(BLOCK - rest).unwrap_or(0) }
}
