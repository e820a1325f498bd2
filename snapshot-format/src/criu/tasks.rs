//! The process tree: `pstree.img`, and the names in `core-P.img`.

use super::framing::{COMMON, CORE, PSTREE, messages, parse};
use super::images::{Core_entry, Pstree_entry};
use crate::error::Result;
use crate::manifest::Task;

/// The processes of a dump, parents first, as `image` finds the images by name. What a page map adds to a task is
/// left at zero.
///
/// # Errors
/// [`crate::Error::BadImage`].
pub fn tree(image: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Vec<Task>> {
    let Some(bytes) = image("pstree.img") else { return Ok(Vec::new()) };
    let mut tasks = Vec::new();
    for message in messages("pstree.img", &bytes, COMMON, PSTREE)? {
        let entry: Pstree_entry = parse("pstree.img", message)?;
        tasks.push(Task {
            pid: entry.pid(),
            ppid: entry.ppid(),
            pgid: entry.pgid(),
            sid: entry.sid(),
            name: name_of(entry.pid(), image)?,
            threads: u32::try_from(entry.threads.len()).unwrap_or(u32::MAX),
            bytes: 0,
            pages: None,
        });
    }
    Ok(tasks)
}

fn name_of(pid: u32, image: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<String> {
    let name = format!("core-{pid}.img");
    let Some(bytes) = image(&name) else { return Ok(String::new()) };
    let Some(message) = messages(&name, &bytes, COMMON, CORE)?.first().copied() else {
        return Ok(String::new());
    };
    let entry: Core_entry = parse(&name, message)?;
    Ok(entry.tc.as_ref().map_or_else(String::new, |task| task.comm().to_owned()))
}
