//! One conversation with CRIU.
//!
//! ```text
//!   floe                                   criu swrk FD
//!    │ ── Criu_req (DUMP | RESTORE | …) ──►  │
//!    │ ◄── NOTIFY "pre-dump" ─────────────   │   each blocks criu until it is answered
//!    │ ── NOTIFY success, external keys ──►  │
//!    │            …                          │
//!    │ ◄── Criu_resp success | cr_errmsg ──  │   then it exits
//! ```
//!
//! The transport is a `SOCK_SEQPACKET` pair: one datagram, one message, no length in front. A process serves one
//! request, since CRIU does not reset itself between two. CRIU never learns of floe's death but by the end of the
//! socket, so our end is close-on-exec, and CRIU is not tied to our life: when floe is killed, CRIU must still take
//! its parasite out of the tasks and let them go.
//!
//! CRIU's own configuration files are kept out (`--no-default-config`), so that what a host's administrator wrote
//! for `criu dump` does not change a snapshot unnoticed.

use std::io::{IoSliceMut, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use protobuf::Message;
use rust_criu::rust_criu_protobuf::rpc::{Criu_notify, Criu_opts, Criu_req, Criu_req_type, Criu_resp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

use crate::apart;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::progress::Phase;

/// The number under which CRIU gets its end of the socket. Inherited descriptors follow it.
const SOCKET_FD: RawFd = 3;

/// Largest reply that is taken. CRIU's are a few hundred bytes; a version with a long error text may grow.
const REPLY_LIMIT: usize = 1 << 20;

/// Requests with many external mounts outgrow the default of 208 KiB; a datagram must fit the buffer whole.
const SEND_BUFFER: usize = 8 << 20;

/// How long CRIU gets to take its parasite out of the tasks after it was asked to give up, however short the caller's
/// patience: a task in whose middle it is killed may not live on.
const GRACE: Duration = Duration::from_secs(10);

/// How often [`Handler::tick`] is called.
const TICK: Duration = Duration::from_millis(100);

/// What CRIU is told in answer to a notification.
#[derive(Debug, Default)]
pub struct Answer {
    /// Whether it may go on. Not every notification heeds a "no": `pre-resume` and `post-resume` ignore it.
    pub go_on: bool,
    /// Keys of external resources; only `query-ext-files` takes them.
    pub external: Vec<String>,
}

impl Answer {
    /// Go on.
    pub fn yes() -> Self {
        Self { go_on: true, external: Vec::new() }
    }
}

/// Hears what CRIU says along the way.
pub trait Handler {
    /// CRIU is at `script` (the names of criu(8), "Action scripts") and waits for the answer. `pid` is the root
    /// task, told at `setup-namespaces` and `post-restore`; `fd` comes with `orphan-pts-master`.
    ///
    /// # Errors
    /// An error is answered to CRIU as "no" and ends the request; it is what the caller gets, whatever CRIU replies.
    fn notify(&mut self, script: &str, pid: Option<i32>, fd: Option<OwnedFd>) -> Result<Answer>;

    /// The phase that the work is in, for messages.
    fn phase(&self) -> Phase;

    /// Called a few times a second while CRIU works, for progress.
    fn tick(&mut self) {}

    /// Called once when floe wants CRIU to give up: what CRIU may be blocked on should fail now.
    fn abort(&mut self) {}
}

/// How a request ended.
#[derive(Debug)]
pub struct Outcome {
    /// CRIU's last message; `None` if it died without one.
    pub reply: Option<Criu_resp>,
    /// How the process ended.
    pub status: ExitStatus,
    /// What it wrote to stderr.
    pub stderr: String,
    /// The first error of ours that made floe say "no".
    pub veto: Option<Error>,
}

impl Outcome {
    /// Whether CRIU says it succeeded, and nobody here objected.
    pub fn succeeded(&self) -> bool {
        self.veto.is_none() && self.reply.as_ref().is_some_and(Criu_resp::success)
    }

    /// A word about a process that died on a signal.
    pub fn death(&self) -> Option<String> {
        self.status.signal().map(|signal| {
            let name = nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| signal.to_string(), |s| s.to_string());
            format!("criu was killed by {name}")
        })
    }
}

/// Where a CRIU lives.
#[derive(Debug, Default)]
pub struct Home<'a> {
    /// Where its number is noted, by its own hand.
    pub note: Option<std::fs::File>,
    /// The name of a session keyring of its own: the caller's keys are not the container's (keyrings(7)).
    pub keyring: Option<&'a str>,
    /// The files by which it goes into a cgroup, `tasks` or `cgroup.procs` of each hierarchy, open for writing.
    pub doors: Vec<std::fs::File>,
    /// Whether that cgroup is the root of a cgroup namespace of its own.
    pub cgroup_namespace: bool,
}

/// A running `criu swrk`.
#[derive(Debug)]
pub struct Session {
    child: Child,
    /// Readable once the worker itself has ended: what it forked may hold its end of the socket for longer.
    ended: OwnedFd,
    socket: OwnedFd,
    stderr: std::fs::File,
    program: PathBuf,
}

impl Session {
    /// Starts `program` as a worker. `inherit` are descriptors that CRIU gets as numbers of its own, which are
    /// returned in the same order.
    ///
    /// # Errors
    /// [`Error::Call`] if the pair, the scratch file or the process cannot be made.
    pub fn spawn(program: &Path, inherit: Vec<OwnedFd>) -> Result<(Self, Vec<RawFd>)> {
        Self::spawn_at(program, inherit, Home::default())
    }

    /// As [`Session::spawn`], in a place of its own, which what it restores inherits.
    ///
    /// # Errors
    /// As [`Session::spawn`]; the place cannot be entered.
    pub fn spawn_at(program: &Path, inherit: Vec<OwnedFd>, home: Home<'_>) -> Result<(Self, Vec<RawFd>)> {
        let Home { note, keyring, doors, cgroup_namespace } = home;
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|source| Error::call("socketpair", "", source))?;
        // Past the limit of net.core.wmem_max this needs CAP_NET_ADMIN; without it large requests are refused later.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&ours, SEND_BUFFER);
        let stderr = rustix::fs::memfd_create("criu-stderr", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|source| Error::call("memfd_create", "criu-stderr", source))?;
        let stderr = std::fs::File::from(stderr);
        let theirs_err = stderr.try_clone().map_err(|source| Error::call("dup", "criu-stderr", source))?;

        let mut command = Command::new(program);
        command
            .args(["--no-default-config", "swrk", &SOCKET_FD.to_string()])
            .env_remove("CRIU_CONFIG_FILE")
            // A group of its own: an interrupt from the terminal is floe's to handle, and floe's alone.
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(theirs_err);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // Before the descriptors get CRIU's numbers, which may be those of the note and of the doors.
        crate::sys::prepare_child(&mut command, note, doors, cgroup_namespace);
        let mut numbers = Vec::with_capacity(inherit.len());
        let mut mappings = vec![FdMapping { parent_fd: theirs, child_fd: SOCKET_FD }];
        for fd in inherit {
            let child_fd = SOCKET_FD + 1 + RawFd::try_from(numbers.len()).unwrap_or(RawFd::MAX);
            numbers.push(child_fd);
            mappings.push(FdMapping { parent_fd: fd, child_fd });
        }
        command.fd_mappings(mappings).map_err(|source| Error::Call {
            call: "inherit descriptors",
            on: program.display().to_string(),
            source: std::io::Error::other(source.to_string()),
        })?;
        let mut spawn = || command.spawn().map_err(|source| Error::call("exec", program, source));
        let mut child = match keyring {
            // A thread joins it, and hands it on to what it starts; ours stays what it is.
            Some(name) => apart::on_a_thread(|| {
                floe_runtime::keyring::join(name, false)?;
                spawn()
            })?,
            None => spawn()?,
        };
        // `command` owns CRIU's ends; they must be closed here, or the end of the socket would never be seen.
        drop(command);
        let ended = pidfd(&child).map_err(|source| {
            let _ = child.kill();
            let _ = child.wait();
            Error::call("pidfd_open", program, source)
        })?;
        Ok((Self { child, ended, socket: ours, stderr, program: program.to_owned() }, numbers))
    }

    /// The pid of the worker, in our namespace.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    /// Sends one request and follows it to its end. `silence` is the longest time without a word from CRIU.
    ///
    /// When `cancel` is raised or the time is over, CRIU is asked to give up (its next question is answered with
    /// "no", and [`Handler::abort`] cuts what it may be blocked on), and killed only if it does not: a killed CRIU
    /// cannot take its parasite out of the tasks.
    ///
    /// # Errors
    /// [`Error::Call`] if the socket fails; what CRIU itself says comes in the [`Outcome`].
    pub fn call(
        mut self,
        request: &Criu_req,
        handler: &mut dyn Handler,
        cancel: Option<&Cancel>,
        silence: Duration,
    ) -> Result<Outcome> {
        let sent = self.send(request);
        let (reply, veto) = match sent {
            Ok(()) => self.converse(handler, cancel, silence),
            Err(error) => (None, Some(error)),
        };
        let status = self.reap(silence.max(GRACE))?;
        let mut text = String::new();
        let mut raw = Vec::new();
        if self.stderr.seek(SeekFrom::Start(0)).is_ok()
            && (&self.stderr).take(REPLY_LIMIT as u64).read_to_end(&mut raw).is_ok()
        {
            text = String::from_utf8_lossy(&raw).into_owned();
        }
        Ok(Outcome { reply, status, stderr: text, veto })
    }

    fn converse(
        &mut self,
        handler: &mut dyn Handler,
        cancel: Option<&Cancel>,
        silence: Duration,
    ) -> (Option<Criu_resp>, Option<Error>) {
        let mut veto: Option<Error> = None;
        let mut deadline = Instant::now() + silence;
        loop {
            let heed = if veto.is_none() { cancel } else { None };
            match self.wait(heed, deadline, handler) {
                Ok(Woken::Message) => {}
                Ok(Woken::Died) => return (None, veto),
                Ok(Woken::Cancelled) => {
                    veto = Some(Error::Interrupted { phase: handler.phase() });
                    handler.abort();
                    self.wake();
                    deadline = Instant::now() + silence.max(GRACE);
                    continue;
                }
                Ok(Woken::TimedOut) => {
                    // Asked once already: nothing is left but to end it.
                    let second = veto.is_some();
                    if veto.is_none() {
                        veto = Some(Error::TimedOut { phase: handler.phase(), limit: silence });
                        handler.abort();
                        self.wake();
                    }
                    if second {
                        let _ = self.child.kill();
                        return (None, veto);
                    }
                    deadline = Instant::now() + GRACE;
                    continue;
                }
                Err(error) => return (None, veto.or(Some(error))),
            }
            let (message, fd) = match self.receive() {
                Ok(Some(message)) => message,
                Ok(None) => return (None, veto),
                Err(error) => return (None, veto.or(Some(error))),
            };
            if message.type_() != Criu_req_type::NOTIFY {
                return (Some(message), veto);
            }
            let answer = match (&veto, message.notify.as_ref()) {
                (None, Some(notify)) => {
                    handler.notify(notify.script(), pid_of(notify), fd).unwrap_or_else(|error| {
                        veto = Some(error);
                        Answer::default()
                    })
                }
                _ => Answer::default(),
            };
            if let Err(error) = self.send(&answer_request(&answer)) {
                veto.get_or_insert(error);
            }
            deadline = Instant::now() + silence;
        }
    }

    /// One that somebody has stopped would not notice that it is to give up.
    fn wake(&self) {
        let _ = killpg(self.group(), Signal::SIGCONT);
    }

    fn send(&self, request: &Criu_req) -> Result<()> {
        let bytes = request.write_to_bytes().map_err(|error| Error::NotCriu {
            path: self.program.clone(),
            detail: format!("a request could not be encoded: {error}"),
        })?;
        rustix::net::send(&self.socket, &bytes, SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|source| Error::call("send to criu", &self.program, source))
    }

    fn wait(&self, cancel: Option<&Cancel>, deadline: Instant, handler: &mut dyn Handler) -> Result<Woken> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Woken::TimedOut);
            }
            let left = left.min(TICK);
            let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
            let mut fds = vec![readable(self.socket.as_fd()), readable(self.ended.as_fd())];
            fds.extend(cancel.map(|token| readable(token.as_fd())));
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => {
                    handler.tick();
                    continue;
                }
                Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(source) => return Err(Error::call("poll", "criu", source)),
            }
            let woken = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            return Ok(match () {
                () if woken(2) => Woken::Cancelled,
                // Its last words come before its end.
                () if woken(0) => Woken::Message,
                () => Woken::Died,
            });
        }
    }

    /// The next message with the descriptor that came along; `None` at the end of the socket.
    fn receive(&self) -> Result<Option<(Criu_resp, Option<OwnedFd>)>> {
        let lost = |source: rustix::io::Errno| Error::call("receive from criu", &self.program, source);
        let size =
            match rustix::net::recv(&self.socket, &mut [0u8; 0][..], RecvFlags::PEEK | RecvFlags::TRUNC) {
                Ok((_, size)) => size,
                // CRIU died without reading what we sent.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(source) => return Err(lost(source)),
            };
        if size > REPLY_LIMIT {
            return Err(Error::NotCriu {
                path: self.program.clone(),
                detail: format!("a message of {size} bytes"),
            });
        }
        let mut bytes = vec![0u8; size.max(1)];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(lost)?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if got.bytes == 0 {
            return Ok(None);
        }
        let message = Criu_resp::parse_from_bytes(&bytes[..got.bytes]).map_err(|error| Error::NotCriu {
            path: self.program.clone(),
            detail: format!("a message that is no criu_resp ({error})"),
        })?;
        Ok(Some((message, fd)))
    }

    /// Waits for CRIU's end. Closing our side tells it that nobody listens any more.
    fn reap(&mut self, patience: Duration) -> Result<ExitStatus> {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let deadline = Instant::now() + patience;
        while !self.has_ended(deadline)? {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
                break;
            }
        }
        self.end_helpers();
        self.child.wait().map_err(|source| Error::call("wait for criu", &self.program, source))
    }

    /// Whether CRIU ends before the deadline; also `false` when something else wakes us. It stays a zombie, and its
    /// number its own.
    fn has_ended(&self, deadline: Instant) -> Result<bool> {
        let mut fds = [PollFd::new(&self.ended, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(deadline.saturating_duration_since(Instant::now())))) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(source) => Err(Error::call("poll", "criu", source)),
        }
    }

    /// A killed CRIU leaves behind what it had started: a child that only sleeps, with which it asks the kernel what
    /// ptrace(2) can do; tar or ip. All are in its process group, whose number nobody else can have before CRIU is reaped.
    fn end_helpers(&self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        if matches!(waitid(Id::Pid(self.group()), flags), Ok(WaitStatus::Signaled(..))) {
            let _ = killpg(self.group(), Signal::SIGKILL);
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.pid())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Only reached with a live child when `call` was never made: the worker has touched nothing yet.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Woken {
    Message,
    Died,
    Cancelled,
    TimedOut,
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

fn pidfd(child: &Child) -> rustix::io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};
    pidfd_open(rustix::process::Pid::from_child(child), PidfdFlags::empty())
}

fn pid_of(notify: &Criu_notify) -> Option<i32> {
    notify.has_pid().then(|| notify.pid()).filter(|pid| *pid > 0)
}

fn answer_request(answer: &Answer) -> Criu_req {
    let mut request = Criu_req::new();
    request.set_type(Criu_req_type::NOTIFY);
    request.set_notify_success(answer.go_on);
    if answer.go_on && !answer.external.is_empty() {
        let mut opts = Criu_opts::new();
        // The field is required by the message type; nothing reads it here.
        opts.set_images_dir_fd(-1);
        opts.external = answer.external.clone();
        request.opts = protobuf::MessageField::some(opts);
    }
    request
}

/// The socket as CRIU's numbering sees it, for `images_dir_fd` and its like: those are looked up in *our* table.
pub(crate) fn own_number(fd: &impl AsFd) -> RawFd {
    std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd())
}
