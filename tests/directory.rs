//! Snapshots in folders of images (`dir:PATH`), laid out as runc does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::program::Bundle;
use support::{Place, names, tool};

fn folder(path: &Path) -> String {
    format!("dir:{}", path.display())
}

#[test]
fn a_container_comes_back_from_a_folder() {
    let place = Place::new("directory");
    let (bundle, name) = Bundle::running(&place);
    let path = place.join("a/images");
    place.ok(["checkpoint", &name, "--to", &folder(&path)]);
    place.ok(["delete", &name]);
    let found = names(&path);
    for wanted in ["inventory.img", "descriptors.json", "pages-1.img", "dump.log", "stats-dump", "floe"] {
        assert!(found.iter().any(|name| name == wanted), "{wanted} is not in {found:?}");
    }
    assert_eq!(names(&place.join("a")), ["images"], "nothing is left beside it");
    place.ok(["verify", &folder(&path)]);
    place.ok(["check", "--from", &folder(&path)]);
    assert!(place.ok(["inspect", &folder(&path), "tree"]).contains("memory-map"));
    let other = place.name("other");
    place.ok(["restore", "--detach", "--from", &folder(&path), &other]);
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &other]);
}

#[test]
fn a_folder_that_is_there_keeps_what_is_not_of_a_snapshot() {
    let place = Place::new("directory");
    let (bundle, name) = Bundle::running(&place);
    let path = place.join("images");
    fs::create_dir(&path).unwrap();
    for (file, text) in [("notes", "mine"), ("core-99.img", "of a former snapshot")] {
        fs::write(path.join(file), text).unwrap();
    }
    for _ in 0..2 {
        place.ok(["checkpoint", "--leave-running", &name, "--to", &folder(&path)]);
        assert_eq!(fs::read_to_string(path.join("notes")).unwrap(), "mine");
        assert!(!names(&path).iter().any(|name| name == "core-99.img" || name.starts_with('.')));
        place.ok(["verify", &folder(&path)]);
    }
    bundle.ask_ok("check");
    // What is no folder is not replaced, and the container runs on.
    let said = place.run(["checkpoint", &name, "--to", &folder(&path.join("notes"))]);
    assert_eq!(said.code, Some(1), "{said:?}");
    bundle.ask_ok("check");
    place.ok(["delete", "--force", &name]);
}

#[test]
fn what_was_changed_in_a_folder_is_damage() {
    let place = Place::new("directory");
    let (_bundle, name) = Bundle::running(&place);
    let path = place.join("images");
    place.ok(["checkpoint", &name, "--to", &folder(&path)]);
    place.ok(["delete", &name]);
    let changed = |change: &dyn Fn(&Path)| {
        let copy = place.join("copy");
        tool(Command::new("cp").arg("-a").arg(&path).arg(&copy));
        change(&copy);
        for words in [["verify"].as_slice(), &["restore", "--detach", "web", "--from"]] {
            let place_of = folder(&copy);
            let said = place.run(words.iter().copied().chain([place_of.as_str()]));
            // A file too many is none of floe's when it restores.
            let surplus = copy.join("core-999.img").exists() && words[0] == "restore";
            assert!(said.code == Some(4) || surplus, "{words:?}: {said:?}");
            if surplus {
                place.ok(["delete", "--force", "web"]);
            }
        }
        fs::remove_dir_all(&copy).unwrap();
    };
    changed(&|copy| {
        let pages = copy.join("pages-1.img");
        let mut bytes = fs::read(&pages).unwrap();
        bytes[5000] ^= 1;
        fs::write(&pages, bytes).unwrap();
    });
    changed(&|copy| fs::remove_file(copy.join("files.img")).unwrap());
    changed(&|copy| fs::write(copy.join("files.img"), "short").unwrap());
    changed(&|copy| fs::write(copy.join("floe/floe.json"), "{}").unwrap());
    changed(&|copy| fs::write(copy.join("core-999.img"), "x").unwrap());
}

#[test]
fn a_link_in_a_folder_is_not_followed() {
    let place = Place::new("directory");
    let (_bundle, name) = Bundle::running(&place);
    let path = place.join("images");
    place.ok(["checkpoint", &name, "--to", &folder(&path)]);
    place.ok(["delete", &name]);
    let pages = path.join("pages-1.img");
    let aside: PathBuf = place.join("aside");
    fs::rename(&pages, &aside).unwrap();
    symlink(&aside, &pages).unwrap();
    let said = place.run(["verify", &folder(&path)]);
    assert!(said.code != Some(0) && said.stderr.contains("pages-1.img"), "{said:?}");
}

#[test]
fn a_folder_without_images_is_none() {
    let place = Place::new("directory");
    let said = place.run(["verify", &folder(place.path())]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.stderr.contains("inventory.img is missing"), "{said:?}");
}

#[test]
fn a_link_to_a_dump_before_leads_to_a_neighbour_only() {
    let place = Place::new("directory");
    let (_bundle, name) = Bundle::running(&place);
    let (path, other) = (place.join("images"), place.join("elsewhere/images"));
    place.ok(["checkpoint", "--leave-running", &name, "--to", &folder(&other)]);
    place.ok(["checkpoint", &name, "--to", &folder(&path)]);
    place.ok(["delete", &name]);
    for (link, works) in
        [("../elsewhere/images", false), (other.to_str().unwrap(), false), ("../beside", true)]
    {
        symlink(link, path.join("parent")).unwrap();
        if works {
            fs::rename(&other, place.join("beside")).unwrap();
        }
        let said = place.run(["verify", &folder(&path)]);
        assert_eq!(said.code == Some(0), works, "{link}: {said:?}");
        assert!(works || said.stderr.contains("no folder beside it"), "{link}: {said:?}");
        fs::remove_file(path.join("parent")).unwrap();
    }
}
