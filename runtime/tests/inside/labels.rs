//! Labels of security modules. That a process really gets one is seen where there is a module: in a guest.

use serde_json::json;

use crate::support::{Bundle, full};

pub const TESTS: &[(&str, fn())] = &[
    ("labels_a_profile_that_cannot_be_given_is_refused", a_profile_that_cannot_be_given_is_refused),
    ("labels_a_context_that_cannot_be_given_is_refused", a_context_that_cannot_be_given_is_refused),
    ("labels_unconfined_runs_everywhere", unconfined_runs_everywhere),
    ("labels_a_process_that_joins_asks_for_its_own", a_process_that_joins_asks_for_its_own),
];

fn enabled(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.starts_with(['Y', '0', '1']))
}

/// Why a profile that nobody has loaded is refused on this host.
fn reason() -> &'static str {
    match enabled("/sys/module/apparmor/parameters/enabled") {
        true => r#"process.apparmorProfile "floe-no-such-profile" is not loaded"#,
        false => r#"process.apparmorProfile is "floe-no-such-profile", and AppArmor is not enabled"#,
    }
}

fn a_profile_that_cannot_be_given_is_refused() {
    let mut bundle = Bundle::with_script("true");
    bundle.spec["process"]["apparmorProfile"] = json!("floe-no-such-profile");
    let error = bundle.refused();
    assert!(error.contains(reason()), "{error}");
}

fn a_context_that_cannot_be_given_is_refused() {
    let mut bundle = Bundle::with_script("true");
    bundle.spec["process"]["selinuxLabel"] = json!("no_u:such_r:label_t:s0");
    let error = bundle.refused();
    let words = match enabled("/sys/fs/selinux/enforce") {
        true => "set process.selinuxLabel to",
        false => r#"process.selinuxLabel is "no_u:such_r:label_t:s0", and SELinux is not enabled"#,
    };
    assert!(error.contains(words), "{error}");
}

fn unconfined_runs_everywhere() {
    let mut bundle = Bundle::with_script("echo here");
    bundle.spec["process"]["apparmorProfile"] = json!("unconfined");
    assert_eq!(bundle.run(), "here\n");
}

fn a_process_that_joins_asks_for_its_own() {
    let bundle = Bundle::with_script("echo ready; sleep 20");
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let mut process = running.container.config().process.clone();
    process.apparmor_profile = Some("floe-no-such-profile".to_owned());
    let options = floe_runtime::ExecOptions::new(process);
    let error = full(&running.container.exec(options).unwrap_err());
    assert!(error.contains(reason()), "{error}");
}
