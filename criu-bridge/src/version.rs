//! Versions of CRIU, and what depends on them.

use std::fmt;

/// A CRIU release, as its VERSION reply and `criu --version` tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Third number; 0 where the release has none.
    pub sublevel: u32,
}

/// The oldest CRIU that floe drives: `query-ext-files` (host files found while the tree is frozen) and
/// `network_lock: SKIP` came with it.
pub const OLDEST: Version = Version::new(3, 19, 0);

/// The oldest CRIU that can parasite a task on Linux 6.13 and later, where the vDSO grew another data page
/// (`[vvar_vclock]`); an older one gives up with "Unexpected rt vDSO area bounds".
pub const OLDEST_FOR_VVAR_VCLOCK: Version = Version::new(4, 1, 0);

impl Version {
    /// A version from its numbers.
    pub const fn new(major: u32, minor: u32, sublevel: u32) -> Self {
        Self { major, minor, sublevel }
    }

    /// The version in a text such as `4.1.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self::new(major, minor, numbers.next().and_then(Result::ok).unwrap_or(0)))
    }

    /// How the page-server messages of this release are laid out.
    pub fn page_wire(self) -> PageWire {
        if self >= Self::new(4, 2, 0) { PageWire::Wide } else { PageWire::Narrow }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.sublevel != 0 {
            write!(f, ".{}", self.sublevel)?;
        }
        Ok(())
    }
}

/// The two layouts of a page-server message. Nothing on the wire tells them apart, and reading one as the other
/// hangs both sides, so the choice is made from the version alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageWire {
    /// Up to 4.1.x: 24 bytes, a 32-bit page count.
    Narrow,
    /// From 4.2 on: 32 bytes, a 64-bit page count behind four bytes of padding.
    Wide,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(Version::new(3, 17, 1) < OLDEST);
        assert!(Version::new(4, 0, 0) < OLDEST_FOR_VVAR_VCLOCK);
        assert!(Version::new(4, 1, 1) > OLDEST_FOR_VVAR_VCLOCK);
    }

    #[test]
    fn the_wire_changed_with_4_2() {
        assert_eq!(Version::new(4, 1, 1).page_wire(), PageWire::Narrow);
        assert_eq!(Version::new(4, 2, 0).page_wire(), PageWire::Wide);
    }

    #[test]
    fn a_zero_sublevel_is_not_printed() {
        assert_eq!(Version::new(4, 2, 0).to_string(), "4.2");
        assert_eq!(Version::new(4, 1, 1).to_string(), "4.1.1");
        for version in [Version::new(4, 2, 0), Version::new(4, 1, 1)] {
            assert_eq!(Version::parse(&version.to_string()), Some(version));
        }
        assert_eq!(Version::parse("next"), None);
    }
}
