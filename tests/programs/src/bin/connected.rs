//! One thing that a checkpoint takes only when it is told to.
//!
//! `connected --dir DIR WHAT` holds one of these, and understands a question about it in `DIR/ask`:
//!
//! - `tcp`: both ends of a connection on the loopback interface. `TOKEN send TEXT` sends TEXT through it, and answers with
//!   what came out.
//! - `unix NAME`: a datagram socket that is connected to somebody else's with the abstract name NAME. `TOKEN send TEXT`
//!   sends TEXT there.
//! - `reader` and `writer`: descriptor 3, which it has been handed. `TOKEN receive NUMBER` and `TOKEN send TEXT` as above.
//! - `clock`: nothing. `TOKEN child` starts a process that sleeps, and answers with its number; `TOKEN clock` answers with the monotonic clock and the one that counts while the host sleeps too, in
//!   milliseconds.
//! - `listen ADDRESS [MIB]` (with so much memory) and `connect ADDRESS`: a TCP socket, `ADDRESS:PORT`. `TOKEN accept` takes the next connection to it,
//!   `TOKEN close` closes it; `TOKEN send TEXT` writes TEXT, `TOKEN receive NUMBER` answers with so many bytes that came.
//! - `file`: a file that has lost the name by which it was opened, and kept another. `TOKEN send TEXT` appends TEXT, and
//!   answers with all that is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use floe_test_programs::door::Door;
use nix::time::{ClockId, clock_gettime};

enum Held {
    Connection { near: TcpStream, far: TcpStream },
    Socket(UnixDatagram),
    File(File),
    Listener { listener: TcpListener, stream: Option<TcpStream> },
    Peer(TcpStream),
    Handed(File),
    Nothing,
}

/// By its path, for there is no safe way to take a number for a descriptor.
const HANDED: &str = "/proc/self/fd/3";

/// What has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (folder, mut held) = match words.as_slice() {
        ["--dir", folder, "tcp"] => (folder, connection()?),
        ["--dir", folder, "unix", name] => (folder, socket(name)?),
        ["--dir", folder, "listen", address, rest @ ..] => {
            if let [mib] = rest {
                // Never read again: it is there to be dumped.
                std::mem::forget(memory(mib.parse()?));
            }
            let listener = TcpListener::bind(address).with_context(|| format!("listen at {address}"))?;
            (folder, Held::Listener { listener, stream: None })
        }
        ["--dir", folder, "connect", address] => {
            let peer = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
            peer.set_read_timeout(Some(PATIENCE))?;
            (folder, Held::Peer(peer))
        }
        ["--dir", folder, "reader"] => (folder, Held::Handed(File::open(HANDED).context("descriptor 3")?)),
        ["--dir", folder, "writer"] => {
            let file = OpenOptions::new().append(true).open(HANDED).context("descriptor 3")?;
            (folder, Held::Handed(file))
        }
        ["--dir", _, "child"] => loop {
            std::thread::sleep(PATIENCE);
        },
        ["--dir", folder, "clock"] => (folder, Held::Nothing),
        ["--dir", folder, "file"] => (folder, file(Path::new(folder))?),
        _ => bail!(
            "usage: connected --dir DIR tcp | unix NAME | reader | writer | clock | listen ADDRESS [MIB] | connect ADDRESS | file"
        ),
    };
    let door = Door::new(PathBuf::from(folder));
    door.ready("ok\n")?;
    loop {
        let question = door.wait()?;
        let words: Vec<&str> = question.words.iter().map(String::as_str).collect();
        let result = match words.as_slice() {
            ["send", text] => send(&mut held, text),
            ["clock"] => clock(),
            ["child"] => child(),
            ["accept"] => accept(&mut held),
            ["close"] => {
                if let Held::Listener { stream, .. } = &mut held {
                    *stream = None;
                }
                Ok("ok".to_owned())
            }
            ["receive", number] => receive(&mut held, number),
            other => bail!("unknown question {other:?}"),
        };
        let answer = result.unwrap_or_else(|error| format!("failed: {error:#}"));
        door.answer(&question, &format!("{answer}\n"))?;
    }
}

/// So many MiB that do not compress to nothing.
fn memory(mib: usize) -> Vec<u64> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..mib << 17).map(|_| next()).collect()
}

fn connection() -> Result<Held> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let near = TcpStream::connect(listener.local_addr()?).context("connect")?;
    let (far, _) = listener.accept().context("accept")?;
    Ok(Held::Connection { near, far })
}

fn socket(name: &str) -> Result<Held> {
    let socket = UnixDatagram::unbound().context("socket")?;
    socket
        .connect_addr(&SocketAddr::from_abstract_name(name)?)
        .with_context(|| format!("connect to {name}"))?;
    Ok(Held::Socket(socket))
}

fn file(folder: &Path) -> Result<Held> {
    let (name, other) = (folder.join("name"), folder.join("other-name"));
    let file = OpenOptions::new().read(true).append(true).create_new(true).open(&name).context("open")?;
    fs::hard_link(&name, other).context("link")?;
    fs::remove_file(name).context("unlink")?;
    Ok(Held::File(file))
}

fn accept(held: &mut Held) -> Result<String> {
    let Held::Listener { listener, stream } = held else { bail!("nothing listens") };
    let (accepted, from) = listener.accept().context("accept")?;
    accepted.set_read_timeout(Some(PATIENCE))?;
    *stream = Some(accepted);
    Ok(format!("ok {from}"))
}

fn child() -> Result<String> {
    let child = std::process::Command::new(std::env::current_exe()?).args(["--dir", "/", "child"]).spawn()?;
    Ok(format!("ok {}", child.id()))
}

fn clock() -> Result<String> {
    let of = |clock| clock_gettime(clock).map(Duration::from);
    let monotonic = of(ClockId::CLOCK_MONOTONIC)?.as_millis();
    Ok(format!("ok {monotonic} {}", of(ClockId::CLOCK_BOOTTIME)?.as_millis()))
}

fn receive(held: &mut Held, number: &str) -> Result<String> {
    let mut came = vec![0; number.parse()?];
    if let Held::Handed(file) = held {
        file.read_exact(&mut came).context("read")?;
        return Ok(format!("ok {}", String::from_utf8_lossy(&came)));
    }
    let mut stream = match held {
        Held::Listener { stream: Some(stream), .. } | Held::Peer(stream) => &*stream,
        _ => bail!("there is no connection"),
    };
    stream.read_exact(&mut came).context("read")?;
    Ok(format!("ok {}", String::from_utf8_lossy(&came)))
}

fn send(held: &mut Held, text: &str) -> Result<String> {
    let mut came = vec![0; text.len()];
    match held {
        Held::Connection { near, far } => {
            near.write_all(text.as_bytes()).context("write")?;
            far.read_exact(&mut came).context("read")?;
        }
        Held::Handed(file) => {
            file.write_all(text.as_bytes()).context("write")?;
            return Ok("ok".to_owned());
        }
        Held::Listener { stream: None, .. } | Held::Nothing => bail!("there is no connection"),
        Held::Listener { stream: Some(stream), .. } | Held::Peer(stream) => {
            stream.write_all(text.as_bytes()).context("write")?;
            return Ok("ok".to_owned());
        }
        Held::Socket(socket) => {
            socket.send(text.as_bytes()).context("send")?;
            return Ok("ok".to_owned());
        }
        Held::File(file) => {
            file.write_all(text.as_bytes()).context("write")?;
            file.rewind().context("seek")?;
            came.clear();
            file.read_to_end(&mut came).context("read")?;
        }
    }
    Ok(format!("ok {}", String::from_utf8_lossy(&came)))
}
