//! Names and hardware addresses of interfaces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a network interface: 1 to 15 bytes, neither `.` nor `..`, without `/`, `:`, `%` and white space.
///
/// This is the kernel's rule (`dev_valid_name`, with room for the NUL in `IFNAMSIZ`), and `%` besides, which the kernel
/// takes for a template in which it puts a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// Why a text is no [`InterfaceName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an interface's name {0}")]
pub struct InvalidInterfaceName(&'static str);

impl InterfaceName {
    /// Longest name in bytes: `IFNAMSIZ` of `<linux/if.h>` without the NUL at the end.
    pub const MAX_LEN: usize = 15;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What names and templates of names have in common.
pub(super) fn check(text: &str) -> Result<(), InvalidInterfaceName> {
    let refuse = |problem| Err(InvalidInterfaceName(problem));
    match text {
        "" => return refuse("is not empty"),
        "." | ".." => return refuse("is neither . nor .."),
        _ if text.len() > InterfaceName::MAX_LEN => return refuse("has at most 15 bytes"),
        _ => {}
    }
    // The kernel's isspace() knows the no-break space of Latin-1 too, which is a byte of many a UTF-8 character.
    let bad = |byte: u8| byte.is_ascii_whitespace() || [b'/', b':', 0x0b, 0xa0, 0].contains(&byte);
    if text.bytes().any(bad) {
        return refuse("has no slash, colon or white space in it");
    }
    Ok(())
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        check(text)?;
        if text.contains('%') {
            return Err(InvalidInterfaceName("has no percent sign in it"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InvalidInterfaceName;

    fn try_from(text: String) -> Result<Self, InvalidInterfaceName> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address of one interface: not all zero, and no group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// Why a text is no [`MacAddress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMacAddress {
    /// It cannot be read.
    #[error("not six hexadecimal bytes (02:42:ac:11:00:02)")]
    Unreadable,
    /// It is no interface's.
    #[error("an address of no single interface")]
    NotOneInterface,
}

impl MacAddress {
    /// Takes six bytes.
    ///
    /// # Errors
    /// [`InvalidMacAddress::NotOneInterface`] for a group's address, and for that of nobody.
    pub fn new(bytes: [u8; 6]) -> Result<Self, InvalidMacAddress> {
        // The first bit on the wire says that it is a group's (IEEE 802).
        if bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(InvalidMacAddress::NotOneInterface);
        }
        Ok(Self(bytes))
    }

    /// Its bytes, in the order in which they are sent.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    /// Reads `02:42:ac:11:00:02`, or with `-` between the bytes.
    fn from_str(text: &str) -> Result<Self, InvalidMacAddress> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let byte = |part: &str| match part.as_bytes() {
            [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => u8::from_str_radix(part, 16).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.split(separator).map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        Self::new(bytes.ok_or(InvalidMacAddress::Unreadable)?)
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMacAddress;

    fn try_from(text: String) -> Result<Self, InvalidMacAddress> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for good in ["lo", "eth0", "a", "exactly15bytes!", "enp0s31f6", "br-1.2@x"] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().as_str(), good);
        }
        for bad in
            ["", ".", "..", "sixteen-bytes-ok", "a/b", "a:1", "a b", "a\tb", "a\x0bb", "a\0", "eth%d", "à"]
        {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let address: MacAddress = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(address.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-ac-11-00-02".parse(), Ok(address));
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "+2:42:ac:11:00:02",
            "0242.ac11.0002",
        ] {
            assert_eq!(bad.parse::<MacAddress>(), Err(InvalidMacAddress::Unreadable), "{bad}");
        }
        for bad in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"] {
            assert_eq!(bad.parse::<MacAddress>(), Err(InvalidMacAddress::NotOneInterface), "{bad}");
        }
    }
}
