//! In a guest with a stock Debian kernel, for what the kernel of the machine that tests may not have. `tests/vm/image`
//! builds the guest, each job in `tests/vm/jobs` is a script that runs there as root, and says what it found wrong.
//!
//! The long ones run the test programs of this machine there ([`built`]).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "vm/built.rs"]
mod built;
#[path = "vm/machine.rs"]
mod machine;

use machine::Machine;

#[test]
fn cgroup_version_2_with_every_controller() {
    Machine::new("cgroup2").run();
}

#[test]
fn apparmor_profiles() {
    Machine::new("apparmor").run();
}

#[test]
fn scopes_of_systemd() {
    Machine::new("systemd").booted_by_systemd().run();
}

#[test]
fn version_1_with_what_only_it_has() {
    Machine::new("cgroup1").run();
}

#[test]
fn weights_of_disks() {
    Machine::new("weights").run();
}

#[test]
#[ignore = "a guest that is emulated: half a minute; make test-long"]
fn long_a_named_hierarchy_alone() {
    Machine::new("named").run();
}

#[test]
#[ignore = "a guest that is emulated: half a minute; make test-long"]
fn long_file_systems_that_are_closed_to_root() {
    Machine::new("squashed").run();
}

/// The systemd driver for an ordinary user.
#[test]
#[ignore = "a guest that is emulated: a minute; make test-long"]
fn long_scopes_of_a_users_systemd() {
    Machine::new("user").booted_by_systemd().run();
}

/// Made by the library, and seen from within.
#[test]
#[ignore = "a guest that is emulated: eight minutes; make test-long"]
fn long_inside_on_version_2() {
    Machine::new("programs").large(1800, 2048).with_programs(&["inside"]).run();
}

/// The verbs, the freezer and the limits.
#[test]
#[ignore = "a guest that is emulated: some minutes; make test-long"]
fn long_verbs_on_version_2() {
    Machine::new("programs").large(1800, 2048).with_programs(&["oci_verbs", "cgroup2"]).run();
}

/// Checkpoints and restores as root with every right, with that kernel's own CRIU.
#[test]
#[ignore = "a guest that is emulated: some minutes; make test-long"]
fn long_checkpoints_on_version_2() {
    let programs = ["memory_limit", "process_tree", "stdio", "redis_rounds"];
    Machine::new("programs").large(1800, 3072).with_programs(&programs).run();
}

/// An ordinary user, whose delegated cgroup has controllers.
#[test]
#[ignore = "a guest that is emulated: some minutes; make test-long"]
fn long_rootless_on_version_2() {
    Machine::new("programs").large(1800, 2048).with_programs(&["rootless"]).run();
}

/// What changed between two dumps, which only some kernels track.
#[test]
#[ignore = "a guest that is emulated: two minutes; make test-long"]
fn long_dumps_in_several_rounds() {
    Machine::new("rounds").run();
}
