//! `pagemap-P.img`: which pages of an address space the page image holds, in order.

use super::framing::{COMMON, Image, PAGEMAP, messages, parse};
use super::images::{Pagemap_entry, Pagemap_head};
use crate::error::{Error, Result};
use crate::limits;

/// Neighbouring pages with the same flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Address of the first page.
    pub vaddr: u64,
    /// How many pages.
    pub pages: u64,
    /// 1 in the parent, 2 may be brought in lazily, 4 present in the page image.
    pub flags: u32,
}

/// Where the count of pages stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Up to CRIU 4.1: a 32-bit field.
    Narrow,
    /// From CRIU 4.2: a 64-bit field, the old one zero. 4.1 reads such a map as empty.
    Wide,
}

/// Writes a page map.
///
/// # Errors
/// [`Error::BadImage`] for a run that the narrow layout cannot hold.
pub fn encode(pages_id: u32, runs: &[Run], layout: Layout) -> Result<Vec<u8>> {
    const NAME: &str = "pagemap";
    let mut image = Image::new(COMMON, PAGEMAP);
    let mut head = Pagemap_head::new();
    head.set_pages_id(pages_id);
    image.message(NAME, &head)?;
    for run in runs {
        let mut entry = Pagemap_entry::new();
        entry.set_vaddr(run.vaddr);
        entry.set_flags(run.flags);
        match (layout, u32::try_from(run.pages)) {
            (Layout::Narrow, Ok(pages)) => entry.set_compat_nr_pages(pages),
            (Layout::Narrow, Err(_)) => {
                return Err(Error::BadImage {
                    image: NAME.to_owned(),
                    what: format!("a run of {} pages", run.pages),
                });
            }
            (Layout::Wide, _) => {
                entry.set_compat_nr_pages(0);
                entry.set_nr_pages(run.pages);
            }
        }
        image.message(NAME, &entry)?;
    }
    Ok(image.finish())
}

/// Reads a page map in either layout: the id of its page image, and its runs.
///
/// # Errors
/// [`Error::BadImage`], [`Error::Limit`].
pub fn decode(bytes: &[u8]) -> Result<(u32, Vec<Run>)> {
    const NAME: &str = "pagemap";
    let all = messages(NAME, bytes, COMMON, PAGEMAP)?;
    if all.len() > limits::RUNS {
        return Err(Error::Limit { what: "the number of runs in a page map", limit: limits::RUNS as u64 });
    }
    let Some((head, entries)) = all.split_first() else {
        return Err(Error::BadImage { image: NAME.to_owned(), what: "it is empty".to_owned() });
    };
    let head: Pagemap_head = parse(NAME, head)?;
    let mut runs = Vec::with_capacity(entries.len());
    for entry in entries {
        let entry: Pagemap_entry = parse(NAME, entry)?;
        let pages = if entry.has_nr_pages() { entry.nr_pages() } else { u64::from(entry.compat_nr_pages()) };
        // Before flags existed (CRIU 2), a run was present unless it was in the parent.
        let flags = if entry.has_flags() { entry.flags() } else { if entry.in_parent() { 1 } else { 4 } };
        runs.push(Run { vaddr: entry.vaddr(), pages, flags });
    }
    Ok((head.pages_id(), runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_come_back_as_they_went() {
        let runs = [Run { vaddr: 0x1000, pages: 3, flags: 4 }, Run { vaddr: 0x8000, pages: 256, flags: 6 }];
        for layout in [Layout::Narrow, Layout::Wide] {
            assert_eq!(decode(&encode(7, &runs, layout).unwrap()).unwrap(), (7, runs.to_vec()));
        }
    }

    #[test]
    fn a_count_beyond_32_bits_needs_the_wide_layout() {
        let runs = [Run { vaddr: 0, pages: 1 << 33, flags: 4 }];
        assert!(encode(1, &runs, Layout::Narrow).is_err());
        assert_eq!(decode(&encode(1, &runs, Layout::Wide).unwrap()).unwrap().1, runs);
    }

    #[test]
    fn cut_and_foreign_images_are_errors() {
        let image = encode(1, &[Run { vaddr: 0x1000, pages: 1, flags: 4 }], Layout::Narrow).unwrap();
        for end in 0..image.len() {
            // Between two messages a cut image is a shorter one; anywhere else it is an error. Never a panic.
            if let Ok((_, runs)) = decode(&image[..end]) {
                assert!(runs.is_empty(), "cut at {end}");
            }
        }
        assert!(decode(b"").is_err());
    }
}
