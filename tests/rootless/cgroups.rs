//! A cgroup that the user was given, in version 2: in a mount namespace where only the unified hierarchy is mounted.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::Place;
use crate::user::{UID, User, eventually};

/// As systemd delegates: `given` (below the test's own cgroup) is the user's, and each call is made in `shell` below it.
fn delegated(place: &Place, given: &str) -> String {
    let top = format!("/sys/fs/cgroup/{}", place.mark());
    let files = ["", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"];
    let owned: String = files.map(|file| format!("{top}{given}{file} ")).concat();
    format!(
        "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; \
         for one in $(cat /sys/fs/cgroup/cgroup.controllers); do \
             echo +$one > /sys/fs/cgroup/cgroup.subtree_control; done; \
         mkdir -p {top}/shell; chown {UID}:{UID} {owned}; echo $$ > {top}/shell/cgroup.procs"
    )
}

/// The test's own cgroup as this host shows it, wherever its unified hierarchy is mounted. Removed at the end.
struct Top(PathBuf);

impl Top {
    fn of(place: &Place) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let unified =
            mounts.lines().find(|line| line.contains(" cgroup2 ")).expect("a host without cgroup v2");
        Self(Path::new(unified.split(' ').nth(1).unwrap()).join(place.mark()))
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        eventually("the test's own cgroup is empty", || fs::remove_dir(self.0.join("shell")).is_ok());
        fs::remove_dir(&self.0).unwrap();
    }
}

fn cgroup_of(pid: &serde_json::Value) -> String {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    own.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn a_container_lives_in_what_the_user_was_given() {
    let user = User::in_setting("given", |place| delegated(place, ""));
    let top = Top::of(user.place());
    let name = user.place().name("web");
    user.start(&user.bundle("sleep 1000 & exec sleep 1000", |_| {}), &name);
    let state = user.state(&name);
    assert_eq!(cgroup_of(&state["pid"]), format!("/{}/{name}", user.place().mark()), "beside the caller's");
    let folder = top.0.join(&name);

    user.ok(&["pause", &name]);
    assert!(fs::read_to_string(folder.join("cgroup.events")).unwrap().contains("frozen 1"));
    assert_eq!(user.state(&name)["status"], "paused");
    user.ok(&["resume", &name]);
    assert_eq!(user.state(&name)["status"], "running");

    let told = user.ok(&["exec", &name, "sh", "-c", "cat /proc/self/cgroup /proc/1/cgroup | grep ^0::"]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines, ["0::/"; 2], "both are at the root of the cgroup namespace");
    eventually("both are listed", || {
        user.ok(&["ps", "--format", "json", &name]).trim().split(',').count() == 2
    });
    user.ok(&["kill", "--all", &name, "KILL"]);
    user.wait_for_status(&name, "stopped");
    user.ok(&["delete", &name]);
    assert!(!folder.exists());

    // The tree of this host may have no controllers; then the limit says so, and nothing is left.
    let controllers = fs::read_to_string(top.0.join("cgroup.controllers")).unwrap();
    let bundle =
        user.bundle("sleep 1000", |config| config["linux"]["resources"] = json!({ "pids": { "limit": 9 } }));
    if controllers.contains("pids") {
        user.start(&bundle, &name);
        limits_hold(&user, &bundle, &name, &folder);
    } else {
        let said = user.call(&["run", "--bundle", &bundle, &name]);
        assert!(said.code == Some(1) && said.stderr.contains("controller `pids`"), "{said:?}");
    }
    assert!(!folder.exists());
}

/// Limits of a delegated cgroup whose controllers are handed down: they are written, they apply, and they change.
fn limits_hold(user: &User, bundle: &str, name: &str, folder: &Path) {
    let value = |file: &str| fs::read_to_string(folder.join(file)).unwrap().trim().to_owned();
    assert_eq!(value("pids.max"), "9");
    let crowd = user.call(&["exec", name, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done"]);
    assert!(crowd.stderr.contains("fork"), "the tenth process is one too many: {crowd:?}");
    user.ok(&["update", "--pids-limit", "20", "--memory", "32m", "--memory-swap", "32m", name]);
    assert_eq!((value("pids.max"), value("memory.max")), ("20".to_owned(), (32 << 20).to_string()));
    assert_eq!(value("memory.swap.max"), "0");
    let glutton = user.call(&["exec", name, "tail", "/dev/zero"]);
    assert_eq!(glutton.code, Some(128 + 9), "ended at the memory limit: {glutton:?}");
    let stats: serde_json::Value = serde_json::from_str(&user.ok(&["events", "--stats", name])).unwrap();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 32 << 20, "{stats}");
    user.ok(&["delete", "--force", name]);
    assert!(!folder.exists(), "{bundle}");
}

#[test]
fn the_callers_own_cgroup_is_enough() {
    let user = User::in_setting("own", |place| delegated(place, "/shell"));
    let _top = Top::of(user.place());
    let name = user.place().name("web");
    user.start(&user.bundle("exec sleep 1000", |_| {}), &name);
    let state = user.state(&name);
    assert_eq!(
        cgroup_of(&state["pid"]),
        format!("/{}/shell/{name}", user.place().mark()),
        "below the caller's"
    );
    user.ok(&["pause", &name]);
    user.ok(&["delete", "--force", &name]);
}

#[test]
fn a_cgroup_of_somebody_else_is_no_place() {
    // Nothing of it is the user's.
    let user =
        User::in_setting("none", |place| delegated(place, "").replace(&format!("chown {UID}:{UID}"), "true"));
    let _top = Top::of(user.place());
    let name = user.place().name("web");
    user.start(&user.bundle("exec sleep 1000", |_| {}), &name);
    let state = user.state(&name);
    assert_eq!(
        cgroup_of(&state["pid"]),
        format!("/{}/shell", user.place().mark()),
        "it stays where the caller is"
    );
    assert!(user.fails(&["pause", &name]).contains("needs a cgroup"));
    user.ok(&["delete", "--force", &name]);
}
