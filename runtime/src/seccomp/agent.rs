//! The agent that decides about system calls: what it is sent (`config-linux.md` of the OCI runtime specification,
//! "The Container Process State").

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use serde_json::{Value, json};

use crate::config::Seccomp;
use crate::container::OCI_VERSION;
use crate::error::{Error, Result};

/// Sends the agent of the profile the descriptor `listener`, with what it may want to know of the process `pid` and of
/// its container, whose state is `state`.
///
/// # Errors
/// [`Error::Refused`] when nobody listens there; [`Error::Call`].
pub(crate) fn tell_agent(profile: &Seccomp, pid: Pid, state: Value, listener: &OwnedFd) -> Result<()> {
    let Some(path) = &profile.listener_path else {
        return Err(Error::start(
            "an agent is to decide about system calls, and linux.seccomp.listenerPath is not set",
        ));
    };
    let about = about(profile, pid, state).to_string();
    let shown = || format!("the agent at linux.seccomp.listenerPath {}", path.display());
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::call("make a socket for", shown(), error))?;
    let address =
        SocketAddrUnix::new(path.as_path()).map_err(|error| Error::call("connect to", shown(), error))?;
    connect(&socket, &address).map_err(|error| Error::Refused {
        problem: format!("{} cannot be reached: {}", shown(), std::io::Error::from(error)),
        hint: "start the agent before the container, or remove SCMP_ACT_NOTIFY from the profile",
    })?;
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = sendmsg(&socket, &[IoSlice::new(about.as_bytes())], &mut control, SendFlags::NOSIGNAL)
        .map_err(|error| Error::call("write to", shown(), error))?;
    if sent < about.len() {
        // The descriptor went with the first byte.
        use std::io::Write;
        std::os::unix::net::UnixStream::from(socket)
            .write_all(&about.as_bytes()[sent..])
            .map_err(|error| Error::call("write to", shown(), error))?;
    }
    Ok(())
}

fn about(profile: &Seccomp, pid: Pid, state: Value) -> Value {
    let mut about = json!({
        "ociVersion": OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": pid.as_raw(),
        "state": state,
    });
    if let Some(metadata) = &profile.listener_metadata {
        about["metadata"] = json!(metadata);
    }
    about
}
