//! What the kernel says about a process, as far as it has to be the same after a restore.
//!
//! Everything here is read from proc(5). Left out is what names kernel objects by numbers that are new after each
//! restore (inodes, mount ids), what time changes by itself, and what CRIU documents as lost (CPU affinity,
//! accounting, I/O priority).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::report::{Report, short};
use crate::sys;

/// Lines of `/proc/PID/status` that have to stay. `TracerPid` is 0 before, so it has to be 0 after.
const STATUS: &[&str] = &[
    "Name",
    "Umask",
    "Tgid",
    "Pid",
    "PPid",
    "TracerPid",
    "Uid",
    "Gid",
    "Groups",
    "NSpid",
    "NSpgid",
    "NSsid",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "VmLck",
];
/// Fields of `/proc/PID/stat` after the name, counted from the state as 3 (proc_pid_stat(5)): parent, group, session,
/// terminal, nice, exit signal, realtime priority, policy.
const STAT: &[(usize, &str)] = &[
    (4, "ppid"),
    (5, "pgrp"),
    (6, "session"),
    (7, "tty"),
    (19, "nice"),
    (38, "exit signal"),
    (40, "rt priority"),
    (41, "policy"),
];
/// The kernel's `O_LARGEFILE`; the C library's constant is 0 on 64-bit machines.
const LARGE_FILES: i32 = 0o100_000;
/// Keys of `/proc/PID/fdinfo/N` that have to stay, beside the flags.
const FDINFO: &[&str] = &["pos", "eventfd-count", "eventfd-semaphore", "sigmask", "clockid", "settime flags"];

/// Flags of a memory area (proc_pid_smaps(5)) that the program asked for: grows down, locked, read in order or at
/// random, kept from children, wiped in children, kept from core dumps, huge pages wanted or not, mergeable.
/// What the rights allow (`mr`, `mw`, `me`) and who pays (`ac`) is new after a restore.
const ADVICE: &[&str] = &["gd", "lo", "sr", "rr", "dc", "wf", "dd", "hg", "nh", "mg", "ht"];

/// A mask of blocked signals, with SIGUSR2 in it: while a thread waits for that in `sigtimedwait(2)` the kernel takes it
/// out, and whether it waits at this very moment is no difference.
fn with_awaited(mask: &str) -> String {
    u64::from_str_radix(mask, 16)
        .map_or_else(|_| mask.to_owned(), |bits| format!("{:016x}", bits | 1 << (nix::libc::SIGUSR2 - 1)))
}

/// Everything that a process can say about itself, by name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Portrait {
    lines: BTreeMap<String, String>,
}

impl Portrait {
    /// Takes a portrait of this process. Taking it allocates memory, so it is taken until two are alike.
    ///
    /// # Errors
    /// `/proc` cannot be read, or the process never looks the same twice.
    pub fn settled() -> Result<Self> {
        let mut last = Self::take()?;
        for _ in 0..20 {
            let next = Self::take()?;
            if next == last {
                return Ok(next);
            }
            last = next;
        }
        let mut report = Report::default();
        last.compare(&Self::take()?, &mut report);
        anyhow::bail!("the process does not hold still: {}", report.differences.join("; "))
    }

    /// Takes a portrait of this process.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn take() -> Result<Self> {
        let mut portrait = Self::default();
        portrait.process()?;
        portrait.threads()?;
        portrait.descriptors()?;
        portrait.signals()?;
        Ok(portrait)
    }

    /// Compares what was with what is now.
    pub fn compare(&self, now: &Self, report: &mut Report) {
        let missing = String::from("(nothing)");
        for (key, value) in &self.lines {
            let found = now.lines.get(key).unwrap_or(&missing);
            if value.contains('\n') && found.contains('\n') {
                same_lines(key, value, found, report);
            } else {
                report.same(key, value, found);
            }
        }
        for key in now.lines.keys().filter(|key| !self.lines.contains_key(*key)) {
            report.same(key, &missing, &now.lines[key]);
        }
    }

    fn put(&mut self, key: impl Into<String>, value: String) {
        self.lines.insert(key.into(), value);
    }

    fn process(&mut self) -> Result<()> {
        for name in ["cmdline", "environ", "limits", "personality", "oom_score_adj", "timers"] {
            self.put(name, read(&format!("/proc/self/{name}"))?);
        }
        for name in ["cwd", "root", "exe"] {
            self.put(name, link(&format!("/proc/self/{name}"))?);
        }
        self.put("host name", read("/proc/sys/kernel/hostname")?);
        let mut mounts: Vec<String> = read("/proc/self/mountinfo")?.lines().map(mount).collect();
        mounts.sort();
        self.put("mounts", mounts.join("\n"));
        Ok(())
    }

    fn threads(&mut self) -> Result<()> {
        for entry in fs::read_dir("/proc/self/task")? {
            let thread = entry?.file_name().to_string_lossy().into_owned();
            let folder = format!("/proc/self/task/{thread}");
            for line in read(&format!("{folder}/status"))?.lines() {
                if let Some((key, value)) = line.split_once(':')
                    && STATUS.contains(&key)
                {
                    let value = value.trim();
                    let value = if key == "SigBlk" { with_awaited(value) } else { value.to_owned() };
                    self.put(format!("thread {thread} {key}"), value);
                }
            }
            let stat = read(&format!("{folder}/stat"))?;
            let fields: Vec<&str> =
                stat.rsplit_once(") ").context("stat without a name")?.1.split_whitespace().collect();
            for (number, key) in STAT {
                self.put(
                    format!("thread {thread} {key}"),
                    (*fields.get(number - 3).unwrap_or(&"")).to_owned(),
                );
            }
            // The kernel lists them in the order of its own list, which a restore may build in another.
            let mut children: Vec<u32> =
                read(&format!("{folder}/children"))?.split_whitespace().flat_map(str::parse).collect();
            children.sort_unstable();
            self.put(format!("thread {thread} children"), format!("{children:?}"));
        }
        Ok(())
    }

    fn descriptors(&mut self) -> Result<()> {
        for entry in fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_string_lossy().into_owned();
            // The one that this listing is read through is closed by now, or counted in each portrait alike.
            let Ok(target) = link(&format!("/proc/self/fd/{number}")) else { continue };
            if target.starts_with("/proc/") {
                continue;
            }
            // Pipes, sockets and anonymous inodes get new numbers.
            let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind);
            let info = read(&format!("/proc/self/fdinfo/{number}"))?;
            let mut info: Vec<String> = info.lines().filter_map(fdinfo).collect();
            info.sort();
            self.put(format!("descriptor {number}"), format!("{kind}; {}", info.join(", ")));
        }
        Ok(())
    }

    fn signals(&mut self) -> Result<()> {
        let (start, length, flags) = sys::signal_stack()?;
        self.put("signal stack", format!("{start:x} {length} {flags}"));
        for signal in Signal::iterator() {
            let (handler, flags) = sys::disposition(signal as i32)?;
            self.put(format!("disposition of {signal}"), format!("{handler:x} {flags:x}"));
        }
        Ok(())
    }
}

/// The memory map of this process: range, rights, offset, name and flags of each area.
///
/// It is read into memory that is there already, so that reading it does not change it.
#[derive(Debug)]
pub struct MemoryMap {
    before: Vec<u8>,
    now: Vec<u8>,
    length: usize,
}

/// Some hundred areas.
const MAP: usize = 512 * 1024;

impl MemoryMap {
    /// Makes room for two maps.
    #[must_use]
    pub fn new() -> Self {
        Self { before: vec![0; MAP], now: vec![0; MAP], length: 0 }
    }

    /// Remembers the map as it is now. To be called when nothing more is going to be allocated.
    ///
    /// # Errors
    /// `/proc/self/smaps` cannot be read, or is longer than the room for it.
    pub fn record(&mut self) -> Result<()> {
        self.length = read_into("/proc/self/smaps", &mut self.before)?;
        Ok(())
    }

    /// Compares the map with the one that was remembered. To be called before anything else.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn compare(&mut self, report: &mut Report) -> Result<()> {
        if self.length != 0 {
            let length = read_into("/proc/self/smaps", &mut self.now)?;
            same_lines(
                "memory map",
                &areas(&self.before[..self.length]),
                &areas(&self.now[..length]),
                report,
            );
        }
        Ok(())
    }
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::new()
    }
}

fn read_into(path: &str, buffer: &mut [u8]) -> Result<usize> {
    let mut file = fs::File::open(path).with_context(|| format!("open {path}"))?;
    let mut length = 0;
    loop {
        match file
            .read(buffer.get_mut(length..).unwrap_or_default())
            .with_context(|| format!("read {path}"))?
        {
            0 if length == buffer.len() => anyhow::bail!("{path} is longer than {length} bytes"),
            0 => return Ok(length),
            more => length += more,
        }
    }
}

/// One memory area.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    rights: String,
    offset: u64,
    name: String,
    advice: String,
}

impl Area {
    /// An area's first line; `None` for the lines of numbers below it.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, rights, offset, _device, _inode, name @ ..] = words.as_slice() else { return None };
        let (start, end) = range.split_once('-')?;
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            rights: (*rights).to_owned(),
            offset: u64::from_str_radix(offset, 16).ok()?,
            name: area_name(&name.join(" ")),
            advice: String::new(),
        })
    }

    /// Whether the next area is more of the same private memory or the same file; the kernel joins such areas when
    /// it gets them anew.
    fn goes_on(&self, next: &Self) -> bool {
        let file = self.name.starts_with('/');
        let offset = if file { self.offset + (self.end - self.start) } else { self.offset };
        self.rights.ends_with('p')
            && self.end == next.start
            && offset == next.offset
            && (&self.rights, &self.name, &self.advice) == (&next.rights, &next.name, &next.advice)
    }

    fn line(&self) -> String {
        let Self { start, end, rights, offset, name, advice } = self;
        format!("{start:x}-{end:x} {rights} {offset:x} {name} {advice}")
    }
}

/// Shared memory that has no file gets a file of another name; a removed segment loses its key.
fn area_name(name: &str) -> String {
    match name {
        "/memfd:/dev/zero (deleted)" => "/dev/zero (deleted)".into(),
        segment if segment.starts_with("/SYSV") => "/SYSV".into(),
        other => other.into(),
    }
}

fn areas(smaps: &[u8]) -> String {
    let mut areas: Vec<Area> = Vec::new();
    for line in String::from_utf8_lossy(smaps).lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let advice: Vec<&str> = flags.split_whitespace().filter(|flag| ADVICE.contains(flag)).collect();
            // The flags are an area's last line: now it is known whether it continues the one before.
            if let Some(mut area) = areas.pop() {
                area.advice = advice.join(" ");
                match areas.last_mut() {
                    Some(before) if before.goes_on(&area) => before.end = area.end,
                    _ => areas.push(area),
                }
            }
        } else {
            areas.extend(Area::parse(line));
        }
    }
    areas.iter().map(Area::line).collect::<Vec<_>>().join("\n")
}

/// Where something is mounted, with which options, and what kind of file system it is; not its number, source and
/// peer group.
fn mount(line: &str) -> String {
    let (place, kind) = line.split_once(" - ").unwrap_or((line, ""));
    let place: Vec<&str> = place.split_whitespace().collect();
    let [_, _, _, root, point, options, ..] = place.as_slice() else { return line.to_owned() };
    // A masked file has `/dev/null` over it: the container's own, or after a restore the host's.
    if *root == "/null" {
        return format!("{point} masked");
    }
    format!("{point} {options} {}", kind.split_whitespace().next().unwrap_or(""))
}

fn fdinfo(line: &str) -> Option<String> {
    let (key, value) = line.split_once(':')?;
    if key == "tfd" {
        // An epoll's target: descriptor, events and data, but not its inode.
        let words: Vec<&str> = value.split_whitespace().collect();
        return Some(format!("target {}", words.get(..5)?.join(" ")));
    }
    if key == "flags" {
        // Every 64-bit open is one of large files; whether the bit shows depends on the call that opened it.
        let flags = i32::from_str_radix(value.trim(), 8).ok()? & !LARGE_FILES;
        return Some(format!("flags {flags:o}"));
    }
    FDINFO.contains(&key).then(|| format!("{key} {}", value.trim()))
}

/// Compares text line by line, so that a difference names the line.
fn same_lines(key: &str, expected: &str, found: &str, report: &mut Report) {
    report.checks += 1;
    if expected == found {
        return;
    }
    let (was, is): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let gone: Vec<&&str> = was.iter().filter(|line| !is.contains(line)).collect();
    let new: Vec<&&str> = is.iter().filter(|line| !was.contains(line)).collect();
    report.note(format!(
        "{key}: {} lines gone {}, {} new {}",
        gone.len(),
        short(&gone),
        new.len(),
        short(&new)
    ));
}

fn read(path: &str) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn link(path: &str) -> Result<String> {
    let target = fs::read_link(Path::new(path)).with_context(|| format!("readlink {path}"))?;
    Ok(target.to_string_lossy().into_owned())
}
