//! An agent that decides about system calls of containers.

mod sys;

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

use crate::support::PATIENCE;
pub use sys::Call;

/// What one process's agent was told, and the calls about which it has decided.
#[derive(Debug)]
pub struct Heard {
    pub state: Value,
    pub calls: Vec<Call>,
}

/// Listens at `path` for one process, and decides about each of its calls until none is left that could make one.
pub fn listen(path: &Path, decide: impl Fn(&Call) -> Option<Errno> + Send + 'static) -> JoinHandle<Heard> {
    let _ = std::fs::remove_file(path);
    let socket = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (state, listener) = accept(&socket);
        let mut calls = Vec::new();
        loop {
            let mut ready = [PollFd::new(&listener, PollFlags::IN)];
            let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            assert!(poll(&mut ready, Some(&patience)).unwrap() > 0, "no call, and no end");
            if !ready[0].revents().contains(PollFlags::IN) {
                return Heard { state, calls };
            }
            // Who asked may be gone, or interrupted, by now.
            let Ok(call) = sys::receive(listener.as_fd()) else { continue };
            let answer = decide(&call);
            match sys::answer(listener.as_fd(), &call, answer) {
                Ok(()) | Err(Errno::ENOENT) => calls.push(call),
                Err(errno) => panic!("answer: {errno}"),
            }
        }
    })
}

fn accept(socket: &UnixListener) -> (Value, OwnedFd) {
    let (stream, _) = socket.accept().unwrap();
    let mut bytes = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).unwrap();
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (serde_json::from_slice(&bytes[..got.bytes]).unwrap(), fd.expect("a descriptor"))
}
