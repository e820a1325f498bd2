//! Containers as they are seen from within: made by the real runtime, in real namespaces, with a busybox in them.
//!
//! The test program is its own runtime: started as `init` it becomes a container's process, as the `floe` binary
//! does. That is why it has a `main` of its own. It needs root and a static busybox, and says so.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

mod agent;
mod basics;
mod deaths;
mod factory;
mod filesystem;
mod helper;
mod hooks;
mod hostile;
mod identity;
mod inherited;
mod joining;
mod labels;
mod mounts;
mod namespaces;
mod native;
mod network;
mod protection;
mod resctrl;
mod restoring;
mod scheduling;
mod seccomp;
mod support;
mod terminal;
mod users;

use libtest_mimic::{Arguments, Trial};

fn main() {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "init") {
        floe_runtime::init_main();
    }
    if let Some(helper) = helper::asked_for() {
        return helper::run(helper);
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make containers and need root: run them with sudo"
    );
    let mut arguments = Arguments::from_args();
    // A descriptor that one test leaves open on purpose must not be seen by another's container.
    arguments.test_threads = Some(1);
    let tests = [
        basics::TESTS,
        deaths::TESTS,
        factory::TESTS,
        filesystem::TESTS,
        hooks::TESTS,
        hostile::TESTS,
        identity::TESTS,
        inherited::TESTS,
        joining::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        native::TESTS,
        network::TESTS,
        labels::TESTS,
        protection::TESTS,
        resctrl::TESTS,
        restoring::TESTS,
        scheduling::TESTS,
        seccomp::TESTS,
        terminal::TESTS,
        users::TESTS,
    ];
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    libtest_mimic::run(&arguments, tests.concat().iter().map(trial).collect()).exit();
}
