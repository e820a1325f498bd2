//! `core-T.img`: what belongs to one thread; the core of a process's first thread is the process's.

use super::framing::{COMMON, CORE, messages, parse};
use super::ids::Namespaces;
use super::images::{Core_entry, Creds_entry};
use crate::error::Result;

/// Who a thread is, and what it may (credentials(7), capabilities(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective, saved and file system user id.
    pub uids: [u32; 4],
    /// Real, effective, saved and file system group id.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Inheritable capabilities, a bit each.
    pub inheritable: u64,
    /// Permitted ones.
    pub permitted: u64,
    /// Effective ones.
    pub effective: u64,
    /// Those that it can ever gain.
    pub bounding: u64,
    /// Ambient ones.
    pub ambient: u64,
    /// Whether it can never gain privileges by execve(2).
    pub no_new_privileges: bool,
    /// The label of AppArmor or SELinux; empty without.
    pub label: String,
}

/// A thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Core {
    /// The process's name (comm); none for a thread that is not the first.
    pub name: Option<String>,
    /// None for a zombie.
    pub credentials: Option<Credentials>,
    /// Whether a seccomp filter is on it (seccomp(2)), or the strict mode.
    pub seccomp: bool,
    /// The namespaces, where the core says them (a zombie's, in old images).
    pub namespaces: Option<Namespaces>,
}

/// Reads the core in `bytes`, which is the image `name`.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn decode(name: &str, bytes: &[u8]) -> Result<Core> {
    let Some(message) = messages(name, bytes, COMMON, CORE)?.first().copied() else {
        return Ok(Core::default());
    };
    let entry: Core_entry = parse(name, message)?;
    let task = entry.tc.as_ref();
    let thread = entry.thread_core.as_ref();
    // Before seccomp was a thread's matter (CRIU 2), it was said of the task.
    let mode = thread.and_then(|thread| thread.seccomp_mode.or(task.and_then(|task| task.old_seccomp_mode)));
    Ok(Core {
        name: task.map(|task| task.comm().to_owned()),
        credentials: thread.and_then(|thread| thread.creds.as_ref()).map(credentials),
        seccomp: mode.unwrap_or(0) != 0,
        namespaces: entry.ids.as_ref().map(Namespaces::read),
    })
}

fn credentials(entry: &Creds_entry) -> Credentials {
    Credentials {
        uids: [entry.uid(), entry.euid(), entry.suid(), entry.fsuid()],
        gids: [entry.gid(), entry.egid(), entry.sgid(), entry.fsgid()],
        groups: entry.groups.clone(),
        inheritable: set(&entry.cap_inh),
        permitted: set(&entry.cap_prm),
        effective: set(&entry.cap_eff),
        bounding: set(&entry.cap_bnd),
        ambient: set(&entry.cap_amb),
        no_new_privileges: entry.no_new_privs() != 0,
        label: entry.lsm_profile().to_owned(),
    }
}

/// A set of capabilities is two words of 32 bits, the lower one first. Words beyond them would be of capabilities that
/// nobody knows: they count as all, so that nothing passes for less than it is.
fn set(words: &[u32]) -> u64 {
    if words.iter().skip(2).any(|word| *word != 0) {
        return u64::MAX;
    }
    let word = |at: usize| u64::from(words.get(at).copied().unwrap_or(0));
    word(0) | word(1) << 32
}

#[cfg(test)]
mod tests {
    use super::super::framing::Image;
    use super::super::images::{Task_core_entry, Thread_core_entry};
    use super::*;

    #[test]
    fn credentials_are_read() {
        let mut creds = Creds_entry::new();
        creds.set_uid(1000);
        creds.set_euid(0);
        creds.cap_prm = vec![1 << 21, 1];
        creds.cap_bnd = vec![0, 0, 1];
        creds.set_no_new_privs(1);
        let mut thread = Thread_core_entry::new();
        thread.creds = protobuf::MessageField::some(creds);
        thread.set_seccomp_mode(2);
        let mut task = Task_core_entry::new();
        task.set_task_state(1);
        task.set_comm("redis-server".to_owned());
        let mut entry = Core_entry::new();
        entry.tc = protobuf::MessageField::some(task);
        entry.thread_core = protobuf::MessageField::some(thread);
        let mut image = Image::new(COMMON, CORE);
        image.message("core-1.img", &entry).unwrap();
        let core = decode("core-1.img", &image.finish()).unwrap();
        assert_eq!(core.name.as_deref(), Some("redis-server"));
        assert!(core.seccomp);
        let credentials = core.credentials.unwrap();
        assert_eq!(credentials.uids, [1000, 0, 0, 0]);
        assert_eq!(credentials.permitted, 1 << 21 | 1 << 32);
        assert_eq!(credentials.bounding, u64::MAX, "what nobody knows is no small thing");
        assert!(credentials.no_new_privileges);
    }
}
