//! TCP connections with a peer outside the container: kept, closed, left out.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::host::{Host, Named, join, native, start_native};
use crate::support::Place;
use crate::support::calls::eventually;
use crate::support::leaks::Picture;
use crate::support::program::Bundle;

const IMPOSSIBLE: i32 = 3;

/// A container with an interface at the host's bridge, whose program listens at 10.7.0.2:7007.
pub fn listening(place: &Place) -> (Bundle, String) {
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["listen", "0.0.0.0:7007"]);
    let networks = json!([{"type": "veth", "name": "web0", "bridge": "br0", "address": "10.7.0.2/24"}]);
    let file = native(place, &bundle, networks);
    let name = place.name("first");
    start_native(place, &bundle, &file, &name);
    (bundle, name)
}

/// A connection to it that it has accepted, and through which something went.
pub fn peer(bundle: &Bundle, address: &str) -> TcpStream {
    let mut peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    bundle.ask_ok("accept");
    speak(bundle, &mut peer, "one", "two");
    peer
}

/// Something goes through it in each direction, that of the peer first.
#[track_caller]
pub fn speak(bundle: &Bundle, peer: &mut TcpStream, there: &str, back: &str) {
    peer.write_all(there.as_bytes()).unwrap();
    assert_eq!(bundle.ask_ok(&format!("receive {}", there.len())), there);
    bundle.ask_ok(&format!("send {back}"));
    let mut came = vec![0; back.len()];
    peer.read_exact(&mut came).unwrap();
    assert_eq!(String::from_utf8_lossy(&came), back);
}

fn report(said: &str) -> Value {
    serde_json::from_str(said).unwrap()
}

#[test]
fn a_connection_with_a_peer_outside_goes_on() {
    let place = Place::with_newest_criu("kept");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let (bundle, mut name) = listening(&place);
    let mut peer = peer(&bundle, "10.7.0.2:7007");
    let own = peer.local_addr().unwrap().to_string();
    for round in ["again", "more"] {
        let archive = place.join(format!("{round}.tar.zst"));
        let archive = archive.to_str().unwrap();
        let words = ["checkpoint", &name, "--to", archive, "--tcp", "established", "--format", "json"];
        let told = report(&place.ok(words));
        let one = &told["connections"][0];
        assert_eq!((&one["local"], &one["peer"]), (&json!("10.7.0.2:7007"), &json!(own)), "{told}");
        assert_eq!(
            (&one["fate"], &one["process"], &one["pid"]),
            (&json!("kept"), &json!("connected"), &json!(1))
        );
        // It is on its way while nobody is there.
        peer.write_all(b"meanwhile").unwrap();
        place.ok(["delete", &name]);
        name = place.name(round);
        let said = place.ok(["restore", &name, "--detach", "--from", archive]);
        assert!(
            said.contains(&format!("connection 10.7.0.2:7007 -> {own} of connected (1): kept")),
            "{said}"
        );
        assert_eq!(bundle.ask_ok("receive 9"), "meanwhile");
        speak(&bundle, &mut peer, "there", "back");
    }
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

#[test]
fn a_connection_goes_on_where_the_container_runs_on() {
    let place = Place::with_newest_criu("runs-on");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name) = listening(&place);
    let mut peer = peer(&bundle, "10.7.0.2:7007");
    let archive = place.join("on.tar.zst");
    place.ok([
        "checkpoint",
        &name,
        "--to",
        archive.to_str().unwrap(),
        "--leave-running",
        "--tcp-established",
    ]);
    speak(&bundle, &mut peer, "there", "back");
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

#[test]
fn connections_are_closed_when_that_is_asked_for_at_either_end() {
    let place = Place::with_newest_criu("closed");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name) = listening(&place);
    let archive = place.join("closed.tar.zst");
    let archive = archive.to_str().unwrap();
    let _peer = peer(&bundle, "10.7.0.2:7007");
    let told = place.ok(["checkpoint", &name, "--to", archive, "--tcp", "close"]);
    assert!(told.contains(": closed\n"), "{told}");
    place.ok(["delete", &name]);
    let again = place.name("again");
    place.ok(["restore", &again, "--detach", "--from", archive]);
    assert!(bundle.ask("send x").starts_with("failed: "));
    bundle.ask_ok("close");

    // Kept in the snapshot, and closed at the restore.
    let mut other = peer(&bundle, "10.7.0.2:7007");
    place.ok(["checkpoint", &again, "--to", archive, "--tcp", "established"]);
    place.ok(["delete", &again]);
    for flags in [&["--tcp", "close"][..], &["--tcp-close"]] {
        let more = place.name("more");
        let told = place.ok([&["restore", &more, "--detach", "--from", archive], flags].concat());
        assert!(told.contains(": closed\n"), "{told}");
        assert!(bundle.ask("send x").starts_with("failed: "));
        // The peer finds out when it speaks.
        eventually("the peer is told", || {
            let ended = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            other.write_all(b"x").is_err_and(|error| ended.contains(&error.kind()))
        });
        // The listener listens on.
        bundle.ask_ok("close");
        let mut new = TcpStream::connect("10.7.0.2:7007").unwrap();
        bundle.ask_ok("accept");
        speak(&bundle, &mut new, "there", "back");
        place.ok(["delete", "--force", &more]);
    }
    before.assert_unchanged();
}

#[test]
fn a_connection_that_is_not_accepted_is_left_out_when_that_is_asked_for() {
    let place = Place::with_newest_criu("flight");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let (bundle, name) = listening(&place);
    let _waiting = TcpStream::connect("10.7.0.2:7007").unwrap();
    let archive = place.join("flight.tar.zst");
    let archive = archive.to_str().unwrap();
    for flags in [&[][..], &["--tcp", "fail"], &["--tcp", "established"]] {
        let said = place.run([&["checkpoint", &name, "--to", archive], flags].concat());
        assert_eq!(said.code, Some(IMPOSSIBLE), "{flags:?}: {said:?}");
        assert!(
            said.stderr.contains("has not accepted 1") && said.stderr.contains("--tcp-skip-in-flight"),
            "{said:?}"
        );
    }
    assert_eq!(place.run(["check", &name, "--tcp", "established"]).code, Some(IMPOSSIBLE));
    place.ok(["check", &name, "--tcp", "established", "--tcp-skip-in-flight"]);
    let flags = ["--leave-running", "--tcp", "established", "--tcp-skip-in-flight"];
    let told = place.ok([&["checkpoint", &name, "--to", archive], &flags[..]].concat());
    assert!(told.contains("skipped, for it was not accepted yet"), "{told}");
    // The others are still refused.
    bundle.ask_ok("accept");
    let said = place.run(["checkpoint", &name, "--to", archive, "--tcp", "skip-in-flight"]);
    assert!(said.code == Some(IMPOSSIBLE) && said.stderr.contains("--tcp established"), "{said:?}");
    bundle.ask_ok("close");
    let _other = TcpStream::connect("10.7.0.2:7007").unwrap();
    let again = place.there_and_back(&name, "again", &["--tcp", "skip-in-flight"]);
    let mut new = TcpStream::connect("10.7.0.2:7007").unwrap();
    bundle.ask_ok("accept");
    speak(&bundle, &mut new, "there", "back");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

#[test]
fn an_address_that_is_not_there_is_named_before_anything_is_started() {
    let place = Place::with_newest_criu("address");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let named = Named::new();
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["listen", "0.0.0.0:7007"]);
    join(&bundle, "network", named.path());
    let name = place.name("first");
    place.start(&name, bundle.path());
    bundle.ready();
    let mut peer = peer(&bundle, "10.7.0.9:7007");
    let archive = place.join("address.tar.zst");
    let archive = archive.to_str().unwrap();
    place.ok(["checkpoint", &name, "--to", archive, "--tcp", "established"]);
    place.ok(["delete", &name]);
    named.run("ip addr del 10.7.0.9/24 dev net0");
    let again = place.name("again");
    let said = place.run(["restore", &again, "--detach", "--from", archive]);
    assert_eq!((said.code, place.state(&again)), (Some(IMPOSSIBLE), None), "{said:?}");
    for word in ["10.7.0.9:7007 -> 10.7.0.1:", "has the address 10.7.0.9", "--tcp close"] {
        assert!(said.stderr.contains(word), "{word}: {said:?}");
    }
    named.run("ip addr add 10.7.0.9/24 dev net0");
    place.ok(["restore", &again, "--detach", "--from", archive]);
    speak(&bundle, &mut peer, "there", "back");
    place.ok(["delete", "--force", &again]);
    drop(named);
    before.assert_unchanged();
}
