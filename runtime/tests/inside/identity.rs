//! Users, groups and capabilities.

use serde_json::json;

use crate::helper;
use crate::support::Bundle;

pub const TESTS: &[(&str, fn())] = &[
    ("user_and_groups_are_the_configured_ones", user_and_groups_are_the_configured_ones),
    ("capabilities_are_the_configured_ones", capabilities_are_the_configured_ones),
    ("a_user_that_is_not_root_gets_ambient_ones", a_user_that_is_not_root_gets_ambient_ones),
    ("without_capabilities_none_is_left", without_capabilities_none_is_left),
    ("a_capability_that_floe_lacks_is_named", a_capability_that_floe_lacks_is_named),
    ("an_ordinary_user_can_reach_what_it_should", an_ordinary_user_can_reach_what_it_should),
];

fn field(log: &str, name: &str) -> u64 {
    let line =
        log.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {log}"));
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn user_and_groups_are_the_configured_ones() {
    let mut bundle =
        Bundle::with_script("id -u; id -g; id -G; echo $HOME; touch /out/mine; stat -c %u:%g /out/mine");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 2000]});
    assert_eq!(bundle.run(), "1000\n1001\n1001 5 2000\n/home/user\n1000:1001\n");
    bundle.spec["process"]["user"] = json!({"uid": 4711, "gid": 4711});
    bundle.script("id -G; echo $HOME");
    std::fs::remove_file(bundle.out().join("log")).unwrap();
    assert_eq!(bundle.run(), "4711\n/\n", "no group of the caller's is kept");
}

fn capabilities_are_the_configured_ones() {
    let mut bundle = Bundle::with_script("cat /proc/self/status");
    bundle.spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        // Not inheritable, so it can't be: `runc spec` writes such, and it is passed over.
        "ambient": ["CAP_KILL", "CAP_CHOWN"],
    });
    let log = bundle.run();
    assert_eq!(field(&log, "CapBnd:"), 1 << 5 | 1 | 1 << 13);
    assert_eq!(field(&log, "CapInh:"), 1 << 5);
    assert_eq!(field(&log, "CapAmb:"), 1 << 5);
    // root's permitted set would be the bounding one over execve(2), but for "no new privileges".
    assert_eq!(field(&log, "CapPrm:"), 1 << 5 | 1);
}

fn a_user_that_is_not_root_gets_ambient_ones() {
    let mut bundle = Bundle::with_script("cat /proc/self/status");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let kill = json!(["CAP_KILL"]);
    bundle.spec["process"]["capabilities"] =
        json!({"bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill});
    let log = bundle.run();
    for name in ["CapBnd:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&log, name), 1 << 5, "{name}");
    }
    bundle.spec["process"]["capabilities"]["ambient"] = json!([]);
    let log = bundle.run();
    assert_eq!(field(&log, "CapEff:"), 0, "without ambient ones an ordinary user has none");
}

fn without_capabilities_none_is_left() {
    let mut bundle = Bundle::with_script("cat /proc/self/status; mknod /out/node c 1 3 || echo refused");
    bundle.spec["process"]["capabilities"] = json!({});
    let log = bundle.run();
    for name in ["CapBnd:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&log, name), 0, "{name}");
    }
    assert!(log.ends_with("refused\n"), "{log}");
}

fn a_capability_that_floe_lacks_is_named() {
    let bundle = Bundle::new();
    let output = helper::output("without CAP_AUDIT_WRITE", &bundle);
    let error = String::from_utf8(output.stdout).unwrap();
    assert!(error.contains("lacks CAP_AUDIT_WRITE, and"), "{error}");
}

fn an_ordinary_user_can_reach_what_it_should() {
    let mut bundle = Bundle::with_script(
        "echo text > /dev/null && cat /dev/zero | head -c 4 | wc -c; touch /etc/new || echo no; pwd",
    );
    bundle.applet("head");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.spec["process"]["cwd"] = json!("/home/user");
    let log = bundle.run();
    assert!(log.starts_with("4\n") && log.ends_with("no\n/home/user\n"), "{log}");
}
