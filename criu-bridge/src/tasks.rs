//! What `/proc` tells of the processes that are to be dumped.
//!
//! Everything here is a look from outside: no process is stopped for it, so a process may be gone or changed by the
//! time its line is used. What has to be exact is asked for again while the tree is stopped.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{MountInfo, Process};

use crate::error::{Error, Result};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its pid in floe's pid namespace.
    pub pid: i32,
    /// Its name, as `/proc/PID/comm` has it; empty if it is gone.
    pub name: String,
}

impl Task {
    /// Reads the name of `pid`.
    pub fn look(pid: i32) -> Self {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { pid, name: name.trim_end().to_owned() }
    }
}

/// What an open descriptor leads to, as far as a dump cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A terminal, with its device number.
    Terminal,
    /// Another character or block device.
    Device,
    /// A pipe or FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// eventfd, epoll and the like, and memory files.
    Anonymous,
}

/// One open descriptor of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Whose it is.
    pub pid: i32,
    /// Its number there.
    pub fd: i32,
    /// What `/proc/PID/fd/N` points to.
    pub target: PathBuf,
    /// What it leads to.
    pub kind: Kind,
    /// The mount that it was opened through (`mnt_id` of `/proc/PID/fdinfo/N`).
    pub mount: i32,
    /// Inode number.
    pub inode: u64,
    /// Device of the file system.
    pub device: u64,
    /// Device that the file stands for, for device files.
    pub rdev: u64,
    /// Size in bytes, for regular files.
    pub size: u64,
    /// Whether it has no name any more.
    pub deleted: bool,
    /// Offset in bytes.
    pub position: u64,
    /// Open flags (`O_*`).
    pub flags: i32,
}

impl Descriptor {
    /// Whether writes always go to the end of the file. CRIU does not insist on the size of such files.
    pub fn appends(&self) -> bool {
        self.flags & nix::libc::O_APPEND != 0
    }
}

/// The descriptors of `pid`. One that is closed meanwhile is left out.
///
/// # Errors
/// [`Error::Call`] if the process cannot be looked at.
pub fn descriptors(pid: i32) -> Result<Vec<Descriptor>> {
    let dir = format!("/proc/{pid}/fd");
    let entries = std::fs::read_dir(&dir).map_err(|source| Error::call("read", &dir, source))?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<_> = numbers.filter_map(|fd| descriptor(pid, fd)).collect();
    found.sort_by_key(|descriptor| descriptor.fd);
    Ok(found)
}

fn descriptor(pid: i32, fd: i32) -> Option<Descriptor> {
    let link = format!("/proc/{pid}/fd/{fd}");
    let target = std::fs::read_link(&link).ok()?;
    let meta = std::fs::metadata(&link).ok()?;
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let kind = kind_of(&target, &meta);
    Some(Descriptor {
        pid,
        fd,
        kind,
        mount: field(&info, "mnt_id:", 10).and_then(|id| i32::try_from(id).ok())?,
        inode: meta.ino(),
        device: meta.dev(),
        rdev: meta.rdev(),
        size: meta.len(),
        deleted: meta.nlink() == 0,
        position: field(&info, "pos:", 10).unwrap_or(0),
        flags: field(&info, "flags:", 8).and_then(|flags| i32::try_from(flags).ok()).unwrap_or(0),
        target,
    })
}

fn kind_of(target: &Path, meta: &std::fs::Metadata) -> Kind {
    let file_type = meta.file_type();
    let name = target.to_string_lossy();
    if file_type.is_fifo() {
        Kind::Pipe
    } else if file_type.is_socket() {
        Kind::Socket
    } else if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_char_device() && is_terminal(meta.rdev()) {
        Kind::Terminal
    } else if file_type.is_char_device() || file_type.is_block_device() {
        Kind::Device
    } else if file_type.is_file() && name.starts_with('/') && !is_memory(&name) {
        Kind::Regular
    } else {
        Kind::Anonymous
    }
}

/// Files that live in memory only, on a mount of the kernel's own: memfd_create(2), shared anonymous memory, SysV.
fn is_memory(name: &str) -> bool {
    name.starts_with("/memfd:") || name.starts_with("/SYSV") || name.starts_with("/dev/zero (deleted)")
}

/// Major numbers of Documentation/admin-guide/devices.txt: 4 consoles and serial lines, 136 to 143 UNIX98 ptys.
/// 5 (`/dev/tty`, `/dev/ptmx`) is no terminal of its own.
fn is_terminal(rdev: u64) -> bool {
    matches!(nix::sys::stat::major(rdev), 4 | 136..=143)
}

fn field(info: &str, name: &str, radix: u32) -> Option<u64> {
    info.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(name)?.trim(), radix).ok())
}

/// About how many bytes of memory a dump of `pids` holds: what is theirs alone or was when they were forked, and the
/// largest view of what they share (`RssAnon` and `RssShmem` of proc_pid_status(5)).
pub fn memory(pids: &[i32]) -> u64 {
    let (mut own, mut shared) = (0, 0);
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kilobytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
        };
        own += kilobytes("RssAnon:");
        shared = kilobytes("RssShmem:").max(shared);
    }
    (own + shared) * 1024
}

/// Whether `pid` has ended, or has a SIGKILL to die of as soon as it runs (`ShdPnd` and `SigPnd` of
/// proc_pid_status(5)).
pub fn is_ending(pid: i32) -> bool {
    const KILL: u64 = 1 << (nix::libc::SIGKILL - 1);
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let killed = |name: &str| {
        field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & KILL != 0)
    };
    field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
        || killed("ShdPnd:")
        || killed("SigPnd:")
}

/// `pid` and everything that descends from it, parents before their children.
pub fn tree(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        at += 1;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let new = children.split_whitespace().filter_map(|child| child.parse().ok());
            let new: Vec<i32> = new.filter(|child| !found.contains(child)).collect();
            found.extend(new);
        }
    }
    found
}

/// The number of `pid` in the innermost pid namespace that it is in (`NSpid` of proc_pid_status(5)).
pub fn inner_number(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}

/// The mount table that `pid` lives in.
///
/// # Errors
/// [`Error::Call`] if it cannot be read.
pub fn mounts(pid: i32) -> Result<Vec<MountInfo>> {
    let failed = |source: procfs::ProcError| Error::Call {
        call: "read",
        on: format!("/proc/{pid}/mountinfo"),
        source: std::io::Error::other(source),
    };
    Process::new(pid).and_then(|process| process.mountinfo()).map(|infos| infos.0).map_err(failed)
}

/// The ids of the mounts in `mounts`.
pub fn mount_ids(mounts: &[MountInfo]) -> HashSet<i32> {
    mounts.iter().map(|mount| mount.mnt_id).collect()
}

/// The inode of a namespace of `pid` (`net`, `pid`, `mnt`, `cgroup`, …).
///
/// # Errors
/// [`Error::Call`] if it cannot be read.
pub fn namespace(pid: i32, kind: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/ns/{kind}");
    std::fs::metadata(&path).map(|meta| meta.ino()).map_err(|source| Error::call("stat", &path, source))
}

/// A TCP connection that is not just listening.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Who holds it.
    pub pid: i32,
    /// This side, `address:port`.
    pub local: String,
    /// The other side.
    pub remote: String,
    /// Its state in the kernel's word.
    pub state: String,
}

impl Connection {
    fn of(pid: i32, entry: &TcpNetEntry) -> Self {
        Self {
            pid,
            local: entry.local_address.to_string(),
            remote: entry.remote_address.to_string(),
            state: format!("{:?}", entry.state),
        }
    }
}

/// The connections that the processes in `pids` hold, each once, ordered.
pub fn connections(pids: &[i32]) -> Vec<Connection> {
    let mut found = BTreeSet::new();
    for_each_tcp(pids, &mut |pid, entry, _| {
        if entry.state != TcpState::Listen && entry.state != TcpState::Close {
            found.insert(Connection::of(pid, entry));
        }
    });
    found.into_iter().collect()
}

/// Connections to a listening socket of theirs that the program has not accepted yet: they have no descriptor, and so no
/// inode, and the listener's port. One whose first packet was answered and that is not established (`SYN-RECEIVED`) is not
/// counted: nobody has been told of it, and the peer tries again by itself.
pub fn not_accepted(pids: &[i32]) -> Vec<Connection> {
    let mut found = BTreeSet::new();
    for_each_tcp(pids, &mut |pid, listener, table| {
        if listener.state == TcpState::Listen {
            let waits = |entry: &&TcpNetEntry| {
                matches!(entry.state, TcpState::Established | TcpState::CloseWait)
                    && entry.inode == 0
                    && entry.local_address.port() == listener.local_address.port()
            };
            found.extend(table.iter().filter(waits).map(|entry| Connection::of(pid, entry)));
        }
    });
    found.into_iter().collect()
}

/// Whether they have a TCP socket that is connected, or can be at any moment.
pub fn has_tcp(pids: &[i32]) -> bool {
    let mut any = false;
    for_each_tcp(pids, &mut |_, entry, _| any |= entry.state != TcpState::Close);
    any
}

/// Calls `see` with each TCP socket that they hold, its holder, and the whole table that it is in.
fn for_each_tcp(pids: &[i32], see: &mut dyn FnMut(i32, &TcpNetEntry, &[TcpNetEntry])) {
    let mut tables: Vec<(u64, Vec<TcpNetEntry>)> = Vec::new();
    for &pid in pids {
        let Ok(inode) = namespace(pid, "net") else { continue };
        if !tables.iter().any(|(seen, _)| *seen == inode) {
            tables.push((inode, table_of(pid)));
        }
        let Some((_, table)) = tables.iter().find(|(seen, _)| *seen == inode) else { continue };
        let sockets: HashSet<u64> = descriptors(pid)
            .unwrap_or_default()
            .into_iter()
            .filter(|descriptor| descriptor.kind == Kind::Socket)
            .map(|descriptor| descriptor.inode)
            .collect();
        for entry in table.iter().filter(|entry| sockets.contains(&entry.inode)) {
            see(pid, entry, table);
        }
    }
}

fn table_of(pid: i32) -> Vec<TcpNetEntry> {
    let Ok(process) = Process::new(pid) else { return Vec::new() };
    let mut table = process.tcp().unwrap_or_default();
    table.extend(process.tcp6().unwrap_or_default());
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsRawFd;

    #[test]
    fn an_open_file_is_told_with_its_place_and_offset() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"twelve bytes").unwrap();
        file.seek(SeekFrom::Start(5)).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let all = descriptors(me).unwrap();
        let found = all.iter().find(|descriptor| descriptor.fd == file.as_raw_fd()).unwrap();
        assert_eq!((found.kind, found.size, found.position), (Kind::Regular, 12, 5));
        assert!(!found.appends());
        assert!(mount_ids(&mounts(me).unwrap()).contains(&found.mount));
    }

    #[test]
    fn a_process_that_was_killed_is_ending() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(!is_ending(pid));
        child.kill().unwrap();
        assert!(is_ending(pid));
        child.wait().unwrap();
        assert!(is_ending(pid));
    }

    #[test]
    fn pipes_and_memory_files_are_no_regular_files() {
        let me = i32::try_from(std::process::id()).unwrap();
        let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        let all = descriptors(me).unwrap();
        let kind = |fd: i32| all.iter().find(|descriptor| descriptor.fd == fd).unwrap().kind;
        assert_eq!(kind(memory.as_raw_fd()), Kind::Anonymous);
        assert_eq!(kind(pipe.as_raw_fd()), Kind::Pipe);
    }

    #[test]
    fn a_connection_is_found_by_its_owner_and_a_listener_is_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!connections(&[me]).iter().any(|connection| connection.local == address));
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(connections(&[me]).iter().any(|connection| connection.remote == address));
    }

    #[test]
    fn children_belong_to_the_tree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(tree(std::process::id().cast_signed()).contains(&pid));
        assert_eq!(tree(pid), [pid]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
