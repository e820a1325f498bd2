//! System calls that are answered by somebody else.

use super::{Finding, Scene};

/// A filter is dumped, its listener is not: after a restore the calls that it hands over would fail.
pub(super) fn listeners(scene: &Scene<'_>) -> Vec<Finding> {
    let seccomp = scene.config.and_then(|config| config.seccomp.as_ref());
    let Some(path) = seccomp.and_then(|seccomp| seccomp.listener_path.as_ref()) else { return Vec::new() };
    let what = "system calls of the container are answered by a program outside (linux.seccomp.listenerPath), which criu cannot keep:";
    let hint = "run the container without the listener";
    vec![Finding::general("seccomp-agent", what, path.display(), hint)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Process;

    #[test]
    fn without_a_configuration_there_is_no_listener() {
        assert!(listeners(&Scene::of(Process::default())).is_empty());
    }
}
