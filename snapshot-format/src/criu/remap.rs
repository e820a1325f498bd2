//! `remap-fpath.img`: files that had no name any more, or another one, and come back from the snapshot itself.

use std::collections::BTreeSet;

use super::framing::{COMMON, REMAP_FPATH, messages, parse};
use super::images::Remap_file_path_entry;
use crate::error::Result;

const NAME: &str = "remap-fpath.img";

/// The numbers ([`crate::manifest::OpenFile::id`]) of the files that are not looked for at their paths.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn remapped(image: &[u8]) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for message in messages(NAME, image, COMMON, REMAP_FPATH)? {
        let entry: Remap_file_path_entry = parse(NAME, message)?;
        found.insert(entry.orig_id());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::framing::Image;
    use super::*;

    #[test]
    fn the_numbers_of_remapped_files_are_found() {
        let mut image = Image::new(COMMON, REMAP_FPATH);
        for id in [7, 9] {
            let mut entry = Remap_file_path_entry::new();
            entry.set_orig_id(id);
            image.message(NAME, &entry).unwrap();
        }
        let image = image.finish();
        assert_eq!(remapped(&image).unwrap(), [7, 9].into());
        assert!(remapped(&image[..image.len() - 1]).is_err());
    }
}
