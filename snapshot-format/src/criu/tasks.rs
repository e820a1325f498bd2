//! The process tree: `pstree.img`, and what other images say of each process.

use super::framing::{COMMON, FDINFO, PSTREE, messages, parse};
use super::images::{Fdinfo_entry, Pstree_entry};
use super::{core, ids};
use crate::error::Result;
use crate::manifest::{Descriptor, Task};

/// Finds the images of a dump by their names.
pub type Images<'a> = dyn Fn(&str) -> Option<Vec<u8>> + 'a;

/// The processes of a dump, parents first. What page maps and memory areas add to a task is left empty.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn tree(images: &Images<'_>) -> Result<Vec<Task>> {
    let Some(bytes) = images("pstree.img") else { return Ok(Vec::new()) };
    let entry = |message| task(&parse("pstree.img", message)?, images);
    messages("pstree.img", &bytes, COMMON, PSTREE)?.into_iter().map(entry).collect()
}

fn task(entry: &Pstree_entry, images: &Images<'_>) -> Result<Task> {
    let core = core_of(entry.pid(), images)?;
    Ok(Task {
        pid: entry.pid(),
        ppid: entry.ppid(),
        pgid: entry.pgid(),
        sid: entry.sid(),
        name: core.name.unwrap_or_default(),
        threads: u32::try_from(entry.threads.len()).unwrap_or(u32::MAX),
        label: core.credentials.map(|credentials| credentials.label).unwrap_or_default(),
        descriptors: descriptors(entry.pid(), images)?,
        ..Task::default()
    })
}

/// The numbers of all threads, by process: those of `core-T.img`.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn threads(images: &Images<'_>) -> Result<Vec<(u32, Vec<u32>)>> {
    let Some(bytes) = images("pstree.img") else { return Ok(Vec::new()) };
    let entry = |message| {
        let entry: Pstree_entry = parse("pstree.img", message)?;
        Ok((entry.pid(), entry.threads))
    };
    messages("pstree.img", &bytes, COMMON, PSTREE)?.into_iter().map(entry).collect()
}

/// The core of a thread. An image that is not there says nothing.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn core_of(thread: u32, images: &Images<'_>) -> Result<core::Core> {
    let name = format!("core-{thread}.img");
    images(&name).map_or_else(|| Ok(core::Core::default()), |bytes| core::decode(&name, &bytes))
}

/// The namespaces of a process, and the number of its table of descriptors.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn namespaces_of(pid: u32, images: &Images<'_>) -> Result<Option<ids::Namespaces>> {
    let name = format!("ids-{pid}.img");
    images(&name).map_or(Ok(None), |bytes| ids::decode(&name, &bytes))
}

fn descriptors(pid: u32, images: &Images<'_>) -> Result<Vec<Descriptor>> {
    // A zombie has none.
    let Some(namespaces) = namespaces_of(pid, images)? else { return Ok(Vec::new()) };
    let name = format!("fdinfo-{}.img", namespaces.files);
    let Some(bytes) = images(&name) else { return Ok(Vec::new()) };
    let entry = |message| {
        let entry: Fdinfo_entry = parse(&name, message)?;
        Ok(Descriptor { fd: entry.fd(), file: entry.id() })
    };
    messages(&name, &bytes, COMMON, FDINFO)?.into_iter().map(entry).collect()
}
