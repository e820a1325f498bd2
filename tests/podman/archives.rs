//! Archives that podman makes of what floe dumped, and what it brings back of archives.

use std::path::{Path, PathBuf};

use crate::checkpoint::{COUNTS, count, counts_on};
use crate::engine::{IMAGE, Podman};
use crate::support::calls::succeed;

fn export(podman: &Podman, name: &str, flags: &[&str]) -> PathBuf {
    let archive = podman.place().join(format!("{name}.tar"));
    let words = ["container", "checkpoint", "--export", archive.to_str().unwrap()];
    podman.ok([&words[..], flags, &[name]].concat());
    archive
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_archive_comes_back_under_its_own_and_another_name() {
    let podman = Podman::new();
    podman.start("web", &[], COUNTS);
    let before = count(&podman, "web");
    let archive = export(&podman, "web", &["--leave-running", "--compress", "gzip"]);
    counts_on(&podman, "web", before);
    // Beside the one that it was made of, twice.
    for name in ["copy", "another"] {
        podman.ok(["container", "restore", "--import", word(&archive), "--name", name]);
        counts_on(&podman, name, before);
    }
    // A copy is frozen and comes back like any other.
    let copied = count(&podman, "copy");
    podman.ok(["container", "checkpoint", "copy"]);
    podman.ok(["container", "restore", "copy"]);
    counts_on(&podman, "copy", copied);
    // Where the first one is gone, it comes back as itself.
    podman.ok(["rm", "--force", "--time", "0", "web"]);
    podman.ok(["container", "restore", "--import", word(&archive)]);
    counts_on(&podman, "web", before);
}

#[test]
fn volumes_and_shared_memory_are_in_an_archive() {
    let podman = Podman::new();
    podman.ok(["volume", "create", "store"]);
    let script = "echo kept >/data/file; echo kept >/dev/shm/file; while :; do sleep 0.1; done";
    podman.start("web", &["--volume", "store:/data"], script);
    let look = |name: &str| podman.call(["exec", name, "cat", "/data/file", "/dev/shm/file"]).stdout;
    crate::support::calls::eventually("both are written", || look("web") == "kept\nkept\n");
    let archive = export(&podman, "web", &["--compress", "zstd"]);
    podman.ok(["rm", "--force", "web"]);
    podman.ok(["volume", "rm", "store"]);
    podman.ok(["container", "restore", "--import", word(&archive), "--name", "copy"]);
    assert_eq!(look("copy"), "kept\nkept\n");
}

#[test]
fn a_terminal_comes_back() {
    let podman = Podman::new();
    podman.start("web", &["--tty"], "stty size; while :; do sleep 0.1; done");
    podman.ok(["container", "checkpoint", "web"]);
    podman.ok(["container", "restore", "web"]);
    podman.ok(["exec", "web", "sh", "-c", "test -c /proc/1/fd/1 && echo heard >/proc/1/fd/1"]);
    crate::support::calls::eventually("podman holds the other side", || {
        podman.ok(["logs", "web"]).contains("heard")
    });
}

#[test]
fn archives_of_runc_come_back_with_floe_and_the_other_way_round() {
    let podman = Podman::new();
    let words = podman.run_arguments(["--detach", "--name", "web", IMAGE, "sh", "-c", COUNTS]);
    succeed(&mut podman.with_runc(words), String::new);
    let before = count(&podman, "web");
    let archive = podman.place().join("of-runc.tar.zst");
    let freeze = ["container", "checkpoint", "--export", word(&archive), "web"];
    succeed(&mut podman.with_runc(freeze), String::new);
    succeed(&mut podman.with_runc(["rm", "--force", "web"]), String::new);
    succeed(&mut podman.as_runc(["container", "restore", "--import", word(&archive)]), String::new);
    let all = succeed(&mut podman.as_runc(["exec", "web", "cat", "/tmp/count"]), String::new);
    assert!(all.trim().parse::<u64>().is_ok_and(|now| now >= before), "{all}");

    let archive = podman.place().join("of-floe.tar.zst");
    let freeze = ["container", "checkpoint", "--export", word(&archive), "web"];
    succeed(&mut podman.as_runc(freeze), String::new);
    let restore = ["container", "restore", "--import", word(&archive), "--name", "copy"];
    succeed(&mut podman.with_runc(restore), String::new);
    let all = succeed(&mut podman.with_runc(["exec", "copy", "cat", "/tmp/count"]), String::new);
    assert!(all.trim().parse::<u64>().is_ok_and(|now| now >= before), "{all}");
    succeed(&mut podman.with_runc(["rm", "--force", "--time", "0", "copy"]), String::new);
    succeed(&mut podman.as_runc(["rm", "--force", "--time", "0", "web"]), String::new);
}
