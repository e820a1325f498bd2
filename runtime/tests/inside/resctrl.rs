//! `linux.intelRdt` on a host whose processor has none of it, or that hasn't mounted it. What is written where it is there
//! is tested on a directory that looks like it (`runtime/src/resctrl/tests.rs`).

use serde_json::{Value, json};

use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[
    ("resctrl_that_is_not_there_is_refused", resctrl_that_is_not_there_is_refused),
    ("resctrl_what_cannot_be_is_refused_by_its_key", what_cannot_be_is_refused_by_its_key),
];

fn refusal(wanted: Value) -> String {
    let mut bundle = Bundle::with_script("true");
    bundle.spec["linux"]["intelRdt"] = wanted;
    let error = bundle.refused();
    assert_eq!(
        std::fs::read_dir(bundle.path().join("state")).map_or(0, Iterator::count),
        0,
        "nothing is left"
    );
    error
}

fn resctrl_that_is_not_there_is_refused() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (wanted, words) = match mounts.contains(" - resctrl ") {
        false => (json!({}), "linux.intelRdt is set, and no resctrl file system is mounted"),
        true => (json!({"closID": "floe-no-such-group"}), "linux.intelRdt.closID names"),
    };
    let error = refusal(wanted);
    assert!(error.contains(words), "{error}");
}

fn what_cannot_be_is_refused_by_its_key() {
    for (wanted, key) in [
        (json!({"closID": "../outside"}), "linux.intelRdt.closID"),
        (json!({"closID": ".."}), "linux.intelRdt.closID"),
        (json!({"memBwSchema": "L3:0=f"}), "linux.intelRdt.memBwSchema"),
        (json!({"memBwSchema": "MB:0=1\nL3:0=f"}), "linux.intelRdt.memBwSchema"),
        (json!({"schemata": ["L3:0=f", "a\nb"]}), "linux.intelRdt.schemata[1]"),
        (json!({"enableMonitoring": "yes"}), "linux.intelRdt.enableMonitoring"),
    ] {
        let error = refusal(wanted.clone());
        assert!(error.starts_with(&format!("{key} in ")), "{wanted}: {error}");
    }
}
