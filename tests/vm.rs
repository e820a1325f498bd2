//! In a guest with a stock Debian kernel, for what the kernel of the machine that tests may not have. `tests/vm/image`
//! builds the guest, each job in `tests/vm/jobs` is a script that runs there as root, and says what it found wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

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

/// The systemd driver for an ordinary user.
#[test]
#[ignore = "a guest that is emulated: a minute; make test-long"]
fn long_scopes_of_a_users_systemd() {
    Machine::new("user").booted_by_systemd().run();
}
