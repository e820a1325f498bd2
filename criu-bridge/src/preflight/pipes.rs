//! Pipes whose other end is held outside.

use std::collections::BTreeMap;

use super::sockets::holders;
use super::{Finding, Process, Scene};
use crate::tasks::{Descriptor, Kind, Task};

/// The ends of one pipe that the processes have.
struct Ends<'a> {
    reads: bool,
    writes: bool,
    handed_over: bool,
    held: (&'a Process, &'a Descriptor),
}

/// Pipes of which they have one end, and somebody outside the other. The end that they have comes back with what is in the
/// pipe, and nobody at the other: a reader finds its end, a writer is killed by SIGPIPE. Standard streams of the first
/// process are handed over, and FIFOs have a name, by which they are opened again.
pub(super) fn outside(scene: &Scene<'_>) -> Vec<Finding> {
    let Some(root) = scene.root() else { return Vec::new() };
    let mut pipes: BTreeMap<u64, Ends<'_>> = BTreeMap::new();
    let all = scene.descriptors().filter(|(_, descriptor)| {
        descriptor.kind == Kind::Pipe && descriptor.target.to_string_lossy().starts_with("pipe:[")
    });
    for (process, descriptor) in all {
        let access = descriptor.flags & nix::libc::O_ACCMODE;
        let new = Ends { reads: false, writes: false, handed_over: false, held: (process, descriptor) };
        let ends = pipes.entry(descriptor.inode).or_insert(new);
        ends.reads |= access != nix::libc::O_WRONLY;
        ends.writes |= access != nix::libc::O_RDONLY;
        ends.handed_over |= process.pid == root.pid && (0..=2).contains(&descriptor.fd);
    }
    pipes.retain(|_, ends| !(ends.handed_over || ends.reads && ends.writes));
    let inodes: Vec<u64> = pipes.keys().copied().collect();
    let holders = holders("pipe:[", &inodes, scene);
    let found = pipes.iter().filter_map(|(inode, ends)| {
        let holder = holders.get(inode)?;
        let (process, descriptor) = ends.held;
        let what = format!(
            "has one end of a pipe (descriptor {}), and after a restore nobody is at the other, which is held by",
            descriptor.fd
        );
        let on = format!("process {holder} ({}) outside the container", Task::look(*holder).name);
        let hint = "use a FIFO or a socket with a name, which can be opened again";
        Some(Finding::of(process, "pipe-outside", &what, on, hint).warning())
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::preflight::Asked;

    #[test]
    fn an_end_that_somebody_else_has_is_told() {
        let me = std::process::id().cast_signed();
        let (read, write) = std::io::pipe().unwrap();
        let told = || {
            let scene = Scene::look(&[me], None, Asked::default()).unwrap();
            let on = format!("descriptor {})", read.as_raw_fd());
            outside(&scene).into_iter().find(|finding| finding.blocker.what.contains(&on))
        };
        assert!(told().is_none(), "both ends are here");
        let mut child = std::process::Command::new("sleep").arg("60").stdout(write).spawn().unwrap();
        let found = told();
        child.kill().unwrap();
        child.wait().unwrap();
        let found = found.unwrap();
        assert!(found.blocker.on.contains(&format!("process {}", child.id())), "{found:?}");
        assert!(told().is_none(), "nobody is there any more");
    }
}
