//! Containers as they are seen from within: made by the real runtime, in real namespaces, with a busybox in them.
//!
//! The test program is its own runtime: started as `init` it becomes a container's process, as the `floe` binary
//! does. That is why it has a `main` of its own. It needs root and a static busybox, and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

mod basics;
mod support;

use libtest_mimic::{Arguments, Trial};

fn main() {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "init") {
        floe_runtime::init_main();
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make containers and need root: run them with sudo"
    );
    let mut arguments = Arguments::from_args();
    // Containers are heavy, and two processors are few.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let tests = [basics::TESTS].concat();
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit();
}
