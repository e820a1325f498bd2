//! Which namespaces tasks are in: `ids-P.img`, beside those of the CRIU that dumped, in `inventory.img`.

use super::framing::{COMMON, IDS, INVENTORY, first_of_service, messages, parse};
use super::images::{Inventory_entry, Task_kobj_ids_entry, Uid_gid_extent, Userns_entry};
use crate::error::Result;

/// The numbers that CRIU gave the namespaces of a task. Two tasks with the same number share the namespace, and one that
/// shares it with CRIU comes back in the namespace of the CRIU that restores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `CLONE_NEWPID`.
    pub pid: u32,
    /// `CLONE_NEWNET`.
    pub network: u32,
    /// `CLONE_NEWIPC`.
    pub ipc: u32,
    /// `CLONE_NEWUTS`.
    pub uts: u32,
    /// `CLONE_NEWNS`.
    pub mount: u32,
    /// `CLONE_NEWUSER`.
    pub user: u32,
    /// The number of the table of descriptors, N of `fdinfo-N.img`.
    pub files: u32,
}

impl Namespaces {
    pub(crate) fn read(entry: &Task_kobj_ids_entry) -> Self {
        Self {
            pid: entry.pid_ns_id(),
            network: entry.net_ns_id(),
            ipc: entry.ipc_ns_id(),
            uts: entry.uts_ns_id(),
            mount: entry.mnt_ns_id(),
            user: entry.user_ns_id(),
            files: entry.files_id(),
        }
    }
}

/// Those of a task, from its image `name`.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn decode(name: &str, bytes: &[u8]) -> Result<Option<Namespaces>> {
    let Some(message) = messages(name, bytes, COMMON, IDS)?.first().copied() else { return Ok(None) };
    Ok(Some(Namespaces::read(&parse(name, message)?)))
}

/// What `inventory.img` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The namespaces of the CRIU that dumped.
    pub criu: Option<Namespaces>,
    /// The security module: `selinux`, `apparmor`, or nothing.
    pub security_module: String,
    /// Whether TCP connections were closed, which a restore has to be told again.
    pub tcp_close: bool,
}

/// Reads the inventory.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn inventory(bytes: &[u8]) -> Result<Inventory> {
    const NAME: &str = "inventory.img";
    let Some(message) = first_of_service(NAME, bytes, INVENTORY)? else { return Ok(Inventory::default()) };
    let entry: Inventory_entry = parse(NAME, message)?;
    let module = match entry.lsmtype() {
        1 => "selinux",
        2 => "apparmor",
        _ => "",
    };
    Ok(Inventory {
        criu: entry.root_ids.as_ref().map(Namespaces::read),
        security_module: module.to_owned(),
        tcp_close: entry.tcp_close(),
    })
}

/// A range of ids of a user namespace (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdRange {
    /// The first one inside.
    pub inside: u32,
    /// The first one outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The user and the group ids of the user namespace in `userns-N.img`, named `name`.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn id_maps(name: &str, bytes: &[u8]) -> Result<(Vec<IdRange>, Vec<IdRange>)> {
    let Some(message) = messages(name, bytes, COMMON, super::framing::USERNS)?.first().copied() else {
        return Ok(Default::default());
    };
    let entry: Userns_entry = parse(name, message)?;
    let read = |all: &[Uid_gid_extent]| {
        let one = |range: &Uid_gid_extent| IdRange {
            inside: range.first(),
            outside: range.lower_first(),
            count: range.count(),
        };
        all.iter().map(one).collect()
    };
    Ok((read(&entry.uid_map), read(&entry.gid_map)))
}

#[cfg(test)]
mod tests {
    use super::super::framing::Image;
    use super::*;

    #[test]
    fn the_inventory_has_one_number_less_in_front() {
        let mut ids = Task_kobj_ids_entry::new();
        ids.set_net_ns_id(9);
        let mut entry = Inventory_entry::new();
        entry.set_img_version(2);
        entry.set_lsmtype(2);
        entry.root_ids = protobuf::MessageField::some(ids);
        // As CRIU writes it: the kind's number only.
        let mut image = Image::new(COMMON, INVENTORY);
        image.message("inventory.img", &entry).unwrap();
        let bytes = &image.finish()[4..];
        let read = inventory(bytes).unwrap();
        assert_eq!((read.criu.unwrap().network, read.security_module.as_str()), (9, "apparmor"));
        assert!(inventory(&bytes[..7]).is_err());
        assert!(inventory(b"").is_err());
    }

    #[test]
    fn maps_of_ids_are_read() {
        let mut range = Uid_gid_extent::new();
        range.set_lower_first(100_000);
        range.set_count(65_536);
        let mut entry = Userns_entry::new();
        entry.uid_map.push(range);
        let mut image = Image::new(COMMON, super::super::framing::USERNS);
        image.message("userns-1.img", &entry).unwrap();
        let (users, groups) = id_maps("userns-1.img", &image.finish()).unwrap();
        assert_eq!(users, [IdRange { inside: 0, outside: 100_000, count: 65_536 }]);
        assert!(groups.is_empty());
    }
}
