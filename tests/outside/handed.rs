//! Descriptors beyond the standard streams that a container was handed, and its clocks.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::json;

use crate::support::Place;
use crate::support::leaks::Picture;
use crate::support::program::Bundle;

/// A container of the program `connected` with this as descriptor 3.
fn handed(place: &Place, what: &str, descriptor: OwnedFd) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &[what]);
    let name = place.name("first");
    let mut command = place.floe(["run", "--detach", "--preserve-fds", "1", "--bundle"]);
    command.arg(bundle.path()).arg(&name);
    command.fd_mappings(vec![FdMapping { parent_fd: descriptor, child_fd: 3 }]).unwrap();
    assert!(command.status().unwrap().success());
    drop(command);
    bundle.ready();
    (bundle, name)
}

#[test]
fn what_is_in_a_pipe_comes_along_and_nobody_is_at_its_other_end() {
    let place = Place::new("pipe");
    let before = Picture::without_criu(&place, &[]);
    let (read, mut write) = std::io::pipe().unwrap();
    let (bundle, name) = handed(&place, "reader", read.into());
    write.write_all(b"onetwo").unwrap();
    assert_eq!(bundle.ask_ok("receive 3"), "one");
    let archive = place.join("pipe.tar.zst");
    let archive = archive.to_str().unwrap();
    let said = place.run(["checkpoint", &name, "--to", archive]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let told = format!("held by process {}", std::process::id());
    assert!(
        said.stderr.contains("one end of a pipe (descriptor 3)") && said.stderr.contains(&told),
        "{said:?}"
    );
    place.ok(["delete", &name]);
    let again = place.name("again");
    place.ok(["restore", &again, "--detach", "--from", archive]);
    assert_eq!(bundle.ask_ok("receive 3"), "two");
    assert!(bundle.ask("receive 1").starts_with("failed: read"), "the pipe is at its end");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

#[test]
fn a_file_of_the_host_that_it_was_handed_goes_on() {
    let place = Place::new("file");
    let before = Picture::without_criu(&place, &[]);
    let path = place.join("log");
    let log = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let (bundle, mut name) = handed(&place, "writer", log.into());
    bundle.ask_ok("send one");
    for (round, word) in ["two", "three"].into_iter().enumerate() {
        name = place.there_and_back(&name, &round.to_string(), &[]);
        bundle.ask_ok(&format!("send {word}"));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "onetwothree");
    // Others write to it meanwhile: it goes on at the end.
    let archive = place.join("file.tar.zst");
    place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
    place.ok(["delete", &name]);
    File::options().append(true).open(&path).unwrap().write_all(b"!").unwrap();
    place.ok(["restore", &name, "--detach", "--from", archive.to_str().unwrap()]);
    bundle.ask_ok("send four");
    assert_eq!(fs::read_to_string(&path).unwrap(), "onetwothree!four");
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

#[test]
fn its_clocks_go_on_where_they_stood() {
    let place = Place::new("clock");
    let before = Picture::without_criu(&place, &[]);
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["clock"]);
    bundle.change(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] =
            json!({"monotonic": {"secs": 1_000_000}, "boottime": {"secs": 2_000_000}});
    });
    let mut name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    let clocks = || {
        let answer = bundle.ask_ok("clock");
        let mut numbers = answer.split(' ').map(|word| Duration::from_millis(word.parse().unwrap()));
        (numbers.next().unwrap(), numbers.next().unwrap())
    };
    let own = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap());
    let first = clocks();
    assert!(first.0 > own + Duration::from_secs(999_000) && first.1 > own + Duration::from_secs(1_999_000));
    for round in ["again", "more"] {
        let (begun, had) = (Instant::now(), clocks());
        let archive = place.join(format!("{round}.tar.zst"));
        place.ok(["checkpoint", &name, "--to", archive.to_str().unwrap()]);
        place.ok(["delete", &name]);
        // It is away for so long, of which its clocks know nothing.
        let away = Duration::from_secs(3);
        std::thread::sleep(away);
        name = place.name(round);
        place.ok(["restore", &name, "--detach", "--from", archive.to_str().unwrap()]);
        let (have, passed) = (clocks(), begun.elapsed());
        for (had, have) in [(had.0, have.0), (had.1, have.1)] {
            assert!(have >= had, "a clock went back: {had:?}, {have:?}");
            assert!(
                have - had <= passed - away,
                "{:?} passed, of which it was away {away:?}: {had:?}, {have:?}",
                passed
            );
        }
    }
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}
