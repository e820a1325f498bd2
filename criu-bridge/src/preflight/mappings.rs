//! Memory that shows something other than files and plain pages.

use std::path::Path;

use super::{Finding, Mapping, Process, Scene};
use crate::tasks;

/// CRIU takes mappings of regular files, and of devices only `/dev/zero`.
pub(super) fn devices(scene: &Scene<'_>) -> Vec<Finding> {
    each(scene, |process, mapping| {
        if mapping.path.starts_with("anon_inode:[io_uring]") {
            let hint = "turn io_uring off in the program's configuration";
            return Some(Finding::of(
                process,
                "io-uring",
                "has a ring of io_uring in its memory, which criu cannot dump, at",
                mapping.range(),
                hint,
            ));
        }
        let device = mapping.path.starts_with("anon_inode:") || is_device(process.pid, mapping);
        device.then(|| {
            let what = format!("has a device in its memory, which criu cannot dump, at {}:", mapping.range());
            let hint =
                "close the device before the checkpoint, or turn its use off in the program's configuration";
            Finding::of(process, "mapping-of-device", &what, &mapping.path, hint)
        })
    })
}

fn is_device(pid: i32, mapping: &Mapping) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let in_dev = mapping.path.starts_with("/dev/") && !mapping.path.starts_with("/dev/shm/");
    if !in_dev || mapping.path.starts_with("/dev/zero") {
        return false;
    }
    let link = format!("/proc/{pid}/map_files/{}", mapping.range());
    std::fs::metadata(link)
        .is_ok_and(|meta| meta.file_type().is_char_device() || meta.file_type().is_block_device())
}

/// memfd_secret(2): pages that are taken out of the kernel's own view; nobody but the process reads them.
pub(super) fn secret(scene: &Scene<'_>) -> Vec<Finding> {
    const WHAT: &str = "keeps a secret in memory that nobody else can read (memfd_secret), criu neither,";
    const HINT: &str = "turn secret memory off in the program's configuration";
    let is_secret = |path: &Path| path.to_string_lossy().starts_with("/secretmem");
    let open = scene.descriptors().filter(|(_, descriptor)| is_secret(&descriptor.target)).map(
        |(process, descriptor)| {
            Finding::of(process, "secret-memory", WHAT, format!("on descriptor {}", descriptor.fd), HINT)
        },
    );
    let mapped = each(scene, |process, mapping| {
        is_secret(Path::new(&mapping.path))
            .then(|| Finding::of(process, "secret-memory", WHAT, format!("at {}", mapping.range()), HINT))
    });
    open.chain(mapped).collect()
}

/// System V shared memory belongs to an IPC namespace; CRIU dumps it with the container's own.
pub(super) fn sysv(scene: &Scene<'_>) -> Vec<Finding> {
    let ipc = |pid| tasks::namespace(pid, "ipc").ok();
    let host = ipc(std::process::id().cast_signed());
    let shared = scene.root().is_some_and(|root| ipc(root.pid) == host);
    if !shared {
        return Vec::new();
    }
    each(scene, |process, mapping| {
        let hint = "give the container an IPC namespace of its own";
        let what = "has System V shared memory, and shares its IPC namespace with the host, at";
        mapping
            .path
            .starts_with("/SYSV")
            .then(|| Finding::of(process, "sysv-outside", what, mapping.range(), hint))
    })
}

fn each(scene: &Scene<'_>, look: impl Fn(&Process, &Mapping) -> Option<Finding>) -> Vec<Finding> {
    let all = scene
        .processes
        .iter()
        .flat_map(|process| process.mappings.iter().map(move |mapping| (process, mapping)));
    all.filter_map(|(process, mapping)| look(process, mapping)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(path: &str) -> Scene<'static> {
        let mapping = Mapping {
            start: 0x1000,
            end: 0x2000,
            device: "00:0f".to_owned(),
            inode: 3,
            path: path.to_owned(),
        };
        Scene::of(Process { pid: 7, mappings: vec![mapping], ..Process::default() })
    }

    #[test]
    fn rings_and_secrets_are_seen_in_memory() {
        assert_eq!(devices(&scene("anon_inode:[io_uring]"))[0].kind, "io-uring");
        assert_eq!(devices(&scene("anon_inode:[perf_event]"))[0].kind, "mapping-of-device");
        assert_eq!(secret(&scene("/secretmem (deleted)"))[0].blocker.on, "at 1000-2000");
        for plain in
            ["", "[heap]", "/usr/lib/libc.so.6", "/dev/zero (deleted)", "/dev/shm/x", "/memfd:x (deleted)"]
        {
            assert!(devices(&scene(plain)).is_empty() && secret(&scene(plain)).is_empty(), "{plain}");
        }
    }
}
