//! States that CRIU cannot dump, or only when it is asked to. Each is made by its name and held until the program ends.

mod sys;

use std::any::Any;
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::sys::{Side, fork};

/// What keeps a state alive.
pub type Held = Vec<Box<dyn Any>>;

fn held(thing: impl Any) -> Held {
    vec![Box::new(thing)]
}

/// Makes the state `kind`. `folder` is one of the root file system.
///
/// # Errors
/// The kernel refuses it, or there is no such state.
pub fn make(kind: &str, folder: &Path) -> Result<Held> {
    Ok(match kind {
        "nothing" => Vec::new(),
        "io-uring" => held(sys::io_uring()?),
        "userfaultfd" => held(sys::userfaultfd()?),
        "secret-memory" => held(sys::secret()?),
        "perf-event" => held(sys::perf_event()?),
        "bpf" => held(sys::bpf_map()?),
        "fs-context" => held(sys::fs_context()?),
        "device" => held(File::open("/dev/fuse").context("open /dev/fuse")?),
        "vsock" => held(sys::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)?),
        "mptcp" => held(sys::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)?),
        "file-lock" => {
            let file = File::create(folder.join("locked"))?;
            held(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?)
        }
        "deleted-large" => held(deleted(&folder.join("large"), 2 << 20)?),
        "deleted-named" => {
            let file = File::create(folder.join("first"))?;
            fs::hard_link(folder.join("first"), folder.join("second"))?;
            fs::remove_file(folder.join("first"))?;
            held(file)
        }
        "tcp" => {
            let (listener, client) = connection()?;
            let (server, _) = listener.accept()?;
            held((client, server))
        }
        "tcp-waiting" => held(connection()?),
        "udp-corked" => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            sys::cork(&socket)?;
            socket.send_to(b"held back", "127.0.0.1:9")?;
            held(socket)
        }
        "pipe-packets" => {
            let (reader, writer) = nix::unistd::pipe2(OFlag::O_DIRECT)?;
            nix::unistd::write(&writer, b"a packet")?;
            held((reader, writer))
        }
        "unix-stream" => held(UnixStream::connect(folder.join("outside.stream"))?),
        "unix-datagram" => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(folder.join("outside.datagram"))?;
            held(socket)
        }
        "watch-deleted" => {
            let path = Path::new("/dev/shm/watched");
            let file = File::create(path)?;
            let watch = Inotify::init(InitFlags::empty())?;
            watch.add_watch(path, AddWatchFlags::IN_MODIFY)?;
            fs::remove_file(path)?;
            held((watch, file))
        }
        "watch" => {
            fs::write(folder.join("watched"), "")?;
            let watch = Inotify::init(InitFlags::empty())?;
            watch.add_watch(&folder.join("watched"), AddWatchFlags::IN_MODIFY)?;
            held(watch)
        }
        "epoll-closed" => {
            let (reader, writer) = nix::unistd::pipe()?;
            let set = Epoll::new(EpollCreateFlags::empty())?;
            set.add(&reader, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
            let copy = reader.try_clone()?;
            drop(reader);
            held((set, copy, writer))
        }
        "nested-namespace" => {
            child(|| Ok(unshare(CloneFlags::CLONE_NEWUTS)?))?;
            Vec::new()
        }
        "traced" => {
            child(|| {
                nix::sys::ptrace::traceme()?;
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)?;
                Ok(())
            })?;
            Vec::new()
        }
        "zombie-threads" => {
            child(|| {
                std::thread::spawn(|| {
                    loop {
                        std::thread::park();
                    }
                });
                sys::end_this_thread()
            })?;
            Vec::new()
        }
        "covered" => {
            let place = Path::new("/tmp");
            tmpfs(place, "tmpfs")?;
            let file = File::create(place.join("below"))?;
            tmpfs(place, "tmpfs")?;
            held(file)
        }
        "mount-unknown" => {
            tmpfs(Path::new("/tmp"), "ramfs")?;
            Vec::new()
        }
        "open-file" => {
            let mut file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(folder.join("open"))?;
            file.write_all(b"twelve bytes")?;
            held(file)
        }
        other => bail!("there is no state {other:?}"),
    })
}

fn deleted(path: &Path, size: usize) -> Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&vec![1; size])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    Ok(file)
}

fn connection() -> Result<(TcpListener, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener, client))
}

fn tmpfs(place: &Path, kind: &str) -> Result<()> {
    Ok(mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)?)
}

/// A child that makes something of itself and then only waits.
fn child(change: impl FnOnce() -> Result<()>) -> Result<()> {
    if let Side::Parent(_) = fork()? {
        // What it makes is there, or the test's next look finds it.
        std::thread::sleep(std::time::Duration::from_millis(200));
        return Ok(());
    }
    if let Err(error) = change() {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
    loop {
        std::thread::park();
    }
}
