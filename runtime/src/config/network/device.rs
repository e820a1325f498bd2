//! `linux.netDevices`: interfaces of the host that are moved into the container as they are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::interface::{self, InterfaceName, InvalidInterfaceName};

/// What becomes of an interface of the host in the container (`LinuxNetDevice` of the OCI runtime specification 1.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetDevice {
    /// Its name there; `None` keeps the one that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NewName>,
}

/// A name, or where a number is put to make one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NewName {
    /// The name.
    Exact(InterfaceName),
    /// A template.
    Template(NameTemplate),
}

/// A name with `%d` in it, for the lowest number that makes it a name nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(String);

impl NameTemplate {
    /// The name with `number` in it; `None` when it is too long then.
    #[must_use]
    pub fn with(&self, number: u32) -> Option<InterfaceName> {
        self.0.replace("%d", &number.to_string()).parse().ok()
    }

    /// The first name of this kind for which `taken` is not true. `None` when there is none that is short enough.
    pub fn first_free(&self, taken: impl Fn(&str) -> bool) -> Option<InterfaceName> {
        (0..).map_while(|number| self.with(number)).find(|name| !taken(name.as_str()))
    }
}

impl FromStr for NameTemplate {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        interface::check(text)?;
        let template = Self(text.to_owned());
        // One `%d`, and no other percent sign: what is left with a number in its place is a name.
        if text.matches("%d").count() != 1 {
            return text.parse::<InterfaceName>().map(|_| template);
        }
        text.replacen("%d", "0", 1).parse::<InterfaceName>().map(|_| template)
    }
}

impl FromStr for NewName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        if text.contains('%') { text.parse().map(Self::Template) } else { text.parse().map(Self::Exact) }
    }
}

impl fmt::Display for NewName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Template(template) => f.write_str(&template.0),
        }
    }
}

impl TryFrom<String> for NewName {
    type Error = InvalidInterfaceName;

    fn try_from(text: String) -> Result<Self, InvalidInterfaceName> {
        text.parse()
    }
}

impl From<NewName> for String {
    fn from(name: NewName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gives_the_first_free_name() {
        let Ok(NewName::Template(template)) = "eth%d".parse() else { panic!("no template") };
        assert_eq!(template.first_free(|_| false).unwrap().as_str(), "eth0");
        assert_eq!(template.first_free(|name| ["eth0", "eth1"].contains(&name)).unwrap().as_str(), "eth2");
        let Ok(NewName::Template(long)) = "thirteenbytes%d".parse() else { panic!("no template") };
        assert_eq!(
            long.first_free(|name| name.len() < 15).map(String::from),
            Some("thirteenbytes10".to_owned())
        );
        assert_eq!(long.first_free(|_| true), None, "and it ends");
        for bad in ["%", "%s", "%d%d", "eth%d%", "a/%d", "%d:"] {
            assert!(bad.parse::<NewName>().is_err(), "{bad}");
        }
    }
}
