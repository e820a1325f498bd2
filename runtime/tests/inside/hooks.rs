//! Hooks: where each kind runs, what it is told, and what its failure means.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Bundle, full};

pub const TESTS: &[(&str, fn())] = &[
    ("every_hook_runs_in_its_place_and_order", every_hook_runs_in_its_place_and_order),
    ("hooks_run_in_a_user_namespace_too", hooks_run_in_a_user_namespace_too),
    ("a_hook_has_arguments_and_environment", a_hook_has_arguments_and_environment),
    ("a_hook_of_create_that_fails_ends_it", a_hook_of_create_that_fails_ends_it),
    (
        "a_hook_of_the_container_that_fails_at_start_ends_it",
        a_hook_of_the_container_that_fails_at_start_ends_it,
    ),
    ("a_hook_after_start_that_fails_ends_the_container", a_hook_after_start_that_fails_ends_the_container),
    ("a_hook_after_the_end_that_fails_is_passed_over", a_hook_after_the_end_that_fails_is_passed_over),
    ("a_hook_that_takes_too_long_is_ended", a_hook_that_takes_too_long_is_ended),
    ("a_hook_in_a_readonly_container_is_heard", a_hook_in_a_readonly_container_is_heard),
];

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs `script`. In the container there is the same shell.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// Puts one more hook behind the others of its kind.
fn add(bundle: &mut Bundle, kind: &str, script: &str) {
    bundle.spec["hooks"][kind].as_array_mut().unwrap().push(hook(script));
}

/// A bundle whose hooks of every kind append `kind mountns utsns root state` to `/out/hooks`.
fn telling(script: &str) -> Bundle {
    let mut bundle = Bundle::with_script(script);
    let out = bundle.out();
    for kind in KINDS {
        let file = if kind == "startContainer" {
            "/out/hooks".into()
        } else {
            out.join("hooks").display().to_string()
        };
        let tell = format!(
            "echo {kind} $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts) $(test -d {} && echo host || echo container) $(cat) >> {file}",
            bundle.path().display()
        );
        bundle.spec["hooks"][kind] = json!([hook(&tell)]);
    }
    fs::write(out.join("hooks"), "").unwrap();
    fs::set_permissions(out.join("hooks"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    bundle
}

struct Told {
    kind: String,
    mounts: String,
    names: String,
    root: String,
    state: Value,
}

fn told(bundle: &Bundle) -> Vec<Told> {
    let text = fs::read_to_string(bundle.out().join("hooks")).unwrap();
    let one = |line: &str| {
        let mut fields = line.splitn(5, ' ').map(str::to_owned);
        let mut next = || fields.next().unwrap();
        let (kind, mounts, names, root) = (next(), next(), next(), next());
        Told { kind, mounts, names, root, state: serde_json::from_str(&next()).unwrap() }
    };
    text.lines().map(one).collect()
}

fn every_hook_runs_in_its_place_and_order() {
    let mut bundle = telling("echo program >> /out/hooks.order; echo ready; sleep 20");
    bundle.spec["annotations"] = json!({"a": "b"});
    let running = bundle.create().unwrap();
    let before: Vec<String> = told(&bundle).into_iter().map(|one| one.kind).collect();
    assert_eq!(before, KINDS[..3], "those of create, and nothing of start");
    running.start_until_ready();
    let (mounts, names) = (
        |of: &str| fs::read_link(format!("/proc/{of}/ns/mnt")),
        |of: &str| fs::read_link(format!("/proc/{of}/ns/uts")),
    );
    let pid = running.pid().to_string();
    let inside = (mounts(&pid).unwrap().display().to_string(), names(&pid).unwrap().display().to_string());
    let outside =
        (mounts("self").unwrap().display().to_string(), names("self").unwrap().display().to_string());
    let id = running.container.id().to_string();
    drop(running);
    let all = told(&bundle);
    assert_eq!(all.iter().map(|one| one.kind.as_str()).collect::<Vec<_>>(), KINDS);
    for one in &all {
        let in_container = matches!(one.kind.as_str(), "createContainer" | "startContainer");
        let expected = if in_container { &inside } else { &outside };
        assert_eq!((&one.mounts, &one.names), (&expected.0, &expected.1), "{}", one.kind);
        assert_eq!(one.root, if one.kind == "startContainer" { "container" } else { "host" }, "{}", one.kind);
        let (status, its_pid) = match one.kind.as_str() {
            "prestart" | "createRuntime" => ("creating", json!(pid.parse::<i32>().unwrap())),
            "createContainer" => ("creating", json!(1)),
            "startContainer" => ("created", json!(1)),
            "poststart" => ("running", json!(pid.parse::<i32>().unwrap())),
            _ => ("stopped", json!(0)),
        };
        assert_eq!((&one.state["status"], &one.state["pid"]), (&json!(status), &its_pid), "{}", one.kind);
        assert_eq!(one.state["id"], json!(id));
        assert_eq!(one.state["bundle"], json!(bundle.path()));
        assert_eq!(one.state["annotations"], json!({"a": "b"}));
        assert!(one.state["ociVersion"].is_string());
    }
}

fn hooks_run_in_a_user_namespace_too() {
    let mut bundle = telling("true");
    bundle.map_ids();
    let out = bundle.out().join("ids");
    fs::write(&out, "").unwrap();
    fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    add(
        &mut bundle,
        "createContainer",
        &format!("id -u >> {0}; cat /proc/self/uid_map >> {0}", out.display()),
    );
    add(&mut bundle, "startContainer", "id -u >> /out/ids");
    bundle.run();
    let ids = fs::read_to_string(&out).unwrap();
    assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["0", "0", "100000", "65536", "0"]);
    assert_eq!(told(&bundle).len(), 6);
}

fn a_hook_has_arguments_and_environment() {
    let mut bundle = Bundle::with_script("cat /out/told");
    let script = "echo $0 $1 A=$A HOME=$HOME $(ls /proc/self/fd | wc -l) $(pwd) >> /out/told";
    bundle.spec["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script, "name", "one"], "env": ["A=b=c", "PATH=/bin"]}]);
    bundle.spec["process"]["cwd"] = json!("/tmp");
    // Three streams and the folder that is listed: nothing of floe's own is handed on.
    assert_eq!(bundle.run(), "name one A=b=c HOME= 4 /tmp\n");
}

fn nothing_is_left(bundle: &Bundle) {
    assert!(bundle.store().list().unwrap().is_empty());
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(bundle.path().to_str().unwrap()), "{host}");
    let own = std::process::id();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
    assert_eq!(children, "", "no process is left");
}

fn a_hook_of_create_that_fails_ends_it() {
    for kind in &KINDS[..3] {
        let mut bundle = telling("echo runs");
        let third = bundle.out().join("third");
        add(&mut bundle, kind, "echo no luck >&2; exit 3");
        add(&mut bundle, kind, &format!("touch {}", third.display()));
        let error = bundle.refused();
        assert!(
            error.contains(&format!("{kind} hook /bin/sh: ended with exit status: 3: no luck")),
            "{error}"
        );
        assert_eq!(bundle.log(), "");
        assert!(!third.exists(), "those behind it do not run");
        let told = told(&bundle);
        assert_eq!(told.last().unwrap().kind, "poststop", "what was set up outside is to be taken back");
        assert_eq!(told.last().unwrap().state["status"], "stopped");
        nothing_is_left(&bundle);
    }
    let mut bundle = Bundle::new();
    bundle.spec["hooks"]["createContainer"] = json!([{"path": "/not/there"}]);
    let error = bundle.refused();
    assert!(error.contains("createContainer hook /not/there: cannot be executed: No such file"), "{error}");
}

fn a_hook_of_the_container_that_fails_at_start_ends_it() {
    let mut bundle = telling("echo runs");
    add(&mut bundle, "startContainer", "echo no luck >&2; exit 3");
    let running = bundle.create().unwrap();
    let error = full(&running.container.start().unwrap_err());
    assert!(error.contains("startContainer hook /bin/sh: ended with exit status: 3: no luck"), "{error}");
    assert_eq!(running.wait(), 1);
    assert_eq!(running.log(), "");
    assert_eq!(running.container.status().to_string(), "stopped");
    assert!(!told(&bundle).iter().any(|one| one.kind == "poststart"));
    let error = full(&running.container.start().unwrap_err());
    assert!(error.contains("it is stopped"), "{error}");
}

fn a_hook_after_start_that_fails_ends_the_container() {
    let mut bundle = telling("echo ready; sleep 20");
    add(&mut bundle, "poststart", "echo no luck >&2; exit 3");
    let running = bundle.create().unwrap();
    let error = full(&running.container.start().unwrap_err());
    assert!(error.contains("poststart hook /bin/sh: ended with exit status: 3: no luck"), "{error}");
    assert_eq!(running.wait(), 128 + 9);
    assert_eq!(running.container.status().to_string(), "stopped");
}

fn a_hook_after_the_end_that_fails_is_passed_over() {
    let mut bundle = telling("true");
    let second = bundle.out().join("second");
    bundle.spec["hooks"]["poststop"] = json!([hook("exit 3"), hook(&format!("touch {}", second.display()))]);
    let running = bundle.create().unwrap();
    running.container.start().unwrap();
    assert_eq!(running.wait(), 0);
    running.container.delete(false).unwrap();
    assert!(second.exists(), "the others run all the same");
    nothing_is_left(&bundle);
}

fn a_hook_that_takes_too_long_is_ended() {
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = Bundle::new();
        let mut slow = hook("exec sleep 20");
        slow["timeout"] = json!(1);
        bundle.spec["hooks"][kind] = json!([slow]);
        let start = Instant::now();
        let error = bundle.refused();
        assert!(error.contains(&format!("{kind} hook /bin/sh: took longer than 1 s")), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

fn a_hook_in_a_readonly_container_is_heard() {
    let mut bundle = Bundle::new();
    bundle.spec["root"]["readonly"] = json!(true);
    fs::create_dir(bundle.rootfs().join("out")).unwrap();
    bundle.spec["hooks"]["startContainer"] = json!([hook("touch /file || { echo readonly >&2; exit 4; }")]);
    let running = bundle.create().unwrap();
    let error = full(&running.container.start().unwrap_err());
    assert!(error.contains("readonly") && error.contains("exit status: 4"), "{error}");
    running.wait();
}
