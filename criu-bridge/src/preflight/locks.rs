//! File locks: they are kept when that was asked for.

use super::{Finding, Scene};

/// Descriptors with locks (flock(2), fcntl(2)), which `/proc/PID/fdinfo/FD` lists.
pub(super) fn held(scene: &Scene<'_>) -> Vec<Finding> {
    if scene.asked.file_locks {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (process, descriptor) in scene.descriptors() {
        if process.info(descriptor.fd).lines().any(|line| line.starts_with("lock:")) {
            let what = format!("holds a lock on the file of descriptor {}:", descriptor.fd);
            found.push(Finding::of(
                process,
                "file-locks",
                &what,
                descriptor.target.display(),
                "pass --file-locks",
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Asked;

    #[test]
    fn a_lock_is_found_at_its_descriptor() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let me = std::process::id().cast_signed();
        let own = |asked: Asked| {
            let scene = Scene::look(&[me], None, asked).unwrap();
            held(&scene).iter().any(|finding| finding.blocker.on == file.path().display().to_string())
        };
        assert!(!own(Asked::default()));
        let _lock =
            nix::fcntl::Flock::lock(file.reopen().unwrap(), nix::fcntl::FlockArg::LockExclusive).unwrap();
        assert!(own(Asked::default()));
        assert!(!own(Asked { file_locks: true, ..Asked::default() }));
    }
}
