//! Further processes, and namespaces of others.

use std::fs;

use floe_runtime::ExecOptions;
use serde_json::json;

use crate::support::{Bundle, eventually, full};

pub const TESTS: &[(&str, fn())] = &[
    ("a_process_joins_everything", a_process_joins_everything),
    ("a_process_that_joins_has_its_own_rights", a_process_that_joins_has_its_own_rights),
    (
        "a_process_that_cannot_be_executed_is_told_and_gone",
        a_process_that_cannot_be_executed_is_told_and_gone,
    ),
    ("a_process_that_joins_makes_no_folder", a_process_that_joins_makes_no_folder),
    ("an_init_that_is_gone_cannot_be_joined", an_init_that_is_gone_cannot_be_joined),
    ("namespaces_of_others_are_shared", namespaces_of_others_are_shared),
    ("a_file_that_is_no_namespace_is_named", a_file_that_is_no_namespace_is_named),
    ("floes_program_cannot_be_written_to", floes_program_cannot_be_written_to),
];

const NAMESPACES: [&str; 8] = ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user", "time"];

fn a_process_joins_everything() {
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let list = NAMESPACES.map(|name| format!("readlink /proc/self/ns/{name};")).concat();
    let (status, log) = running.exec(&format!(
        "{list} hostname; pwd; ls /; cat /proc/self/cgroup; ls /proc/self/fd | wc -l; exit 42"
    ));
    assert_eq!(status, 42, "{log}");
    let lines: Vec<&str> = log.lines().collect();
    for (line, name) in lines.iter().zip(NAMESPACES) {
        let theirs = fs::read_link(format!("/proc/{}/ns/{name}", running.pid())).unwrap();
        assert_eq!(theirs.to_str().unwrap(), *line, "{name}");
    }
    assert_eq!(lines[8..11], ["floe", "/", "bin"]);
    assert!(
        lines.iter().filter(|line| line.split(':').count() == 3).all(|line| line.ends_with(":/")),
        "{log}"
    );
    assert_eq!(lines.last(), Some(&"4"), "three streams, and the directory that is listed");
}

fn a_process_that_joins_has_its_own_rights() {
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let (status, log) = running.exec_as("id -u; cat /proc/self/status; pwd; echo $GREETING", |process| {
        process.user.uid = 1000;
        process.capabilities = None;
        process.cwd = "/home/user".into();
        process.env.push("GREETING=hello".into());
        process.oom_score_adj = Some(7);
    });
    assert_eq!(status, 0, "{log}");
    assert!(log.starts_with("1000\n") && log.ends_with("/home/user\nhello\n"), "{log}");
    for name in ["CapBnd", "CapPrm", "CapEff"] {
        assert!(log.contains(&format!("{name}:\t0000000000000000")), "{log}");
    }
}

fn a_process_that_cannot_be_executed_is_told_and_gone() {
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let odd = bundle.rootfs().join("bin/odd");
    fs::write(&odd, "not a program").unwrap();
    fs::set_permissions(&odd, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let before = running.container.cgroup().processes().unwrap().len();
    for (program, words) in [("nothing", "not found in $PATH"), ("odd", "exec format error")] {
        let mut process = running.container.config().process.clone();
        process.args = vec![program.into()];
        let error = running.container.exec(ExecOptions::new(process)).unwrap_err();
        assert!(full(&error).contains(words), "{}", full(&error));
    }
    eventually("nothing of it is left", || running.container.cgroup().processes().unwrap().len() == before);
}

fn a_process_that_joins_makes_no_folder() {
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let mut process = running.container.config().process.clone();
    process.cwd = "/not/there".into();
    let error = running.container.exec(ExecOptions::new(process)).unwrap_err();
    assert!(full(&error).contains("/not/there"), "{}", full(&error));
    assert!(!bundle.rootfs().join("not").exists());
}

fn an_init_that_is_gone_cannot_be_joined() {
    let bundle = Bundle::with_script("true");
    let running = bundle.create().unwrap();
    running.container.start().unwrap();
    let process = running.container.config().process.clone();
    running.wait();
    assert!(running.container.exec(ExecOptions::new(process)).is_err());
}

fn namespaces_of_others_are_shared() {
    let first = Bundle::with_script("echo ready; sleep 20");
    let first_running = first.create().unwrap();
    first_running.start_until_ready();
    let pid = first_running.pid();
    let mut second = Bundle::with_script("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; ps");
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        second.share(kind);
        let path = format!("/proc/{pid}/ns/{name}");
        second.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": kind, "path": path}));
    }
    let log = second.run();
    for (line, name) in log.lines().zip(["net", "ipc", "uts", "pid"]) {
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str(), Some(line));
    }
    assert!(log.contains("sleep 20"), "processes of the other one are seen: {log}");
}

fn a_file_that_is_no_namespace_is_named() {
    for (path, words) in [
        ("/not/there", "/not/there"),
        ("/etc/passwd", "/etc/passwd is no network namespace"),
        ("/proc/self/ns/uts", "is no network"),
    ] {
        let mut bundle = Bundle::new();
        bundle.share("network");
        bundle.spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "network", "path": path}));
        let error = bundle.refused();
        assert!(error.contains(words), "{error}");
    }
}

/// CVE-2019-5736: a program of the container whose interpreter is /proc/self/exe makes floe execute itself in there,
/// and another process writes to it through /proc/PID/exe.
fn floes_program_cannot_be_written_to() {
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let trap = bundle.rootfs().join("bin/trap");
    fs::write(&trap, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&trap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let mut process = running.container.config().process.clone();
    process.args = vec!["/bin/trap".into()];
    // What is executed is the sealed copy, whose loader isn't in the container or which finds no socket.
    if let Ok(pid) = running.container.exec(ExecOptions::new(process)) {
        let _ = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/exe")).map(|mut file| {
            assert!(std::io::Write::write(&mut file, b"x").is_err(), "it was written to");
        });
        crate::support::wait_for(pid);
    }
    assert!(own == fs::read(std::env::current_exe().unwrap()).unwrap());
}
