//! Flags of runc's form, each with a container or images with which it makes the difference.

use std::fs;
use std::path::Path;

use crate::support::Place;
use crate::{names, running, word};

#[test]
fn the_network_is_left_to_others_when_that_is_asked_for() {
    let place = Place::new("runc-form");
    let (bundle, name) = running(&place);
    let has_network =
        |folder: &str| names(&place.join(folder)).iter().any(|name| name.starts_with("netdev-"));
    let dump = |folder: &str, flags: &[&str]| {
        let images = word(&place.join(folder));
        place.ok([&["checkpoint", "--leave-running", "--image-path", &images, &name], flags].concat());
    };
    dump("with", &[]);
    dump("without", &["--empty-ns", "network"]);
    assert!(has_network("with") && !has_network("without"));
    place.ok(["delete", "--force", &name]);
    // Either comes back: what is not there is not asked for; and what is there is left when the restore says so.
    for (folder, flags) in [("with", &[][..]), ("with", &["--empty-ns", "network"]), ("without", &[])] {
        let images = word(&place.join(folder));
        place.ok([&["restore", "--detach", "--image-path", &images, &name], flags].concat());
        bundle.ask_ok("check");
        place.ok(["delete", "--force", &name]);
    }
    let said = place.run(["checkpoint", "--empty-ns", "user", &name]);
    assert_eq!(said.code, Some(2), "CRIU can leave no other: {said:?}");
}

#[test]
fn cgroups_are_in_a_dump_unless_they_are_ignored() {
    let place = Place::new("runc-form");
    let (_bundle, name) = running(&place);
    let size = |mode: &str| {
        let folder = place.join(mode);
        place.ok([
            "checkpoint",
            "--leave-running",
            "--manage-cgroups-mode",
            mode,
            "--image-path",
            &word(&folder),
            &name,
        ]);
        fs::read(folder.join("cgroup.img")).map_or(0, |bytes| bytes.len())
    };
    let (soft, full, ignore) = (size("soft"), size("full"), size("ignore"));
    assert!(soft > 2 * ignore && full > 2 * ignore, "soft {soft}, full {full}, ignore {ignore}");
    let said = place.run(["checkpoint", "--manage-cgroups-mode", "gentle", &name]);
    assert_eq!(said.code, Some(2), "{said:?}");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn a_label_that_the_host_cannot_give_is_refused() {
    let place = Place::new("runc-form");
    let (bundle, name) = running(&place);
    let images = word(&place.join("images"));
    place.ok(["checkpoint", "--image-path", &images, &name]);
    let said = place.run(["restore", "-d", "--image-path", &images, "--lsm-profile", "smack:x", &name]);
    assert_eq!(said.code, Some(2), "{said:?}");
    for (flags, module, place_of) in [
        (["--lsm-profile", "apparmor:floe-test"], "AppArmor", "/sys/kernel/security/apparmor"),
        (["--lsm-profile", "selinux:a:b:c:s0"], "SELinux", "/sys/fs/selinux"),
        (["--lsm-mount-context", "a:b:c:s0"], "SELinux", "/sys/fs/selinux"),
    ] {
        if Path::new(place_of).exists() {
            continue;
        }
        let said = place.run([&["restore", "-d", "--image-path", &images, &name], &flags[..]].concat());
        assert_eq!(said.code, Some(3), "{flags:?}: {said:?}");
        assert!(said.stderr.contains(module), "{flags:?}: {said:?}");
    }
    place.ok(["restore", "-d", "--image-path", &images, &name]);
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn engines_find_out_that_pods_can_be_restored() {
    let place = Place::new("runc-form");
    // podman looks for these words; containerd writes one flag with a single dash.
    let said = place.run(["restore", "--lsm-mount-context"]);
    assert!(said.code != Some(0) && said.stderr.contains("flag needs an argument"), "{said:?}");
    assert_eq!(place.run(["checkpoint", "--help"]).code, Some(0));
    let (bundle, name) = running(&place);
    let images = word(&place.join("images"));
    place.ok(["checkpoint", "-image-path", &images, &name]);
    let bundle_word = word(bundle.path());
    place.ok(["restore", "-d", "-no-subreaper", "-image-path", &images, "--bundle", &bundle_word, &name]);
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn rounds_need_a_kernel_that_tracks_memory() {
    let place = Place::new("runc-form");
    let (bundle, name) = running(&place);
    for flags in [&["--pre-dump"][..], &["--parent-path", "../before"]] {
        let images = place.join("images");
        let said = place.run([&["checkpoint", "--image-path", &word(&images), &name], flags].concat());
        assert_eq!(said.code, Some(3), "{flags:?}: {said:?}");
        assert!(said.stderr.contains("CONFIG_MEM_SOFT_DIRTY"), "{flags:?}: {said:?}");
        assert!(!images.exists());
    }
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
}
