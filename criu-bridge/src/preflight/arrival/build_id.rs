//! The build-id of a program or library: a note that the linker made of its content (elf(5)).

use std::fs::File;
use std::os::unix::fs::FileExt;

// elf(5): the note type, and what its owner is called.
const NT_GNU_BUILD_ID: u32 = 3;
const PT_NOTE: u32 = 4;
const OWNER: &[u8] = b"GNU\0";

/// A program header table is a few hundred bytes, notes likewise; more than this is not looked at.
const LIMIT: usize = 1 << 20;

/// The build-id, hexadecimal; `None` for what is no ELF file of this processor's byte order, or has none.
pub(super) fn of(file: &File) -> Option<String> {
    let read = |at: u64, size: usize| {
        let mut bytes = vec![0; size.min(LIMIT)];
        file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let head = read(0, 64).or_else(|| read(0, 52))?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = head.get(4) == Some(&2);
    let (table, size, count) = if wide {
        (long(&head, 0x20)?, half(&head, 0x36)?, half(&head, 0x38)?)
    } else {
        (u64::from(word(&head, 0x1c)?), half(&head, 0x2a)?, half(&head, 0x2c)?)
    };
    for number in 0..count {
        let header = read(table.checked_add(u64::from(number) * u64::from(size))?, usize::from(size))?;
        if word(&header, 0) != Some(PT_NOTE) {
            continue;
        }
        let (at, length) = if wide {
            (long(&header, 8)?, long(&header, 0x20)?)
        } else {
            (u64::from(word(&header, 4)?), u64::from(word(&header, 0x10)?))
        };
        if let Some(id) = read(at, usize::try_from(length).ok()?).and_then(|notes| find(&notes)) {
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    None
}

fn find(notes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = notes;
    loop {
        let (owner, content, kind) = (word(rest, 0)?, word(rest, 4)?, word(rest, 8)?);
        let (owner, content) = (usize::try_from(owner).ok()?, usize::try_from(content).ok()?);
        let begin = owner.checked_next_multiple_of(4)?.checked_add(12)?;
        let end = begin.checked_add(content)?;
        let value = rest.get(begin..end)?;
        if kind == NT_GNU_BUILD_ID && rest.get(12..12 + owner) == Some(OWNER) {
            return Some(value.to_vec());
        }
        rest = rest.get(end.checked_next_multiple_of(4)?..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_build_id_of_a_program_is_what_file_1_says() {
        // Every distribution's shell has one.
        let own = of(&File::open("/bin/sh").unwrap()).unwrap();
        assert!(own.len() >= 16 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{own}");
        let bytes = std::fs::read("/bin/sh").unwrap();
        let raw: Vec<u8> =
            (0..own.len() / 2).map(|at| u8::from_str_radix(&own[2 * at..2 * at + 2], 16).unwrap()).collect();
        assert!(bytes.windows(raw.len()).any(|window| window == raw));
    }

    #[test]
    fn what_is_no_program_has_none_and_is_no_panic() {
        let whole = std::fs::read("/bin/sh").unwrap();
        for length in [0, 4, 20, 60, 64, 100, 500] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&whole[..length]).unwrap();
            assert_eq!(of(&file), None, "{length}");
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0xff; 4096]).unwrap();
        assert_eq!(of(&file), None);
        assert_eq!(find(&[0xff; 64]), None);
    }
}
