//! What is said when something can't be done: one line, the thing, what to do, the right status.

use std::fs;

use serde_json::{Value, json};

use crate::bundle;
use crate::stage::{Stage, finish};
use crate::support::copy_program;

#[test]
fn wrong_words_are_a_usage_error() {
    let stage = Stage::new();
    for words in
        [vec![], vec!["fly"], vec!["start"], vec!["list", "--nonsense"], vec!["list", "--format", "xml"]]
    {
        let done = stage.call(&words);
        assert_eq!(done.code(), 2, "{words:?}: {done:?}");
    }
    for (words, flag) in [
        (vec!["create", "--bundle"], "--bundle"),
        (vec!["exec", "--cwd"], "--cwd"),
        (vec!["run", "--pid-file"], "--pid-file"),
    ] {
        let done = stage.call(&words);
        assert_eq!(done.code(), 2);
        assert!(done.stderr.contains(&format!("flag needs an argument: {flag}")), "{done:?}");
    }
    assert!(stage.ok(&["--version"]).starts_with("floe version "));
    let features: Value = serde_json::from_str(&stage.ok(&["features"])).unwrap();
    assert_eq!(features["ociVersionMax"], floe_runtime::OCI_VERSION);
    assert!(stage.ok(&["--help"]).contains("create"));
}

#[test]
fn what_does_not_exist_is_named() {
    let stage = Stage::new();
    for verb in ["start", "state", "kill", "delete", "pause", "resume", "ps"] {
        let done = stage.call(&[verb, "nobody"]);
        assert_eq!((done.code(), done.stderr.lines().count()), (1, 1), "{verb}: {done:?}");
        assert!(done.stderr.contains("container nobody does not exist"), "{verb}: {done:?}");
    }
    stage.ok(&["delete", "--force", "nobody"]);
    let words = stage.fails(&["create", "-b", "/nonexistent", "web"]);
    assert!(words.contains("/nonexistent") && words.lines().count() == 1, "{words}");
    let empty = stage.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let words = stage.fails(&["create", "-b", empty.to_str().unwrap(), "web"]);
    assert!(words.contains("config.json"), "{words}");
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "true");
    for name in ["..", ".", "a/b", "../escape", "a b", ""] {
        let words = stage.fails(&["create", "-b", bundle.to_str().unwrap(), name]);
        assert!(words.contains("name"), "{name:?}: {words}");
    }
}

#[test]
fn a_configuration_that_cannot_be_met_is_refused_with_its_key() {
    let stage = Stage::new();
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 9] = [
        ("process.args", |config| config["process"]["args"] = json!([])),
        ("process.cwd", |config| config["process"]["cwd"] = json!("tmp")),
        ("root", |config| drop(config.as_object_mut().unwrap().remove("root"))),
        ("linux.seccomp.defaultAction", |config| {
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_NOTIFY" });
        }),
        ("process.apparmorProfile", |config| config["process"]["apparmorProfile"] = json!("strict")),
        ("process.selinuxLabel", |config| config["process"]["selinuxLabel"] = json!("a:b:c:d")),
        ("linux.namespaces", |config| {
            let twice = json!({ "type": "uts" });
            config["linux"]["namespaces"].as_array_mut().unwrap().push(twice);
        }),
        ("linux.cgroupsPath", |config| config["linux"]["cgroupsPath"] = json!("/../../x")),
        ("hostname", |config| {
            config["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .retain(|namespace| namespace["type"] != "uts");
        }),
    ];
    for (key, change) in cases {
        let bundle = bundle::with(&stage, change);
        let done = stage.call(&["create", "-b", bundle.to_str().unwrap(), &stage.name()]);
        assert_eq!((done.code(), done.stderr.lines().count()), (1, 1), "{key}: {done:?}");
        assert!(done.stderr.contains(key), "{key}: {done:?}");
    }
    let bundle = bundle::shell(&stage, "true");
    fs::write(bundle.join("config.json"), "{ \"root\": ").unwrap();
    let words = stage.fails(&["create", "-b", bundle.to_str().unwrap(), &stage.name()]);
    assert!(words.contains("config.json") && words.contains("line 1"), "{words}");
}

#[test]
fn a_creation_that_fails_leaves_nothing() {
    let stage = Stage::new();
    let no_program = bundle::with(&stage, |config| config["process"]["args"] = json!(["/bin/nothing"]));
    let no_source = bundle::with(&stage, |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/x", "type": "bind", "source": "/nonexistent/source", "options": ["bind"] }));
    });
    let no_limit =
        bundle::with(&stage, |config| config["linux"]["resources"]["cpu"] = json!({ "cpus": "4000" }));
    for (bundle, word) in
        [(no_program, "/bin/nothing"), (no_source, "/nonexistent/source"), (no_limit, "4000")]
    {
        let done = stage.call(&["create", "-b", bundle.to_str().unwrap(), &stage.name()]);
        assert!(
            done.code() == 1 && done.stderr.contains(word) && done.stderr.lines().count() == 1,
            "{done:?}"
        );
        assert_eq!(stage.ok(&["list", "-q"]), "");
    }
}

#[test]
fn the_log_has_the_shape_that_engines_read() {
    let stage = Stage::new();
    let log = stage.path().join("log.json");
    let mut call = stage.floe(&["--log", log.to_str().unwrap(), "--log-format", "json", "start", "nobody"]);
    assert_eq!(finish(&mut call).code(), 1);
    let text = fs::read_to_string(&log).unwrap();
    let entry: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(entry["level"], "error");
    assert!(entry["msg"].as_str().unwrap().contains("nobody does not exist"));
    assert!(entry["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn debug_tells_more_on_stderr_and_in_the_log() {
    let stage = Stage::new();
    let log = stage.path().join("log");
    let words = ["--log", log.to_str().unwrap(), "delete", "--force", "nobody"];
    let quiet = stage.call(&words);
    assert_eq!((quiet.code(), quiet.stderr.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
    let more = stage.call(&[&["--debug"][..], &words].concat());
    let said = "container nobody does not exist";
    assert!(more.code() == 0 && more.stderr.contains(said), "{more:?}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("level=debug") && text.contains(said), "{text}");
}

#[test]
fn an_ordinary_user_is_told_to_become_root() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "true");
    stage.ok(&["list"]);
    // The binary and the bundle have to be within reach for the message to be about the right thing.
    let copy = stage.path().join("floe");
    copy_program(std::path::Path::new(env!("CARGO_BIN_EXE_floe")), &copy);
    fs::set_permissions(stage.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.arg("--root").arg(stage.root()).args(["create", "-b", bundle.to_str().unwrap(), "web"]);
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let done = finish(&mut command);
    assert!(done.code() == 1 && done.stderr.contains("root"), "{done:?}");
}

#[test]
fn an_existing_configuration_is_not_overwritten() {
    let stage = Stage::new();
    let bundle = bundle::shell(&stage, "true");
    let before = fs::read(bundle.join("config.json")).unwrap();
    let words = stage.fails(&["spec", "--bundle", bundle.to_str().unwrap()]);
    assert!(words.contains("config.json") && words.contains("exists"), "{words}");
    assert_eq!(fs::read(bundle.join("config.json")).unwrap(), before);
}
