//! The root that CRIU restores into.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use floe_runtime::RestoreRoot;
use serde_json::json;

use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[
    ("a_root_to_restore_into_is_a_private_mount", a_root_to_restore_into_is_a_private_mount),
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
