//! `-it`, on a terminal of the test's own.

use crate::engine::{IMAGE, Podman};
use crate::support::calls::wait;
use crate::support::terminal::{SCRIPT, Session, converse};

#[test]
fn run_on_a_terminal() {
    let podman = Podman::new();
    converse(podman.command(podman.run_arguments(["--rm", "-it", IMAGE, "sh", "-c", SCRIPT])));
}

#[test]
fn exec_on_a_terminal() {
    let podman = Podman::new();
    podman.start("web", &[], "sleep 1000");
    converse(podman.command(["exec", "-it", "web", "sh", "-c", SCRIPT]));
}

#[test]
fn control_c_ends_what_is_in_the_foreground() {
    let podman = Podman::new();
    let script = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let command = podman.command(podman.run_arguments(["--rm", "-it", IMAGE, "sh", "-c", script]));
    let mut session = Session::begin(command, 24, 80);
    session.until("ready\n");
    session.type_in("\x03");
    session.until("interrupted\n");
    assert_eq!(wait(&mut session.child).code(), Some(4));
}
