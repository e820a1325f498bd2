//! The head and the manifest: what an archive says about itself.
//!
//! Both are JSON, and keys that this floe does not know are kept when it writes one again.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::name::MemberName;

/// The format that this crate writes. It counts apart from floe's own version.
pub const FORMAT_VERSION: u32 = 1;

/// `floe-head.json`: what this is, readable from the first bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT_VERSION`] of the writer.
    pub format: u32,
    /// Always `floe-archive`.
    pub kind: String,
    /// The id of the snapshot: 32 hexadecimal digits, drawn at random.
    pub snapshot: String,
    /// Name of the container.
    pub container: String,
    /// When it was begun (RFC 3339, UTC).
    pub created: String,
    /// What wrote it.
    pub tool: Tool,
    /// What else was there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A program and its version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// `floe.json`. The writer fills `members` and `index`; the rest is the caller's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format: u32,
    /// The id of the snapshot, as in the head.
    pub snapshot: String,
    /// When it was begun (RFC 3339, UTC).
    pub created: String,
    /// What wrote it.
    pub tool: Tool,
    /// Version of the CRIU that dumped.
    pub criu: String,
    /// Release of the kernel that it ran on (uname(2)).
    pub kernel: String,
    /// The processor.
    pub cpu: Cpu,
    /// What was dumped.
    pub container: Container,
    /// Its processes.
    pub tasks: Vec<Task>,
    /// Files that are open or mapped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OpenFile>,
    /// Sockets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<Socket>,
    /// Figures of the dump.
    pub stats: Stats,
    /// The snapshot that this one builds on; none yet.
    pub parent: Option<String>,
    /// The user's own words.
    pub labels: Map<String, Value>,
    /// Every member but the manifest itself, in order.
    pub members: Vec<Member>,
    /// Where the index lies.
    pub index: Index,
    /// What else was there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The processor that the container ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Machine name (uname(2)).
    pub architecture: String,
    /// Model, as /proc/cpuinfo has it.
    pub model: String,
    /// Feature flags, as /proc/cpuinfo has them.
    pub features: Vec<String>,
}

/// The container that was dumped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub id: String,
    /// BLAKE3 of its OCI configuration, hexadecimal.
    pub spec_digest: String,
    /// Whether it was paused.
    pub paused: bool,
    /// 1 or 2.
    pub cgroup_version: u32,
    /// The security module whose labels its processes have: `selinux`, `apparmor`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub security_module: String,
    /// What else was there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its pid in the container.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Its name (comm).
    pub name: String,
    /// Number of threads.
    pub threads: u32,
    /// Bytes of memory that the snapshot holds of it.
    pub bytes: u64,
    /// The member that holds them; none for a zombie.
    pub pages: Option<String>,
    /// Its label, where a security module gives one (AppArmor, SELinux).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Its memory areas, in the order of their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<Area>,
    /// Its open descriptors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<Descriptor>,
}

/// A memory area of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// Its first address.
    pub start: u64,
    /// The address behind it.
    pub end: u64,
    /// As `/proc/PID/maps` shows it, `rw-p` for instance.
    pub protection: String,
    /// What it is.
    pub kind: AreaKind,
    /// The file that it shows, by its number in [`Manifest::files`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<u32>,
    /// How many of its pages the snapshot holds, of 4 KiB each.
    pub pages: u64,
    /// Where the first of them lies in the member of the task's pages, in bytes; the others follow it.
    pub at: u64,
}

/// What a memory area is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AreaKind {
    /// Private memory that nobody else sees.
    #[default]
    Anonymous,
    /// The program's break.
    Heap,
    /// The first thread's stack.
    Stack,
    /// A file.
    File,
    /// Memory that is shared with children.
    Shared,
    /// A System V segment.
    Sysv,
    /// A memory file (memfd_create(2)).
    Memfd,
    /// The kernel's own: vdso(7).
    Kernel,
}

/// An open descriptor of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number in the process.
    pub fd: u32,
    /// The open file behind it: the number in [`Manifest::files`] or [`Manifest::sockets`], or of something else.
    pub file: u32,
}

/// A file that is open or mapped; what CRIU insists on at the restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// CRIU's number for it.
    pub id: u32,
    /// Its path in the container; for one from outside, CRIU's key.
    pub path: String,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Type and permissions (`st_mode` of inode(7)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The build-id of a program or library, hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
    /// Open flags (`O_*` of open(2)).
    pub flags: u32,
    /// Offset in bytes.
    pub position: u64,
    /// Whether it comes from outside the container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

/// A socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// CRIU's number for it.
    pub id: u32,
    /// `tcp`, `udp`, `raw`, `unix stream`, `unix datagram` or `unix seqpacket`.
    pub kind: String,
    /// `established`, `listening`, `closed` …
    pub state: String,
    /// Its own address or path.
    pub local: String,
    /// The other side's; empty without one.
    pub remote: String,
}

/// Figures of a dump, times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Until every task stood still.
    pub freezing_us: u64,
    /// How long they stood.
    pub frozen_us: u64,
    /// Taking the memory.
    pub memdump_us: u64,
    /// Writing it.
    pub memwrite_us: u64,
    /// Pages that were looked at.
    pub pages_scanned: u64,
    /// Pages that were written.
    pub pages_written: u64,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberKind {
    /// A file.
    File,
    /// A folder.
    Directory,
}

/// A member of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: MemberName,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Where its data begins in the plain tar, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3, hexadecimal: of its content; for a member that grew (pages) of the digests of its frames, so that
    /// no page is hashed twice. Empty for folders.
    pub digest: String,
    /// Whether the digest is the one of its frames.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_frames: bool,
}

/// Where the index lies, and how it is checked part by part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// How many frames it describes: all those before its own.
    pub frames: u64,
    /// Entries in each block but the last.
    pub block: u64,
    /// The frames that hold the index itself: its tar header, then one for each block.
    pub parts: Vec<FrameRef>,
}

/// A frame, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRef {
    /// Offset in the file.
    pub offset: u64,
    /// Size in the file.
    pub packed: u32,
    /// Size of what it holds.
    pub plain: u32,
    /// BLAKE3 of the frame as it lies in the file, hexadecimal.
    pub digest: String,
}
