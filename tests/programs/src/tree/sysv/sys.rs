//! System V objects: segments, semaphores and message queues, named by ids that forked processes know.
#![allow(unsafe_code, reason = "each block carries its own argument; everything public here is safe to call")]

use std::io::Result;

use nix::errno::Errno;
use nix::libc;

/// Longest message that is exchanged here.
pub const MESSAGE: usize = 256;

/// A message as `msgsnd(2)` wants it.
#[repr(C)]
struct Message {
    kind: libc::c_long,
    text: [u8; MESSAGE],
}

/// Makes a shared memory segment with a key, so that it can be found again by it.
///
/// # Errors
/// `shmget(2)`'s.
pub fn segment(key: i32, length: usize) -> Result<i32> {
    // SAFETY: plain numbers.
    Ok(Errno::result(unsafe { libc::shmget(key, length, libc::IPC_CREAT | libc::IPC_EXCL | 0o640) })?)
}

/// Finds a segment by its key.
///
/// # Errors
/// `shmget(2)`'s.
pub fn find_segment(key: i32) -> Result<i32> {
    // SAFETY: plain numbers.
    Ok(Errno::result(unsafe { libc::shmget(key, 0, 0) })?)
}

/// Marks a segment to go with its last user.
///
/// # Errors
/// `shmctl(2)`'s.
pub fn forget_segment(id: i32) -> Result<()> {
    // SAFETY: IPC_RMID takes no argument.
    Errno::result(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) })?;
    Ok(())
}

/// Makes a set of semaphores.
///
/// # Errors
/// `semget(2)`'s.
pub fn semaphores(key: i32, count: i32) -> Result<i32> {
    // SAFETY: plain numbers.
    Ok(Errno::result(unsafe { libc::semget(key, count, libc::IPC_CREAT | libc::IPC_EXCL | 0o640) })?)
}

/// A semaphore's value.
///
/// # Errors
/// `semctl(2)`'s.
pub fn semaphore(id: i32, index: i32) -> Result<i32> {
    // SAFETY: GETVAL takes no argument.
    Ok(Errno::result(unsafe { libc::semctl(id, index, libc::GETVAL) })?)
}

/// Sets a semaphore's value.
///
/// # Errors
/// `semctl(2)`'s.
pub fn set_semaphore(id: i32, index: i32, value: i32) -> Result<()> {
    // SAFETY: SETVAL takes an int as its union's first member.
    Errno::result(unsafe { libc::semctl(id, index, libc::SETVAL, value) })?;
    Ok(())
}

/// Makes a message queue.
///
/// # Errors
/// `msgget(2)`'s.
pub fn messages(key: i32) -> Result<i32> {
    // SAFETY: plain numbers.
    Ok(Errno::result(unsafe { libc::msgget(key, libc::IPC_CREAT | libc::IPC_EXCL | 0o640) })?)
}

/// Queues a message of at most [`MESSAGE`] bytes.
///
/// # Errors
/// `msgsnd(2)`'s; `EINVAL` where the message is too long.
pub fn send(id: i32, kind: i64, content: &[u8]) -> Result<()> {
    let mut message = Message { kind, text: [0; MESSAGE] };
    message.text.get_mut(..content.len()).ok_or(Errno::EINVAL)?.copy_from_slice(content);
    // SAFETY: the structure is laid out as the call wants it and holds at least the length that is named.
    Errno::result(unsafe { libc::msgsnd(id, (&raw const message).cast(), content.len(), libc::IPC_NOWAIT) })?;
    Ok(())
}

/// Takes the oldest message: its kind and content. `None` where there is none.
///
/// # Errors
/// `msgrcv(2)`'s.
pub fn receive(id: i32) -> Result<Option<(i64, Vec<u8>)>> {
    let mut message = Message { kind: 0, text: [0; MESSAGE] };
    // SAFETY: the structure is laid out as the call wants it and has room for the length that is named.
    match Errno::result(unsafe { libc::msgrcv(id, (&raw mut message).cast(), MESSAGE, 0, libc::IPC_NOWAIT) })
    {
        Ok(length) => Ok(Some((message.kind, message.text[..length.cast_unsigned()].to_vec()))),
        Err(Errno::ENOMSG) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
