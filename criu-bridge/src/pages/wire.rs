//! The messages of CRIU's page server, in both layouts.

use crate::version::PageWire;

/// Bytes of a page. CRIU's x86-64 and aarch64 builds that floe drives use 4 KiB.
pub const PAGE_SIZE: u64 = 4096;

/// Most pages that one message may announce: 1 TiB. CRIU splits runs at its pipes' size (a few hundred pages), so
/// a larger count is a misread stream, not a large container.
pub const RUN_LIMIT: u64 = 1 << 28;

const ADD: u32 = 1;
const HOLE: u32 = 2;
const OPEN: u32 = 3;
const OPEN2: u32 = 4;
const PARENT: u32 = 5;
const ADD_F: u32 = 6;
const CLOSE: u32 = 0x1023;
const FORCE_CLOSE: u32 = 0x1024;

/// Flags of a run, as pagemap images hold them.
pub mod flags {
    /// The parent image has the pages.
    pub const PARENT: u32 = 1;
    /// They may be brought in after the tasks run.
    pub const LAZY: u32 = 2;
    /// Their bytes follow.
    pub const PRESENT: u32 = 4;
}

/// What a stream belongs to: `id << 8 | 1` for a task's memory, `id << 8 | 2` for shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A task, by the pid that the images name it by.
    Task(u64),
    /// A shared memory segment, by CRIU's id.
    SharedMemory(u64),
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A stream begins; with `answer`, CRIU waits for one byte that says whether there is a parent.
    Open {
        /// Whose pages follow.
        owner: Owner,
        /// Whether CRIU waits for the byte.
        answer: bool,
    },
    /// A run of pages.
    Run {
        /// Address of the first, a multiple of the page size.
        vaddr: u64,
        /// How many; at most [`RUN_LIMIT`].
        pages: u64,
        /// [`flags`].
        flags: u32,
    },
    /// CRIU asks whether a parent image exists, and waits for an int32.
    ParentQuery {
        /// Whose.
        owner: Owner,
    },
    /// The end. CRIU waits for an int32.
    Close,
}

/// Bytes of the largest message.
pub const LARGEST: usize = 32;

/// Bytes of a message.
pub const fn size(wire: PageWire) -> usize {
    match wire {
        PageWire::Narrow => 24,
        PageWire::Wide => 32,
    }
}

/// Reads one message.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse(wire: PageWire, bytes: &[u8]) -> Result<Message, String> {
    if bytes.len() != size(wire) {
        return Err(format!("a message of {} bytes", bytes.len()));
    }
    let u32_at = |at: usize| {
        let mut word = [0u8; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        u32::from_ne_bytes(word)
    };
    let u64_at = |at: usize| {
        let mut word = [0u8; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    let word = u32_at(0);
    let (pages, vaddr, dst_id) = match wire {
        PageWire::Narrow => (u64::from(u32_at(4)), u64_at(8), u64_at(16)),
        PageWire::Wide => (u64_at(8), u64_at(16), u64_at(24)),
    };
    let (command, flags) = (word & 0xffff, word >> 16);
    match command {
        OPEN | OPEN2 => Ok(Message::Open { owner: owner(dst_id)?, answer: command == OPEN2 }),
        ADD | HOLE | ADD_F => {
            let flags = match command {
                ADD => flags::PRESENT,
                HOLE => flags::PARENT,
                _ => flags,
            };
            if pages == 0 || pages > RUN_LIMIT {
                return Err(format!("a run of {pages} pages"));
            }
            let end = pages.checked_mul(PAGE_SIZE).and_then(|bytes| vaddr.checked_add(bytes));
            if vaddr % PAGE_SIZE != 0 || end.is_none() {
                return Err(format!("a run of {pages} pages at {vaddr:#x}"));
            }
            Ok(Message::Run { vaddr, pages, flags })
        }
        PARENT => Ok(Message::ParentQuery { owner: owner(dst_id)? }),
        CLOSE | FORCE_CLOSE => Ok(Message::Close),
        other => Err(format!("command {other:#x}")),
    }
}

fn owner(dst_id: u64) -> Result<Owner, String> {
    match dst_id & 0xff {
        1 => Ok(Owner::Task(dst_id >> 8)),
        2 => Ok(Owner::SharedMemory(dst_id >> 8)),
        other => Err(format!("pages of an unknown kind {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(command: u32, pages: u32, vaddr: u64, id: u64) -> Vec<u8> {
        let mut bytes = command.to_ne_bytes().to_vec();
        bytes.extend(pages.to_ne_bytes());
        bytes.extend(vaddr.to_ne_bytes());
        bytes.extend(id.to_ne_bytes());
        bytes
    }

    fn wide(command: u32, pages: u64, vaddr: u64, id: u64) -> Vec<u8> {
        let mut bytes = command.to_ne_bytes().to_vec();
        bytes.extend([0xee; 4]);
        bytes.extend(pages.to_ne_bytes());
        bytes.extend(vaddr.to_ne_bytes());
        bytes.extend(id.to_ne_bytes());
        bytes
    }

    #[test]
    fn both_layouts_say_the_same() {
        let run = Message::Run { vaddr: 0x7000, pages: 3, flags: flags::PRESENT | flags::LAZY };
        let command = ADD_F | (6 << 16);
        assert_eq!(parse(PageWire::Narrow, &narrow(command, 3, 0x7000, 0x101)), Ok(run));
        assert_eq!(parse(PageWire::Wide, &wide(command, 3, 0x7000, 0x101)), Ok(run));
        let open = Message::Open { owner: Owner::Task(42), answer: true };
        assert_eq!(parse(PageWire::Narrow, &narrow(OPEN2, 0, 0, 42 << 8 | 1)), Ok(open));
        assert_eq!(parse(PageWire::Wide, &wide(OPEN2, 0, 0, 42 << 8 | 1)), Ok(open));
        let hole = Message::Run { vaddr: 0x1000, pages: 1, flags: flags::PARENT };
        assert_eq!(parse(PageWire::Narrow, &narrow(HOLE, 1, 0x1000, 0)), Ok(hole));
        let query = Message::ParentQuery { owner: Owner::SharedMemory(7) };
        assert_eq!(parse(PageWire::Narrow, &narrow(PARENT, 0, 0, 7 << 8 | 2)), Ok(query));
        assert_eq!(parse(PageWire::Wide, &wide(FORCE_CLOSE, 0, 0, 0)), Ok(Message::Close));
    }

    #[test]
    fn the_padding_of_the_wide_layout_is_not_read() {
        assert!(parse(PageWire::Wide, &wide(ADD_F | (4 << 16), 1, 0x1000, 0)).is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(PageWire::Narrow, &narrow(ADD_F | (4 << 16), 0, 0x1000, 0)).is_err());
        assert!(parse(PageWire::Narrow, &narrow(ADD_F | (4 << 16), 1, 0x1001, 0)).is_err());
        assert!(parse(PageWire::Wide, &wide(ADD_F | (4 << 16), u64::MAX, 0x1000, 0)).is_err());
        assert!(parse(PageWire::Narrow, &narrow(ADD_F | (4 << 16), 2, u64::MAX - 4095, 0)).is_err());
        assert!(parse(PageWire::Narrow, &narrow(99, 1, 0, 0)).is_err());
        assert!(parse(PageWire::Narrow, &narrow(OPEN2, 0, 0, 3)).is_err());
        assert!(parse(PageWire::Narrow, &[0; 23]).is_err());
        assert!(parse(PageWire::Narrow, &narrow(PARENT, 0, 0, 3)).is_err());
    }
}
