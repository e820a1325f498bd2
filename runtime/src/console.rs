//! The terminal of a container's process.
//!
//! Its master goes over a UNIX socket to whoever asked for it (the caller's `--console-socket`, or floe itself in the
//! foreground), in one message: the name of the terminal and the descriptor (SCM_RIGHTS), as runc does.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, makedev, openat};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pty::{OpenptFlags, grantpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::config::Process;
use crate::error::{Error, Result};
use crate::rootfs::{Root, bind_file};
use crate::sys::{self, StandardStream};

/// `DEVPTS_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const DEVPTS: u64 = 0x1cd1;

/// Opens a terminal in the container's devpts, makes it the controlling one and the standard streams, and sends the
/// master over `socket`. With `root`, it is `/dev/console` in there as well.
pub(crate) fn open(socket: &OwnedFd, process: &Process, root: Option<&Root>) -> Result<()> {
    let master = open_master()?;
    grantpt(&master).map_err(Error::at("grantpt", "/dev/ptmx"))?;
    unlockpt(&master).map_err(Error::at("unlockpt", "/dev/ptmx"))?;
    let name = ptsname(&master, Vec::new()).map_err(Error::at("ptsname", "/dev/ptmx"))?;
    // By the master itself: the name could lead to another terminal.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)
        .map_err(Error::at("open", name.to_string_lossy().as_ref()))?;
    if let Some(size) = process.console_size {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).map_err(Error::at("set the size of", "the terminal"))?;
    }
    if let Some(root) = root {
        bind_file(root, slave.as_fd(), Path::new("/dev/console"))?;
    }
    send(socket.as_fd(), name.to_bytes(), master.as_fd())?;
    rustix::process::ioctl_tiocsctty(&slave).map_err(Error::at("make controlling", "the terminal"))?;
    for stream in [StandardStream::Input, StandardStream::Output, StandardStream::Error] {
        sys::install_standard_stream(slave.as_fd(), stream).map_err(Error::at("dup2", "the terminal"))?;
    }
    Ok(())
}

/// A new terminal's master. In a container that is joined, what is at that path is the container's word; what is
/// opened must be a multiplexer of terminals.
fn open_master() -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (path, master) = match openat(CWD, "/dev/pts/ptmx", flags | OFlags::NOFOLLOW, Mode::empty()) {
        // Made without the option ptmxmode, it is of use to nobody.
        Err(Errno::NOENT | Errno::ACCESS) => ("/dev/ptmx", openat(CWD, "/dev/ptmx", flags, Mode::empty())),
        other => ("/dev/pts/ptmx", other),
    };
    let master = master.map_err(Error::at("open", path))?;
    let stat = fstat(&master).map_err(Error::at("stat", path))?;
    let system = fstatfs(&master).map_err(Error::at("statfs", path))?;
    let is_master = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (stat.st_rdev == makedev(5, 2) || system.f_type as u64 == DEVPTS);
    if !is_master {
        return Err(Error::start(format!("{path} in the container is not the multiplexer of terminals")));
    }
    rustix::fs::fcntl_setfl(&master, OFlags::RDWR).map_err(Error::at("fcntl", path))?;
    Ok(master)
}

/// Sends a terminal's master with its name.
///
/// # Errors
/// [`Error::Call`].
pub fn send(socket: BorrowedFd<'_>, name: &[u8], master: BorrowedFd<'_>) -> Result<()> {
    send_over(socket, name, master, "the console socket")
}

/// Sends a descriptor with a text over a socket, which errors call `on`.
pub(crate) fn send_over(
    socket: BorrowedFd<'_>,
    text: &[u8],
    descriptor: BorrowedFd<'_>,
    on: &str,
) -> Result<()> {
    let fds = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(Error::at("send over", on))
}

/// Receives a terminal's master.
///
/// # Errors
/// [`Error::Call`] if none came.
pub fn receive(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut name = [0u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut name)];
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(Error::at("receive over", "the console socket"))?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.ok_or_else(|| {
        Error::call("receive over", "the console socket", std::io::Error::other("no descriptor came"))
    })
}
