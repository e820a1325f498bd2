//! An archive is an ordinary `.tar.zst`: tar, zstd and Python read it, and a reader of the seekable format that is not
//! ours finds its table.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::program::Bundle;
use support::{Place, damage, tool};

/// An archive of a container with a few MiB of memory.
fn archive(place: &Place) -> PathBuf {
    let bundle = Bundle::of_program(&place.join("bundle"), "memory-map", &["--mib", "4"]);
    let (name, path) = (place.name("small"), place.join("small.tar.zst"));
    place.start(&name, bundle.path());
    bundle.ready();
    place.ok(["checkpoint", &name, "--to", path.to_str().unwrap()]);
    place.ok(["delete", &name]);
    path
}

/// Members that other tools look for (podman, checkpointctl) and ours.
const MEMBERS: &[&str] = &[
    "floe-head.json",
    "checkpoint/",
    "checkpoint/inventory.img",
    "config.dump",
    "spec.dump",
    "floe-index",
    "floe.json",
];

#[test]
fn others_read_an_archive_to_its_last_byte() {
    let place = Place::new("foreign");
    let path = archive(&place);

    // zstd checks every frame; a skippable frame first would make podman take the file for something else.
    tool(Command::new("zstd").arg("-tq").arg(&path));
    assert_eq!(fs::read(&path).unwrap()[..4], 0xFD2F_B528_u32.to_le_bytes());

    let list = String::from_utf8(tool(Command::new("tar").args(["--zstd", "-tf"]).arg(&path))).unwrap();
    let by_tar: Vec<&str> = list.lines().collect();
    assert_eq!(by_tar.first(), Some(&"floe-head.json"), "what this is has to be said first");
    assert_eq!(by_tar.last(), Some(&"floe.json"), "the manifest is last");
    for member in MEMBERS {
        assert!(by_tar.contains(member), "{member} is not in {by_tar:?}");
    }
    let names: BTreeSet<&str> = by_tar.iter().copied().collect();
    assert_eq!(names.len(), by_tar.len(), "a name is there twice");

    // Python's reader wants plain tar on its input; it also says the kind of each member.
    let program = "import sys, tarfile\n\
                   for member in tarfile.open(fileobj=sys.stdin.buffer, mode='r|'):\n\
                   \x20   assert member.isfile() or member.isdir(), member\n\
                   \x20   assert not member.issparse(), member\n\
                   \x20   print(member.size, member.name + ('/' if member.isdir() else ''))\n";
    let plain = place.join("plain.tar");
    tool(Command::new("zstd").arg("-dq").arg(&path).arg("-o").arg(&plain));
    let mut python = Command::new("python3");
    python.args(["-c", program]).stdin(fs::File::open(&plain).unwrap());
    let list = String::from_utf8(tool(&mut python)).unwrap();
    let by_python: Vec<&str> = list.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(by_python, by_tar);

    // What tar unpacks is what the manifest says.
    let unpacked = place.join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    tool(Command::new("tar").args(["--zstd", "-xf"]).arg(&path).arg("-C").arg(&unpacked));
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(unpacked.join("floe.json")).unwrap()).unwrap();
    let mut compared = 0;
    for member in manifest["members"].as_array().expect("the manifest lists its members") {
        if member["kind"] != "file" {
            continue;
        }
        let content = fs::read(unpacked.join(member["name"].as_str().unwrap())).unwrap();
        assert_eq!(Some(content.len() as u64), member["size"].as_u64(), "{member}");
        // A member that grew, such as the pages, has a digest of its frames instead.
        if member["of_frames"] != true {
            assert_eq!(Some(blake3::hash(&content).to_hex().as_str()), member["digest"].as_str(), "{member}");
        }
        compared += 1;
    }
    assert!(compared > 10, "only {compared} members are in the manifest");
}

#[test]
fn a_reader_of_the_seekable_format_finds_every_frame() {
    let place = Place::new("seekable");
    let path = archive(&place);
    let content = damage::plain(&path);
    let anatomy = damage::Anatomy::of(&path);
    let file = fs::File::open(&path).unwrap();
    let mut decoder = zeekstd::Decoder::new(file).expect("zeekstd reads the table");
    assert_eq!(decoder.seek_table().num_frames() as usize, anatomy.frames.len());
    // From somewhere in the middle, as a lazy reader would.
    for part in [0, 1, 7, 13, 19] {
        let start = content.len() * part / 20;
        let end = (start + 100_000).min(content.len());
        let mut found = Vec::new();
        decoder.set_offset(start as u64).unwrap();
        decoder.set_offset_limit(end as u64).unwrap();
        std::io::copy(&mut decoder, &mut found).unwrap();
        assert!(found == content[start..end], "bytes {start} to {end} differ");
    }
}
