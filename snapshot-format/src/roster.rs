//! The members of a snapshot that is being written.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::limits;
use crate::manifest::Member;
use crate::name::MemberName;

/// See the module.
#[derive(Debug)]
pub(crate) struct Roster {
    /// In the order in which they came.
    pub(crate) members: Vec<Member>,
    names: HashSet<MemberName>,
    /// What is said of a name that comes twice.
    taken: &'static str,
}

impl Roster {
    /// An empty one, in which `reserved` are no members: the snapshot writes them itself.
    pub(crate) fn new(reserved: &[&str], taken: &'static str) -> Result<Self> {
        let names = reserved.iter().map(|name| MemberName::new(name)).collect::<Result<_>>()?;
        Ok(Self { members: Vec::new(), names, taken })
    }

    /// Takes a member in, and returns its number. `open` says that another one still grows.
    pub(crate) fn enter(&mut self, member: Member, open: bool) -> Result<usize> {
        if open {
            return Err(Error::Misuse { what: "begin a member while another is open" });
        }
        if self.members.len() >= limits::MEMBERS {
            return Err(Error::Limit { what: "the number of members", limit: limits::MEMBERS as u64 });
        }
        if !self.names.insert(member.name.clone()) {
            return Err(Error::BadName { name: member.name.to_string(), what: self.taken });
        }
        self.members.push(member);
        Ok(self.members.len() - 1)
    }
}
