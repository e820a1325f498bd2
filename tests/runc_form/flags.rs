//! Flags of runc's form, each with a container or images with which it makes the difference.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::program::Bundle;
use crate::support::{Place, names, said};
use crate::word;

#[test]
fn the_network_is_left_to_others_when_that_is_asked_for() {
    let place = Place::new("runc-form");
    let (bundle, name) = Bundle::running(&place);
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
    let (_bundle, name) = Bundle::running(&place);
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
    let (bundle, name) = Bundle::running(&place);
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
    let (bundle, name) = Bundle::running(&place);
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
    let (bundle, name) = Bundle::running(&place);
    let host = place.run(["check", "--format", "json"]).stdout;
    let host: serde_json::Value = serde_json::from_str(&host).unwrap();
    let tracked = host["features"]["mem_track"].as_bool().unwrap();
    for flags in [&["--pre-dump"][..], &["--parent-path", "../images"]] {
        if tracked {
            place.ok([
                &[
                    "checkpoint",
                    "--image-path",
                    &word(&place.join(if flags.len() == 1 { "images" } else { "after" })),
                    &name,
                    "--leave-running",
                ],
                flags,
            ]
            .concat());
            continue;
        }
        let images = place.join("images");
        let said = place.run([&["checkpoint", "--image-path", &word(&images), &name], flags].concat());
        assert_eq!(said.code, Some(3), "{flags:?}: {said:?}");
        assert!(said.stderr.contains("CONFIG_MEM_SOFT_DIRTY"), "{flags:?}: {said:?}");
        assert!(!images.exists());
    }
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
}

/// A container with the state `what` of the program `hazard`.
fn hazard(place: &Place, what: &str) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "hazard", &[what]);
    let name = place.name("box");
    place.start(&name, bundle.path());
    bundle.ready();
    (bundle, name)
}

#[test]
fn an_option_of_criu_makes_the_difference() {
    let place = Place::new("criu-option");
    // A deleted file of 2 MiB, of which CRIU copies 1 MiB by default.
    let (bundle, name) = hazard(&place, "deleted-large");
    let images = word(&place.join("images"));
    let freeze = ["checkpoint", "--image-path", &images, &name];
    let said = place.run(freeze);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stderr.contains("ghost-limit"), "{said:?}");
    place.ok([&freeze[..], &["--criu-option", "ghost-limit=4M"]].concat());
    place.ok(["restore", "-d", "--image-path", &images, "--criu-option", "weak-sysctls", &name]);
    bundle.ask_ok("");
    // What is floe's own, what CRIU does not have, and what is of the other direction: nothing is frozen.
    for (option, words) in [
        ("images-dir=/tmp", "floe's own"),
        ("leave-running", "--leave-running"),
        ("no-such-option", "no such option"),
        ("ghost-limit=much", "no size"),
        ("weak-sysctls", "`floe restore`"),
    ] {
        let said = place.run([&freeze[..], &["--criu-option", option]].concat());
        assert_eq!(said.code, Some(3), "{option}: {said:?}");
        assert!(said.stderr.contains(words), "{option}: {said:?}");
    }
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn a_configuration_file_counts_where_the_bundle_names_it() {
    let place = Place::new("criu-option");
    let file = place.join("criu.conf");
    fs::write(&file, "# of the administrator\nghost-limit 4M\n").unwrap();
    let bundle = Bundle::of_program(&place.join("bundle"), "hazard", &["deleted-large"]);
    bundle.change(|config| config["annotations"] = serde_json::json!({"org.criu.config": file}));
    let name = place.name("box");
    place.start(&name, bundle.path());
    bundle.ready();
    let images = word(&place.join("images"));
    let freeze = ["checkpoint", "--leave-running", "--image-path", &images, &name];
    place.ok(["check", &name]);
    place.ok(freeze);
    // The command line says otherwise: another limit, another file, none.
    fs::write(place.join("empty.conf"), "").unwrap();
    let other = format!("config-file={}", place.join("empty.conf").display());
    for option in ["ghost-limit=1M", &other, "config-file="] {
        let said = place.run([&freeze[..], &["--criu-option", option]].concat());
        assert_eq!(said.code, Some(3), "{option}: {said:?}");
    }
    // What CRIU 4.1 does not survive in a file is never shown to it.
    for (line, words) in
        [("network-lock iptables", "criu.conf:1"), ("stream", "floe's own"), ("nonsense", "no such option")]
    {
        fs::write(&file, line).unwrap();
        let said = place.run(freeze);
        assert_eq!(said.code, Some(3), "{line}: {said:?}");
        assert!(said.stderr.contains(words), "{line}: {said:?}");
    }
    // What only a file can say gets through, in both directions.
    let ran = place.join("ran");
    let script = place.join("script");
    fs::write(&script, format!("#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION >>{}\n", ran.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, format!("ghost-limit 4M\naction-script {}\n", script.display())).unwrap();
    place.ok(["checkpoint", "--image-path", &images, &name]);
    assert!(fs::read_to_string(&ran).unwrap().contains("post-dump"));
    place.ok(["restore", "-d", "--image-path", &images, &name]);
    assert!(fs::read_to_string(&ran).unwrap().contains("post-restore"));
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
    // A snapshot names none: with a bundle that does not, the script does not run.
    fs::remove_file(&ran).unwrap();
    bundle.change(|config| drop(config.as_object_mut().unwrap().remove("annotations")));
    place.ok(["restore", "-d", "--image-path", &images, "--bundle", &word(bundle.path()), &name]);
    assert!(!ran.exists());
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn configuration_files_of_the_host_are_kept_out() {
    let place = Place::new("criu-option");
    let (bundle, name) = hazard(&place, "deleted-large");
    // One for every user of CRIU, by its variable and in the home folder: both would allow the file.
    fs::create_dir(place.join(".criu")).unwrap();
    for path in [place.join(".criu/default.conf"), place.join("criu.conf")] {
        fs::write(path, "ghost-limit 4M\n").unwrap();
    }
    let mut command =
        place.floe(["checkpoint", "--no-check", "--image-path", &word(&place.join("images")), &name]);
    command.env("HOME", place.path()).env("CRIU_CONFIG_FILE", place.join("criu.conf"));
    let done = said(&mut command);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.stderr.contains("ghost-limit"), "{done:?}");
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}
