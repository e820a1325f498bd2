//! What any work may meet on a host: space, rights, limits. These are the most general, and stand last.

use super::During::Either;
use super::Known;

pub(super) const KNOWN: &[Known] = &[
    Known::new(
        "no-space",
        Either,
        &["No space left on device"],
        "no space was left",
        "free memory (criu's images are kept in a tmpfs) or space where the line says, and try again",
        "(00.020100) Error (criu/image.c:840): Can't write img file: No space left on device",
    ),
    Known::new(
        "too-many-files",
        Either,
        &["Too many open files"],
        "criu may not open as many files as it needs",
        "raise the limit of open files (ulimit -n) for floe",
        "(00.020101) Error (criu/util.c:368): Can't open /proc/77/fd: Too many open files",
    ),
    Known::new(
        "descriptor-number",
        Either,
        &["Too big FD number to restore"],
        "a process had a descriptor with a higher number than floe's own limit allows",
        "raise the limit of open files (ulimit -n) for floe",
        "(00.020102)      1: Error (criu/files.c:923): Too big FD number to restore 4096",
    ),
    Known::new(
        "loginuid",
        Either,
        &["Setting loginuid for"],
        "the audit id of a login could not be set again",
        "run floe with CAP_AUDIT_CONTROL in the first user namespace",
        "(00.020103) Error (criu/cr-restore.c:1952): Setting loginuid for CT init task failed, CAP_AUDIT_CONTROL?",
    ),
    Known::new(
        "not-root",
        Either,
        &["You need to be root to run this command"],
        "criu reads and writes other processes' memory and credentials",
        "run floe as root",
        "(00.000010) Error (criu/util.c:809): You need to be root to run this command",
    ),
    Known::new(
        "kernel-capabilities",
        Either,
        &["Kernel reports more capabilities than this CRIU supports"],
        "the kernel knows capabilities that this criu does not",
        "install a newer criu",
        "(00.000800) Error (criu/kerndat.c:514): Kernel reports more capabilities than this CRIU supports: 45 > 40",
    ),
    Known::new(
        "not-permitted",
        Either,
        &["Operation not permitted"],
        "the kernel refused a call",
        "run floe as root, with CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_CHECKPOINT_RESTORE; see that nothing filters its system calls",
        "(00.020110) Error (criu/mount.c:1528): mnt: Unable to remount: Operation not permitted",
    ),
];
