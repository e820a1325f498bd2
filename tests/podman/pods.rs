//! Pods: containers that share namespaces with one of podman's own.

use std::collections::BTreeSet;

use crate::engine::{IMAGE, Podman};
use crate::support::calls::eventually;

#[test]
fn containers_of_a_pod_share_its_namespaces() {
    let podman = Podman::new();
    let parent = podman.cgroup_parent();
    let flags = ["--name", "pod", "--network", "none", "--cgroup-parent", &parent];
    let infra = ["--infra-image", IMAGE, "--infra-command", "sleep 1000"];
    podman.ok(["pod", "create"].iter().chain(&flags).chain(&infra));
    for name in ["one", "two"] {
        podman.ok(["run", "--detach", "--pod", "pod", "--name", name, IMAGE, "sleep", "1000"]);
    }
    let namespaces = |name: &str| {
        let script = "for kind in ipc net uts pid mnt; do readlink /proc/self/ns/$kind; done";
        let text = podman.ok(["exec", name, "sh", "-c", script]);
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (one, two) = (namespaces("one"), namespaces("two"));
    let shared: Vec<_> = one.intersection(&two).map(|name| name.split(':').next().unwrap()).collect();
    assert_eq!(shared, ["ipc", "net", "uts"], "{one:?} {two:?}");

    // What one opens on the loopback device, the other reaches.
    podman.ok(["exec", "--detach", "one", "sh", "-c", "echo over loopback | nc -l -p 8000"]);
    eventually("the other one is reached", || {
        podman.call(["exec", "two", "nc", "127.0.0.1", "8000"]).stdout == "over loopback\n"
    });

    podman.ok(["pod", "pause", "pod"]);
    assert_eq!((podman.status("one"), podman.status("two")), ("paused".to_owned(), "paused".to_owned()));
    podman.ok(["pod", "unpause", "pod"]);
    podman.ok(["pod", "stop", "--time", "0", "pod"]);
    assert_eq!(podman.status("one"), "exited");
    podman.ok(["pod", "start", "pod"]);
    assert_eq!(podman.status("two"), "running");
    let stats = podman.ok(["pod", "stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}}", "pod"]);
    assert!(stats.lines().any(|line| line == "one 1"), "{stats}");
    podman.ok(["pod", "rm", "--force", "--time", "0", "pod"]);
}
