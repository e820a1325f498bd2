//! CRIU's messages that floe knows: what each means, and what to do.
//!
//! The table is data, cut along what the messages are about. Each entry holds a line as CRIU 4.1.1 logs it; the test
//! below demands that the line is recognised, by its own entry and no other. `docs/failures.md` has the same table for
//! people, with the test that provokes each message; `tests/explained.rs` compares the two.

mod files;
mod host;
mod memory;
mod namespaces;
mod network;
mod restore;
mod sockets;
mod tasks;

/// During which work CRIU says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum During {
    /// A dump.
    Dump,
    /// A restore.
    Restore,
    /// Both, or a look at the kernel.
    Either,
}

/// A known message.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its key in `docs/failures.md` and in JSON.
    pub name: &'static str,
    /// When CRIU says it.
    pub during: During,
    /// Pieces of CRIU's line, all of which are in it, in this order.
    pub pieces: &'static [&'static str],
    /// What it means.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// A line as CRIU 4.1.1 logs it.
    pub line: &'static str,
}

impl Known {
    const fn new(
        name: &'static str,
        during: During,
        pieces: &'static [&'static str],
        cause: &'static str,
        remedy: &'static str,
        line: &'static str,
    ) -> Self {
        Self { name, during, pieces, cause, remedy, line }
    }

    /// Whether it names what may be behind anything, such as a full disk: a line that tells more goes before it.
    pub fn is_general(&self) -> bool {
        host::KNOWN.iter().any(|known| known.name == self.name) || self.name == "no-memory"
    }

    /// Whether `line` is this message.
    pub fn is_in(&self, line: &str) -> bool {
        let mut rest = line;
        self.pieces.iter().all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    }
}

/// Every known message. The first that fits counts, so special ones stand before general ones.
pub fn all() -> impl Iterator<Item = &'static Known> {
    let parts = [
        sockets::KNOWN,
        files::KNOWN,
        memory::KNOWN,
        tasks::KNOWN,
        namespaces::KNOWN,
        network::KNOWN,
        restore::KNOWN,
        host::KNOWN,
    ];
    parts.into_iter().flatten()
}

/// The message in `line`, if it is known.
pub fn find(line: &str) -> Option<&'static Known> {
    all().find(|known| known.is_in(line))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_line_is_recognised_by_its_own_entry() {
        for known in all() {
            assert!(known.line.contains("Error ("), "{}: a line of the log", known.name);
            let found = find(known.line).map(|known| known.name);
            assert_eq!(found, Some(known.name), "{}", known.line);
        }
    }

    #[test]
    fn there_are_sixty_and_each_says_what_to_do() {
        assert!(all().count() >= 60, "{}", all().count());
        let names: HashSet<&str> = all().map(|known| known.name).collect();
        assert_eq!(names.len(), all().count(), "names are used once");
        for known in all() {
            assert!(!known.cause.is_empty() && !known.remedy.is_empty(), "{}", known.name);
            assert!(!known.cause.ends_with('.') && !known.remedy.ends_with('.'), "{}", known.name);
        }
    }

    #[test]
    fn pieces_have_an_order() {
        let known = Known::new("x", During::Dump, &["Can't dump", "socket"], "c", "r", "l");
        assert!(known.is_in("Can't dump this socket"));
        assert!(!known.is_in("socket: Can't dump"));
    }
}
