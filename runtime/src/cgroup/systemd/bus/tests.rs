//! Against a server that plays systemd: what is sent, and what comes of each answer.

use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::super::wire::{FIXED, Value, following};
use super::*;

/// A systemd that answers each call with what the test says, and gives the calls that it got.
struct Server {
    dir: tempfile::TempDir,
    calls: JoinHandle<Vec<Message>>,
}

impl Server {
    fn new(answers: Vec<Vec<Vec<u8>>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let serve = move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut lines = String::new();
            stream.read_line(&mut lines).unwrap();
            stream.read_line(&mut lines).unwrap();
            assert_eq!(lines, "\0AUTH EXTERNAL\r\nDATA\r\n");
            stream.get_mut().write_all(b"DATA\r\nOK 0123456789abcdef\r\n").unwrap();
            lines.clear();
            stream.read_line(&mut lines).unwrap();
            assert_eq!(lines, "BEGIN\r\n");
            let mut calls = Vec::new();
            for answer in answers {
                let mut bytes = vec![0; FIXED];
                stream.read_exact(&mut bytes).unwrap();
                let rest = following(bytes.first_chunk().unwrap()).unwrap();
                bytes.resize(FIXED + rest, 0);
                stream.read_exact(&mut bytes[FIXED..]).unwrap();
                calls.push(Message::parse(&bytes).unwrap());
                answer.iter().for_each(|bytes| stream.get_mut().write_all(bytes).unwrap());
            }
            calls
        };
        Self { dir, calls: std::thread::spawn(serve) }
    }

    fn connect(&self) -> Bus {
        Bus::at(&self.dir.path().join("socket"), false).unwrap()
    }

    fn calls(self) -> Vec<Message> {
        self.calls.join().unwrap()
    }
}

/// A message to floe: its kind, fields (code, signature, bytes) and body.
fn message(kind: u8, serial: u32, fields: &[(u8, &str, &str)], texts: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    let pad = |bytes: &mut Vec<u8>, size: usize| bytes.resize(bytes.len().next_multiple_of(size), 0);
    let put = |bytes: &mut Vec<u8>, text: &str| {
        pad(bytes, 4);
        bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.push(0);
    };
    for text in texts {
        match text.strip_prefix('#') {
            Some(number) => {
                pad(&mut body, 4);
                body.extend(number.parse::<u32>().unwrap().to_le_bytes());
            }
            None => put(&mut body, text),
        }
    }
    let mut header = vec![b'l', kind, 0, 1];
    header.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    header.extend(77_u32.to_le_bytes());
    header.extend([0; 4]);
    header.extend([5, 1, b'u', 0]);
    header.extend(serial.to_le_bytes());
    for (code, signature, text) in fields {
        pad(&mut header, 8);
        header.extend([*code, 1, signature.as_bytes()[0], 0]);
        match *signature {
            "g" => {
                header.push(u8::try_from(text.len()).unwrap());
                header.extend(text.as_bytes());
                header.push(0);
            }
            _ => put(&mut header, text),
        }
    }
    let length = u32::try_from(header.len() - FIXED).unwrap();
    header[12..16].copy_from_slice(&length.to_le_bytes());
    pad(&mut header, 8);
    header.extend(body);
    header
}

fn reply(serial: u32, signature: &str, texts: &[&str]) -> Vec<u8> {
    let fields: &[_] = if texts.is_empty() { &[] } else { &[(8, "g", signature)] };
    message(wire::REPLY, serial, fields, texts)
}

fn error(serial: u32, name: &str) -> Vec<u8> {
    message(wire::ERROR, serial, &[(4, "s", name), (8, "g", "s")], &["words"])
}

fn job_removed(job: &str, result: &str) -> Vec<u8> {
    message(wire::SIGNAL, 0, &[(3, "s", "JobRemoved"), (8, "g", "uoss")], &["#5", job, "a.scope", result])
}

#[test]
fn a_scope_is_there_when_its_job_is_done() {
    let server = Server::new(vec![
        // The signal may come before the answer, and others between.
        vec![job_removed("/job/1", "failed"), job_removed("/job/2", "done"), reply(1, "o", &["/job/2"])],
        vec![reply(2, "", &[])],
    ]);
    let mut bus = server.connect();
    let properties = [Property::new("PIDs", Value::Words(vec![42]))];
    bus.start_transient("a.scope", &properties).unwrap();
    bus.set_properties("a.scope", &[Property::new("TasksMax", Value::Number(7))]).unwrap();
    let calls = server.calls();
    assert_eq!(
        (calls[0].member.as_str(), calls[0].signature.as_str()),
        ("StartTransientUnit", "ssa(sv)a(sa(sv))")
    );
    assert_eq!(calls[0].texts(), ["a.scope", "replace"]);
    assert_eq!((calls[1].member.as_str(), calls[1].signature.as_str()), ("SetUnitProperties", "sba(sv)"));
    let expected =
        Body::default().text("a.scope").flag(true).properties(&[Property::new("TasksMax", Value::Number(7))]);
    let call = expected.call(manager("SetUnitProperties"), 2);
    assert_eq!(calls[1], Message::parse(&call).unwrap());
}

#[test]
fn a_failed_unit_of_that_name_is_forgotten_first() {
    const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
    let server = Server::new(vec![
        vec![error(1, EXISTS)],
        vec![reply(2, "", &[])],
        vec![reply(3, "o", &["/job/3"]), job_removed("/job/3", "done")],
    ]);
    server.connect().start_transient("a.scope", &[]).unwrap();
    let members: Vec<String> = server.calls().into_iter().map(|call| call.member).collect();
    assert_eq!(members, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
}

#[test]
fn a_unit_that_is_gone_is_stopped() {
    const NONE: &str = "org.freedesktop.systemd1.NoSuchUnit";
    let server = Server::new(vec![vec![error(1, NONE)], vec![error(2, NONE)]]);
    server.connect().stop("a.scope").unwrap();
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn a_process_is_moved_by_its_number() {
    let server = Server::new(vec![vec![reply(1, "", &[])]]);
    server.connect().attach("a.scope", "/inner", 42).unwrap();
    let call = &server.calls()[0];
    let member = (call.member.as_str(), call.signature.as_str());
    assert_eq!(member, ("AttachProcessesToUnit", "ssau"));
    assert_eq!(call.texts(), ["a.scope", "/inner"]);
}

#[test]
fn what_systemd_says_is_told() {
    let server = Server::new(vec![
        vec![error(1, "org.freedesktop.DBus.Error.AccessDenied")],
        vec![reply(2, "o", &["/job/1"]), job_removed("/job/1", "timeout")],
    ]);
    let mut bus = server.connect();
    let denied = bus.set_properties("a.scope", &[]).unwrap_err().to_string();
    assert!(
        denied.contains("SetUnitProperties a.scope") && denied.contains("AccessDenied: words"),
        "{denied}"
    );
    let late = bus.start_transient("a.scope", &[]).unwrap_err().to_string();
    assert!(late.contains("timeout"), "{late}");
    server.calls();
    // And when it goes away in the middle.
    let gone = Server::new(Vec::new());
    let mut bus = gone.connect();
    gone.calls();
    assert!(matches!(bus.manager_property("Version").unwrap_err(), Error::Systemd { .. }));
}
