//! `files.img`: the open files.

use rustix::fs::OFlags;

use super::framing::{COMMON, FILES, Image, messages, parse};
use super::images::{File_entry, Reg_file_entry};
use crate::error::Result;
use crate::manifest::OpenFile;

const NAME: &str = "files.img";

/// Flags with which open(2) does not open a regular file by a link (`O_TMPFILE` holds `O_DIRECTORY`).
const UNFIT_FOR_A_LINK: u32 = OFlags::NOFOLLOW.union(OFlags::TMPFILE).bits();

/// What [`rewrite`] is to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// The file is handed over open: whatever size it has is right, and it goes on at this offset. CRIU opens it
    /// again by its link in `/proc/self/fd`, which the flags `O_NOFOLLOW`, `O_DIRECTORY` and `O_TMPFILE` (open(2))
    /// forbid: they are dropped.
    HandedOver {
        /// Offset in bytes.
        position: u64,
    },
}

/// The files in the image that have a path: regular ones, folders, devices.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn files(image: &[u8]) -> Result<Vec<OpenFile>> {
    let mut found = Vec::new();
    for message in messages(NAME, image, COMMON, FILES)? {
        let entry: File_entry = parse(NAME, message)?;
        if let Some(file) = entry.reg.as_ref() {
            found.push(describe(file));
        }
    }
    Ok(found)
}

/// The image with the files changed as `change` says. All else, known or not, stays as it is.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn rewrite(image: &[u8], change: &mut dyn FnMut(&OpenFile) -> Change) -> Result<Vec<u8>> {
    let mut out = Image::new(COMMON, FILES);
    for message in messages(NAME, image, COMMON, FILES)? {
        let mut entry: File_entry = parse(NAME, message)?;
        let change = entry.reg.as_ref().map_or(Change::Keep, |file| change(&describe(file)));
        match (change, entry.reg.as_mut()) {
            (Change::HandedOver { position }, Some(file)) => {
                file.clear_size();
                file.set_flags(file.flags() & !UNFIT_FOR_A_LINK);
                file.set_pos(position);
                out.message(NAME, &entry)?;
            }
            _ => out.raw(message),
        }
    }
    Ok(out.finish())
}

fn describe(file: &Reg_file_entry) -> OpenFile {
    OpenFile {
        id: file.id(),
        path: file.name().to_owned(),
        external: file.ext(),
        size: file.has_size().then(|| file.size()),
        position: file.pos(),
        flags: file.flags(),
        mode: file.has_mode().then(|| file.mode()),
        build_id: build_id(&file.build_id),
    }
}

/// The bytes of a build-id, which CRIU keeps in words as they lie in memory. A last word may be filled up with zeros.
fn build_id(words: &[u32]) -> String {
    words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::Message;

    fn image() -> Vec<u8> {
        let mut file = Reg_file_entry::new();
        file.set_id(3);
        file.set_flags(0o1);
        file.set_pos(95);
        file.set_name("/var/log/x".to_owned());
        file.set_size(95);
        // A field of a later CRIU.
        file.mut_unknown_fields().add_varint(99, 7);
        let mut entry = File_entry::new();
        entry.set_type(1);
        entry.set_id(3);
        entry.reg = protobuf::MessageField::some(file);
        let mut other = File_entry::new();
        other.set_type(2);
        other.mut_unknown_fields().add_length_delimited(18, vec![1, 2, 3]);
        let mut image = Image::new(COMMON, FILES);
        image.message(NAME, &entry).unwrap();
        image.message(NAME, &other).unwrap();
        image.finish()
    }

    #[test]
    fn a_dropped_size_leaves_everything_else() {
        let before = image();
        let after = rewrite(&before, &mut |file| Change::HandedOver { position: file.position + 5 }).unwrap();
        let files = files(&after).unwrap();
        assert_eq!((files[0].size, files[0].position, files[0].path.as_str()), (None, 100, "/var/log/x"));
        let kept = messages(NAME, &after, COMMON, FILES).unwrap();
        assert_eq!(kept[1], messages(NAME, &before, COMMON, FILES).unwrap()[1]);
        let entry = File_entry::parse_from_bytes(kept[0]).unwrap();
        assert!(entry.reg.unknown_fields().get(99).is_some());
    }

    #[test]
    fn an_image_that_nothing_is_changed_in_is_the_same() {
        assert_eq!(rewrite(&image(), &mut |_| Change::Keep).unwrap(), image());
    }

    #[test]
    fn damage_is_an_error() {
        let image = image();
        for end in 1..image.len() {
            let _ = files(&image[..end]);
        }
        assert!(files(&image[..image.len() - 1]).is_err());
    }
}
