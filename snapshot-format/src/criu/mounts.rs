//! What of the outside a dump names: mounts in `mountpoints-N.img`, and namespaces that were left to others.
//!
//! Each has a key, under which CRIU asks at the restore for what stands there now.

use super::framing::{COMMON, MNTS, NETNS, PIDNS, messages, parse};
use super::images::{Mnt_entry, Netns_entry, Pidns_entry};
use crate::error::Result;

/// A mount whose content is not in the dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideMount {
    /// The key that it was given.
    pub key: String,
    /// Where it is in the container.
    pub destination: String,
}

/// The mounts from outside of the image `name`.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn outside(name: &str, bytes: &[u8]) -> Result<Vec<OutsideMount>> {
    let mut found = Vec::new();
    for message in messages(name, bytes, COMMON, MNTS)? {
        let mut entry: Mnt_entry = parse(name, message)?;
        if entry.has_ext_key() {
            // CRIU has paths relative to its own working directory: `./proc/keys`.
            let place = entry.mountpoint().trim_start_matches('.').trim_start_matches('/');
            let destination = format!("/{place}");
            found.push(OutsideMount { key: entry.take_ext_key(), destination });
        }
    }
    Ok(found)
}

/// The key of a namespace that was left to others, from `netns-N.img` or `pidns-N.img`.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn namespace_key(name: &str, bytes: &[u8]) -> Result<Option<String>> {
    if name.starts_with("pidns-") {
        let Some(message) = messages(name, bytes, COMMON, PIDNS)?.first().copied() else { return Ok(None) };
        return Ok(parse::<Pidns_entry>(name, message)?.ext_key);
    }
    let Some(message) = messages(name, bytes, COMMON, NETNS)?.first().copied() else { return Ok(None) };
    Ok(parse::<Netns_entry>(name, message)?.ext_key)
}

#[cfg(test)]
mod tests {
    use super::super::framing::Image;
    use super::*;

    #[test]
    fn mounts_with_a_key_are_outside() {
        let mut image = Image::new(COMMON, MNTS);
        for (place, key) in [("./", None), ("./proc/keys", Some("/dev/null")), ("/data", Some("/data"))] {
            let mut entry = Mnt_entry::new();
            entry.set_mountpoint(place.to_owned());
            entry.ext_key = key.map(str::to_owned);
            image.message("mountpoints-1.img", &entry).unwrap();
        }
        let bytes = image.finish();
        let found = outside("mountpoints-1.img", &bytes).unwrap();
        let found: Vec<_> =
            found.iter().map(|mount| (mount.key.as_str(), mount.destination.as_str())).collect();
        assert_eq!(found, [("/dev/null", "/proc/keys"), ("/data", "/data")]);
        assert!(outside("mountpoints-1.img", &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn namespaces_of_others_have_a_key() {
        let mut image = Image::new(COMMON, NETNS);
        let mut entry = Netns_entry::new();
        entry.set_ext_key("extRootNetNS".to_owned());
        image.message("netns-9.img", &entry).unwrap();
        let bytes = image.finish();
        assert_eq!(namespace_key("netns-9.img", &bytes).unwrap().as_deref(), Some("extRootNetNS"));
        assert!(namespace_key("pidns-9.img", &bytes).is_err());
        let own = Image::new(COMMON, PIDNS).finish();
        assert_eq!(namespace_key("pidns-9.img", &own).unwrap(), None);
    }
}
