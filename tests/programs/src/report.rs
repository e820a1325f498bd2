//! What a program found when it looked at itself.

use std::fmt::{Debug, Display};

/// Differences beyond these are counted, not described: the first ones tell the story.
const DESCRIBED: usize = 8;
/// Characters of one value in a difference.
const VALUE: usize = 160;

/// A count of checks, and the differences among them.
#[derive(Debug, Default)]
pub struct Report {
    /// Comparisons that were made.
    pub checks: u32,
    /// Comparisons that failed.
    pub failed: u32,
    /// The first of the failures in words.
    pub differences: Vec<String>,
}

impl Report {
    /// Compares one value with what was expected.
    pub fn same<T: PartialEq + Debug>(&mut self, what: impl Display, expected: &T, found: &T) {
        self.checks += 1;
        if expected != found {
            self.note(format!("{what}: expected {}, found {}", short(expected), short(found)));
        }
    }

    /// Compares content, and tells only where it begins to differ.
    pub fn content(&mut self, what: impl Display, expected: &[u8], found: &[u8]) {
        self.checks += 1;
        if expected == found {
            return;
        }
        let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
        self.note(format!(
            "{what}: {} bytes expected, {} found, different from byte {at} on",
            expected.len(),
            found.len()
        ));
    }

    /// Takes the value of an operation that has to succeed.
    pub fn works<T, E: Display>(&mut self, what: impl Display, result: Result<T, E>) -> Option<T> {
        self.checks += 1;
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(format!("{what}: {error:#}"));
                None
            }
        }
    }

    /// Demands something.
    pub fn holds(&mut self, what: impl Display, truth: bool) {
        self.checks += 1;
        if !truth {
            self.note(what.to_string());
        }
    }

    /// Takes over what somebody else found.
    pub fn absorb(&mut self, other: Self) {
        self.checks += other.checks;
        self.failed += other.failed;
        let room = DESCRIBED.saturating_sub(self.differences.len());
        self.differences.extend(other.differences.into_iter().take(room));
    }

    /// Records a difference.
    pub fn note(&mut self, text: String) {
        self.failed += 1;
        if self.differences.len() < DESCRIBED {
            self.differences.push(text);
        }
    }
}

/// A value in words, cut off where it becomes long.
pub fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
