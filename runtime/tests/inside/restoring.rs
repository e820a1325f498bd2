//! The root that CRIU restores into.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use floe_runtime::{RestoreRoot, protect_restored};
use serde_json::json;

use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[
    ("a_root_to_restore_into_is_a_private_mount", a_root_to_restore_into_is_a_private_mount),
    ("a_restored_root_becomes_readonly_again", a_restored_root_becomes_readonly_again),
    ("missing_mount_points_are_made_in_the_root_only", missing_mount_points_are_made_in_the_root_only),
];

fn line_of(path: &Path) -> Option<String> {
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
    info.lines().find(|line| line.split(' ').nth(4) == path.to_str()).map(str::to_owned)
}

fn config(bundle: &Bundle) -> floe_runtime::config::Config {
    bundle.write();
    floe_runtime::read_bundle(bundle.path()).unwrap().1
}

fn a_root_to_restore_into_is_a_private_mount() {
    let bundle = Bundle::new();
    let place = bundle.path().join("restore-root");
    let root = RestoreRoot::prepare(&config(&bundle), &place).unwrap();
    assert_eq!(root.path(), place);
    let line = line_of(&place).unwrap();
    assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
    assert!(place.join("bin/busybox").exists());
    drop(root);
    assert_eq!(line_of(&place), None);
    assert!(bundle.rootfs().join("bin/busybox").exists(), "and what was bound is still there");
}

fn a_restored_root_becomes_readonly_again() {
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let mut config = running.container.config().clone();
    protect_restored(&config, running.pid()).unwrap();
    assert_eq!(running.exec("touch /file && rm /file").0, 0, "as long as it isn't configured");
    config.readonly = true;
    protect_restored(&config, running.pid()).unwrap();
    let (status, log) = running.exec("touch /dev/shm/file && touch /file");
    assert!(status != 0 && log.contains("Read-only"), "{log}");
    assert!(!line_of(Path::new("/")).unwrap().contains(" ro,"), "and the host's is not");
}

fn missing_mount_points_are_made_in_the_root_only() {
    let mut bundle = Bundle::new();
    let trap = tempfile::tempdir().unwrap();
    symlink(trap.path(), bundle.rootfs().join("link")).unwrap();
    bundle
        .mount(json!({"destination": "/link/folder", "type": "bind", "source": "/etc", "options": ["bind"]}));
    bundle.mount(
        json!({"destination": "/new/file", "type": "bind", "source": "/etc/passwd", "options": ["bind"]}),
    );
    fs::remove_dir(bundle.rootfs().join("sys")).unwrap();
    let place = bundle.path().join("restore-root");
    let _root = RestoreRoot::prepare(&config(&bundle), &place).unwrap();
    assert!(bundle.rootfs().join("sys").is_dir());
    assert!(bundle.rootfs().join("new/file").is_file());
    assert_eq!(fs::read_dir(trap.path()).unwrap().count(), 0);
    let inside = bundle.rootfs().join(trap.path().strip_prefix("/").unwrap()).join("folder");
    assert!(inside.is_dir());
}
