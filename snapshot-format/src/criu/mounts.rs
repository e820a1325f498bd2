//! `mountpoints-N.img`: what was mounted.

use super::framing::{COMMON, MNTS, messages, parse};
use super::images::Mnt_entry;
use crate::error::Result;

/// CRIU's numbers for the kinds of file systems (images/mnt.proto).
const CGROUP: u32 = 12;
const CGROUP2: u32 = 23;

/// A mount whose content was not CRIU's to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Where it was in the container.
    pub place: String,
    /// The name by which CRIU asks for it.
    pub key: String,
    /// Whether it was a hierarchy of cgroups.
    pub cgroup: bool,
}

/// The external mounts in an image, named `name`.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn external(name: &str, bytes: &[u8]) -> Result<Vec<External>> {
    let mut found = Vec::new();
    for message in messages(name, bytes, COMMON, MNTS)? {
        let entry: Mnt_entry = parse(name, message)?;
        let key = match (entry.has_ext_key(), entry.ext_mount()) {
            (true, _) => entry.ext_key(),
            // Before CRIU 3.1 the place was the name.
            (false, true) => entry.mountpoint(),
            (false, false) => continue,
        };
        found.push(External {
            place: entry.mountpoint().to_owned(),
            key: key.to_owned(),
            cgroup: matches!(entry.fstype(), CGROUP | CGROUP2),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::framing::Image;
    use super::*;

    #[test]
    fn only_what_is_external_is_told() {
        let mut image = Image::new(COMMON, MNTS);
        for (fstype, place, key) in
            [(5, "/dev", None), (0, "/data", Some("/data")), (12, "/sys/fs/cgroup/pids", Some("/cg"))]
        {
            let mut entry = Mnt_entry::new();
            entry.set_fstype(fstype);
            entry.set_mountpoint(place.to_owned());
            entry.ext_key = key.map(str::to_owned);
            image.message("mountpoints-1.img", &entry).unwrap();
        }
        let bytes = image.finish();
        let found = external("mountpoints-1.img", &bytes).unwrap();
        let of = |place: &str, key: &str, cgroup| External { place: place.into(), key: key.into(), cgroup };
        assert_eq!(found, [of("/data", "/data", false), of("/sys/fs/cgroup/pids", "/cg", true)]);
        assert!(external("mountpoints-1.img", &bytes[..bytes.len() - 1]).is_err());
    }
}
