//! Open files: offsets, flags, duplicates, descriptions that processes share, files without a name, FIFOs, devices,
//! folders, paths, terminals.
//!
//! Offsets and flags are in each process's portrait; here the content behind them is looked at.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::mkfifo;

use super::fabric::{COMMON_FILES, Fabric};
use super::{Node, Part};
use crate::report::Report;
use crate::seed;

/// Bytes of each file; they never change, as a snapshot does not hold them.
const LENGTH: usize = 4096;
/// Numbers from here on are for duplicates.
const HIGH: i32 = 600;

/// Opens a file that exists.
///
/// # Errors
/// `open(2)`'s.
pub fn open(path: &Path, flags: OFlag) -> Result<File> {
    let access = flags & OFlag::O_ACCMODE;
    OpenOptions::new()
        .read(access != OFlag::O_WRONLY)
        .write(access != OFlag::O_RDONLY)
        .custom_flags((flags & !OFlag::O_ACCMODE).bits())
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// Makes a file with content that follows from its name, and opens it.
///
/// # Errors
/// The file system's.
pub fn create(path: &Path, flags: OFlag) -> Result<File> {
    let content = seed::bytes(&path.to_string_lossy(), 0, LENGTH);
    std::fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    open(path, flags)
}

/// Opens what belongs to a node.
///
/// # Errors
/// The kernel's.
pub fn build(node: &Node, fabric: &Fabric, parts: &mut Vec<Box<dyn Part>>) -> Result<()> {
    let index = node.index;
    let path = |kind: &str| node.settings.folder.join(format!("{kind}-{index}"));
    let flags = [
        OFlag::O_RDWR,
        OFlag::O_RDWR | OFlag::O_APPEND,
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOATIME,
        OFlag::O_RDWR | OFlag::O_DSYNC,
    ][index % 4];
    let label = path("file");
    parts.push(Box::new(Offset {
        file: create(&label, flags)?,
        label: label.display().to_string(),
        moves: true,
    }));
    if index % 10 < COMMON_FILES {
        let number = index % 10;
        parts.push(Box::new(Offset {
            file: fabric.common[number].try_clone()?,
            label: node.settings.folder.join(format!("common-{number}")).display().to_string(),
            moves: index == number,
        }));
    }
    match index % 6 {
        0 => parts.push(Box::new(Nameless::new(&path("nameless"))?)),
        // Without O_DIRECTORY, which CRIU 4.1 drops from the flags.
        1 => parts.push(Box::new(Held(open(&node.settings.folder, OFlag::O_RDONLY)?.into()))),
        2 => parts.push(Box::new(Held(duplicate(&fabric.common[0], HIGH + index as i32)?))),
        3 => parts.push(Box::new(Fifo::new(&path("fifo"))?)),
        4 => {
            for device in ["/dev/null", "/dev/zero", "/dev/urandom"] {
                parts.push(Box::new(Held(open(Path::new(device), OFlag::O_RDWR)?.into())));
            }
        }
        _ => parts.push(Box::new(Held(open(&label, OFlag::O_PATH)?.into()))),
    }
    if index == 33 || index == 66 {
        parts.push(Box::new(Terminal::new().context("terminal")?));
    }
    Ok(())
}

/// A descriptor that only has to be there; the portrait looks at it.
struct Held(#[expect(dead_code, reason = "held open")] OwnedFd);

impl Part for Held {
    fn look(&mut self, _round: u32, _report: &mut Report) {}

    fn refill(&mut self, _round: u32) -> Result<()> {
        Ok(())
    }
}

/// The same description under a second, high number.
fn duplicate(file: &File, number: i32) -> Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(file, number)?)
}

/// A file whose offset stands somewhere else in each round.
struct Offset {
    file: File,
    label: String,
    moves: bool,
}

impl Offset {
    fn place(&self, round: u32) -> u64 {
        seed::number(&self.label, round) % (LENGTH as u64 - 64)
    }
}

impl Part for Offset {
    fn look(&mut self, round: u32, report: &mut Report) {
        let expected = self.place(round);
        if let Some(found) = report.works(&self.label, self.file.stream_position()) {
            report.same(format!("offset of {}", self.label), &expected, &found);
        }
        let mut found = [0; 64];
        if report.works(&self.label, self.file.read_exact_at(&mut found, expected)).is_some() {
            let content = seed::bytes(&self.label, 0, LENGTH);
            report.content(&self.label, &content[expected as usize..][..64], &found);
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        if self.moves {
            self.file.seek(SeekFrom::Start(self.place(round)))?;
        }
        Ok(())
    }
}

/// A file that was removed while it is open: its content is nowhere but in the snapshot.
struct Nameless {
    file: File,
    label: String,
}

impl Nameless {
    fn new(path: &Path) -> Result<Self> {
        let file = create(path, OFlag::O_RDWR)?;
        std::fs::remove_file(path)?;
        Ok(Self { file, label: path.display().to_string() })
    }
}

impl Part for Nameless {
    fn look(&mut self, round: u32, report: &mut Report) {
        let mut found = vec![0; LENGTH];
        if report.works(&self.label, self.file.read_exact_at(&mut found, 0)).is_some() {
            report.content(&self.label, &seed::bytes(&self.label, round, LENGTH), &found);
        }
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        self.file.write_all_at(&seed::bytes(&self.label, round, LENGTH), 0)?;
        Ok(())
    }
}

/// A pipe with a name.
struct Fifo {
    pipe: File,
    label: String,
}

impl Fifo {
    fn new(path: &Path) -> Result<Self> {
        mkfifo(path, Mode::from_bits_truncate(0o640))?;
        Ok(Self { pipe: open(path, OFlag::O_RDWR | OFlag::O_NONBLOCK)?, label: path.display().to_string() })
    }
}

impl Part for Fifo {
    fn look(&mut self, round: u32, report: &mut Report) {
        let mut found = [0; 900];
        if report.works(&self.label, self.pipe.read_exact(&mut found)).is_some() {
            report.content(&self.label, &seed::bytes(&self.label, round, found.len()), &found);
        }
        let rest = self.pipe.read(&mut [0]).map_err(|error| error.kind());
        report.same(format!("end of {}", self.label), &Err(ErrorKind::WouldBlock), &rest);
    }

    fn refill(&mut self, round: u32) -> Result<()> {
        self.pipe.write_all(&seed::bytes(&self.label, round, 900)).context("write to a FIFO")
    }
}

/// Both ends of a pseudo-terminal, with its size, its modes, and bytes that nobody has read.
struct Terminal {
    ends: OpenptyResult,
    modes: Termios,
}

const SIZE: Winsize = Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };

impl Terminal {
    fn new() -> Result<Self> {
        let ends = openpty(Some(&SIZE), None)?;
        let mut modes = tcgetattr(&ends.slave)?;
        cfmakeraw(&mut modes);
        modes.local_flags |= LocalFlags::NOFLSH;
        tcsetattr(&ends.slave, SetArg::TCSANOW, &modes)?;
        let modes = tcgetattr(&ends.slave)?;
        Ok(Self { ends, modes })
    }

    fn read(&self) -> Result<Vec<u8>> {
        let mut found = vec![0; 64];
        let length = nix::unistd::read(&self.ends.slave, &mut found)?;
        found.truncate(length);
        Ok(found)
    }
}

impl Part for Terminal {
    fn look(&mut self, _round: u32, report: &mut Report) {
        if let Some(modes) = report.works("modes of a terminal", tcgetattr(&self.ends.slave)) {
            report.same("modes of a terminal", &self.modes, &modes);
        }
        if let Some(size) =
            report.works("size of a terminal", rustix::termios::tcgetwinsize(&self.ends.master))
        {
            report.same("size of a terminal", &(SIZE.ws_row, SIZE.ws_col), &(size.ws_row, size.ws_col));
        }
        let echoed =
            nix::unistd::write(&self.ends.master, b"typed").map_err(Into::into).and_then(|_| self.read());
        if let Some(found) = report.works("terminal", echoed) {
            report.same("what was typed on a terminal", &b"typed".to_vec(), &found);
        }
    }

    fn refill(&mut self, _round: u32) -> Result<()> {
        // Its number in /dev/pts is in the portrait, by the name of the descriptor.
        anyhow::ensure!(self.ends.master.as_raw_fd() >= 0);
        Ok(())
    }
}
