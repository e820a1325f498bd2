//! Where images, logs and figures go.

use std::fs;

use crate::support::program::Bundle;
use crate::support::{Place, names, said};
use crate::word;

#[test]
fn images_and_logs_are_where_an_engine_wants_them() {
    let place = Place::new("runc-form");
    let (bundle, name) = Bundle::running(&place);
    // Engines make both folders.
    let (images, work) = (place.join("images"), place.join("work"));
    fs::create_dir(&images).unwrap();
    fs::create_dir(&work).unwrap();
    let paths = ["--image-path", &word(&images), "--work-path", &word(&work)].map(str::to_owned);
    let words = |verb: &str, rest: &[&str]| -> Vec<String> {
        std::iter::once(verb).chain(rest.iter().copied()).map(str::to_owned).chain(paths.clone()).collect()
    };
    for _ in 0..2 {
        let said = place.run(words("checkpoint", &["--leave-running", &name]));
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", ""), "{said:?}");
        bundle.ask_ok("check");
    }
    place.ok(words("checkpoint", &["--auto-dedup", &name]));
    assert!(place.state(&name).is_none(), "as with runc, the name is free");
    assert_eq!(names(&work), ["dump.log", "stats-dump"]);
    let found = names(&images);
    for wanted in ["inventory.img", "descriptors.json", "pages-1.img"] {
        assert!(found.iter().any(|name| name == wanted), "{wanted} is not in {found:?}");
    }
    let streams: Vec<String> =
        serde_json::from_slice(&fs::read(images.join("descriptors.json")).unwrap()).unwrap();
    assert_eq!(streams, ["/dev/null"; 3]);

    let pid = place.join("pid");
    let said = place.run(words(
        "restore",
        &[
            "--detach",
            "--no-subreaper",
            "--auto-dedup",
            "--no-pivot",
            "--bundle",
            &word(bundle.path()),
            "--pid-file",
            &word(&pid),
            &name,
        ],
    ));
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", ""), "{said:?}");
    assert_eq!(fs::read_to_string(&pid).unwrap(), place.pid(&name).to_string());
    bundle.ask_ok("check");
    assert_eq!(names(&work), ["dump.log", "restore.log", "stats-dump", "stats-restore"]);
    place.ok(["delete", "--force", &name]);
}

#[test]
fn what_is_not_named_is_where_runc_has_it() {
    let place = Place::new("runc-form");
    let (bundle, name) = Bundle::running(&place);
    // The working directory is the bundle: images in ./checkpoint, and their logs with them.
    let here = |words: &[&str]| said(place.floe(words).current_dir(bundle.path()));
    let done = here(&["checkpoint", &name]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let images = bundle.path().join("checkpoint");
    assert!(names(&images).iter().any(|name| name == "dump.log"));
    let done = here(&["restore", "-d", &name]);
    assert_eq!(done.code, Some(0), "{done:?}");
    bundle.ask_ok("check");
    assert!(names(&images).iter().any(|name| name == "restore.log"));
    // A relative path, and the bundle that this host remembers.
    let other = place.join("other");
    fs::create_dir(&other).unwrap();
    let there = |words: &[&str]| said(place.floe(words).current_dir(&other));
    let done = there(&["checkpoint", "--image-path", "a/b", &name]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = there(&["restore", "-d", "--image-path", "a/b", &name]);
    assert_eq!(done.code, Some(0), "{done:?}");
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn a_failure_leaves_the_log_and_no_image() {
    let place = Place::new("runc-form");
    let bundle = crate::support::program::Bundle::of_program(&place.join("bundle"), "hazard", &["file-lock"]);
    let name = place.name("locked");
    place.start(&name, bundle.path());
    bundle.ready();
    let (images, work) = (place.join("images"), place.join("work"));
    fs::create_dir(&images).unwrap();
    let words =
        ["checkpoint", "--no-check", "--image-path", &word(&images), "--work-path", &word(&work), &name];
    let said = place.run(words);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.stderr.contains("--file-locks"), "{said:?}");
    assert!(fs::read_to_string(work.join("dump.log")).unwrap().contains("Error ("));
    assert!(names(&images).is_empty(), "{:?}", names(&images));
    bundle.ask_ok("");

    // A work path that cannot be had is said before anything is frozen.
    let nowhere = word(&place.join("no/where"));
    let said = place.run([
        "checkpoint",
        "--file-locks",
        "--image-path",
        &word(&images),
        "--work-path",
        &nowhere,
        &name,
    ]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("no/where"), "{said:?}");

    // The same of a restore: a file that the program has mapped has another size now.
    place.ok([&words[..1], &["--file-locks"], &words[1..]].concat());
    let program = bundle.rootfs().join("bin/hazard");
    let own = fs::read(&program).unwrap();
    fs::write(&program, [&own[..], b"more"].concat()).unwrap();
    let paths = ["--image-path", &word(&images), "--work-path", &word(&work)].map(str::to_owned);
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let said = place.run([&["restore", "-d", "--no-check", &name], &paths[..]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(fs::read_to_string(work.join("restore.log")).unwrap().contains("bad size"));
    assert!(place.state(&name).is_none(), "nothing is left of it");
    fs::write(&program, own).unwrap();
    place.ok([&["restore", "-d", "--file-locks", &name], &paths[..]].concat());
    bundle.ask_ok("");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn one_that_an_engine_paused_comes_back_running() {
    let place = Place::new("runc-form");
    let (bundle, name) = Bundle::running(&place);
    place.ok(["pause", &name]);
    let images = word(&place.join("images"));
    place.ok(["checkpoint", "--image-path", &images, &name]);
    place.ok(["restore", "-d", "--image-path", &images, &name]);
    assert_eq!(place.state(&name).unwrap()["status"], "running");
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
    // To floe it is what it was.
    place.ok(["restore", "-d", "--from", &format!("dir:{images}"), &name]);
    assert_eq!(place.state(&name).unwrap()["status"], "paused");
    place.ok(["resume", &name]);
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
}
