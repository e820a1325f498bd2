//! How packets are held back while connections are taken, and that nothing of it stays.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::host::{Host, Named, inside, join, native, start_native};
use crate::support::Place;
use crate::support::calls::{eventually, wait};
use crate::support::leaks::Picture;
use crate::support::program::Bundle;
use crate::tcp::{listening, peer, speak};

/// Every rule in the network namespace of a process.
fn rules(pid: i32) -> String {
    let all = ["nft list ruleset", "iptables-save", "ip6tables-save"].map(|words| inside(pid, words));
    // Tables and chains that are there without rules are the kernel's, from the first look on.
    all.iter()
        .flat_map(|text| text.lines())
        .filter(|line| is_a_rule(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn is_a_rule(line: &str) -> bool {
    ["CRIU", "floe", "drop", "DROP"].iter().any(|word| line.contains(word))
}

#[test]
fn each_method_keeps_a_connection_and_leaves_no_rule() {
    let place = Place::with_newest_criu("method");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let (bundle, mut name) = listening(&place);
    let mut peer = peer(&bundle, "10.7.0.2:7007");
    for (round, method) in ["nftables", "iptables", "none", "skip", "auto"].into_iter().enumerate() {
        let flags = ["--tcp", "established", "--network-lock", method];
        let archive = place.join(format!("{round}-on.tar.zst"));
        place.ok([&["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running"], &flags[..]]
            .concat());
        speak(&bundle, &mut peer, "there", "back");
        assert_eq!(rules(place.pid(&name)), "", "{method}");
        name = place.there_and_back(&name, &round.to_string(), &flags);
        speak(&bundle, &mut peer, "there", "back");
        assert_eq!(rules(place.pid(&name)), "", "{method}");
    }
    place.ok(["delete", "--force", &name]);
    before.assert_unchanged();
}

/// A container in a network that it shares, and one beside it.
#[test]
fn others_in_a_shared_network_are_not_cut_off() {
    let place = Place::with_newest_criu("shared");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let named = Named::new();
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["listen", "0.0.0.0:7007"]);
    let beside = Bundle::of_program(&place.join("beside"), "connected", &["listen", "0.0.0.0:7008"]);
    let (mut name, other) = (place.name("first"), place.name("beside"));
    for (bundle, name) in [(&bundle, &name), (&beside, &other)] {
        join(bundle, "network", named.path());
        place.start(name, bundle.path());
        bundle.ready();
    }
    let mut own = peer(&bundle, "10.7.0.9:7007");
    let mut neighbours = peer(&beside, "10.7.0.9:7008");
    for method in ["nftables", "iptables"] {
        let archive = place.join(format!("{method}.tar.zst"));
        let archive = archive.to_str().unwrap();
        place.ok(["checkpoint", &name, "--to", archive, "--tcp", "established", "--network-lock", method]);
        speak(&beside, &mut neighbours, "there", "back");
        // Whoever speaks to the one that is not there is not told so.
        own.write_all(b"meanwhile").unwrap();
        let held = rules(place.pid(&other));
        assert!(held.contains("7007") && !held.contains("CRIU"), "{held}");
        place.ok(["delete", &name]);
        name = place.name(method);
        place.ok(["restore", &name, "--detach", "--from", archive]);
        assert_eq!(bundle.ask_ok("receive 9"), "meanwhile");
        speak(&bundle, &mut own, "there", "back");
        speak(&beside, &mut neighbours, "there", "back");
        assert_eq!(rules(place.pid(&other)), "", "{method}");
    }
    place.ok(["delete", "--force", &name]);
    place.ok(["delete", "--force", &other]);
    drop(named);
    before.assert_unchanged();
}

/// Who is killed while the network is locked.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Criu,
    Floe,
    Both,
}

/// A child of floe that has become CRIU.
fn criu_of(floe: &Child) -> Option<i32> {
    let path = format!("/proc/{0}/task/{0}/children", floe.id());
    let children = fs::read_to_string(path).ok()?;
    let mut all = children.split_whitespace().filter_map(|child| child.parse::<i32>().ok());
    all.find(|child| {
        let program = fs::read_link(format!("/proc/{child}/exe")).unwrap_or_else(|_| PathBuf::new());
        program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("criu"))
    })
}

#[test]
fn a_lock_that_a_killed_checkpoint_left_is_taken_out() {
    let place = Place::with_newest_criu("struck");
    let _host = Host::new();
    let before = Picture::without_criu(&place, &[]);
    let bundle = Bundle::of_program(&place.join("bundle"), "connected", &["listen", "0.0.0.0:7007", "192"]);
    let networks = json!([{"type": "veth", "name": "web0", "bridge": "br0", "address": "10.7.0.2/24"}]);
    let file = native(&place, &bundle, networks);
    let name = place.name("first");
    start_native(&place, &bundle, &file, &name);
    let mut peer = peer(&bundle, "10.7.0.2:7007");
    let init = place.pid(&name);
    let mut locked = 0;
    for method in ["nftables", "iptables"] {
        for victim in [Victim::Criu, Victim::Floe, Victim::Both] {
            let archive = place.join("struck.tar.zst");
            let words = ["checkpoint", &name, "--to", archive.to_str().unwrap(), "--tcp", "established"];
            let mut floe = place.floe([&words[..], &["--network-lock", method]].concat()).spawn().unwrap();
            let look = if method == "nftables" { "nft list tables" } else { "iptables-save" };
            eventually("the network is locked", || inside(init, look).contains("CRIU"));
            let criu = criu_of(&floe).expect("criu works while the network is locked");
            let pids = match victim {
                Victim::Criu => vec![criu],
                Victim::Floe => vec![floe.id().cast_signed()],
                Victim::Both => vec![floe.id().cast_signed(), criu],
            };
            for pid in pids {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            }
            let status = wait(&mut floe);
            assert!(!status.success(), "{method}, {victim:?}: {status}");
            locked += usize::from(rules(init).contains("CRIU"));
            // The next command does what the killed one could not do.
            eventually("the network is open", || {
                place.ok(["list"]);
                rules(init).is_empty()
            });
            assert_eq!(place.state(&name).unwrap()["status"], "running", "{method}, {victim:?}");
            speak(&bundle, &mut peer, "there", "back");
            assert!(!archive.exists());
        }
    }
    assert!(locked > 0, "where both were killed, the lock was there until the next command");
    // And it can be frozen as before.
    let again = place.there_and_back(&name, "again", &["--tcp", "established"]);
    speak(&bundle, &mut peer, "there", "back");
    place.ok(["delete", "--force", &again]);
    before.assert_unchanged();
}

#[test]
fn what_this_host_can_do_is_found_out_and_what_it_cannot_is_said() {
    let place = Place::with_newest_criu("probe");
    let _host = Host::new();
    let (bundle, name) = listening(&place);
    let mut peer = peer(&bundle, "10.7.0.2:7007");
    let archive = place.join("probe.tar.zst");
    let words =
        ["checkpoint", &name, "--to", archive.to_str().unwrap(), "--leave-running", "--tcp-established"];
    // Without the programs there is no iptables.
    let empty = place.join("empty");
    fs::create_dir(&empty).unwrap();
    // Which criu needs for the container's tmpfs.
    std::os::unix::fs::symlink("/bin/tar", empty.join("tar")).unwrap();
    let mut command = place.floe([&words[..], &["--network-lock", "iptables"]].concat());
    let said = crate::support::said(command.env("PATH", &empty));
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(
        said.stderr.contains("cannot lock the network by iptables") && said.stderr.contains("PATH"),
        "{said:?}"
    );
    speak(&bundle, &mut peer, "there", "back");
    // Where nothing is to be kept, nothing is asked for.
    bundle.ask_ok("close");
    let usage = place.run(["checkpoint", &name, "--to", "x", "--network-lock", "pigeons"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    let again = TcpStream::connect("10.7.0.2:7007").unwrap();
    drop(again);
    place.ok(["delete", "--force", &name]);
}
