//! Maps of more ids than the user's own, through newuidmap(1) and newgidmap(1).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Place, said};
use crate::user::{UID, User};

/// The first of the ids that the user is given.
const GIVEN: u32 = 200_000;

/// The host's own files stay as they are: copies lie over them, for these calls alone.
fn ranges(place: &Place) -> String {
    assert!(
        ["/usr/bin/newuidmap", "/usr/bin/newgidmap"].iter().all(|tool| fs::exists(tool).unwrap()),
        "newuidmap and newgidmap are missing: run scripts/setup"
    );
    let (given, accounts) = (place.join("given"), place.join("accounts"));
    fs::write(&given, format!("{UID}:{GIVEN}:1000\n")).unwrap();
    // The tools want the user to have a name.
    let account = format!("floe-test:x:{UID}:{UID}::/nonexistent:/bin/sh\n");
    fs::write(&accounts, fs::read_to_string("/etc/passwd").unwrap() + &account).unwrap();
    fs::set_permissions(&accounts, fs::Permissions::from_mode(0o644)).unwrap();
    let bind = |file: &Path, over: &str| format!("mount --bind {} {over}", file.display());
    [bind(&given, "/etc/subuid"), bind(&given, "/etc/subgid"), bind(&accounts, "/etc/passwd")].join("; ")
}

fn map(config: &mut Value, first: u32, count: u32) {
    for key in ["uidMappings", "gidMappings"] {
        config["linux"][key] = json!([
            { "containerID": 0, "hostID": UID, "size": 1 }, { "containerID": 1, "hostID": first, "size": count },
        ]);
    }
}

#[test]
fn more_ids_are_mapped_by_the_tools() {
    let user = User::in_setting("more", ranges);
    let script =
        "id -u; id -g; id -G; grep -c . /proc/self/uid_map; cat /proc/self/setgroups; touch /tmp/file";
    let bundle = user.bundle(script, |config| {
        map(config, GIVEN, 1000);
        config["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7] });
        let mounts = config["mounts"].as_array_mut().unwrap();
        let devpts = mounts.iter_mut().find(|mount| mount["type"] == "devpts").unwrap();
        devpts["options"].as_array_mut().unwrap().push(json!("gid=5"));
    });
    fs::set_permissions(user.rootfs().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(user.run(&bundle), "5\n6\n6 7\n2\nallow\n");
    let file = fs::metadata(user.rootfs().join("tmp/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (GIVEN + 4, GIVEN + 5));

    // Root inside may be somebody else than the user outside, and is joined too.
    let name = user.place().name("web");
    let bundle = user.bundle("exec sleep 1000", |config| {
        for key in ["uidMappings", "gidMappings"] {
            config["linux"][key] = json!([{ "containerID": 0, "hostID": GIVEN, "size": 1000 }]);
        }
        config["root"]["readonly"] = json!(true);
    });
    for folder in ["home", "home/bundle", "home/bundle/rootfs"] {
        fs::set_permissions(user.place().join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    user.start(&bundle, &name);
    assert_eq!(user.ok(&["exec", &name, "sh", "-c", "id -u; stat -c %u /"]), "0\n65534\n");
    assert_eq!(user.ok(&["exec", "--user", "9", &name, "id", "-u"]), "9\n");
    user.ok(&["kill", &name, "KILL"]);
    user.wait_for_status(&name, "stopped");
    user.ok(&["delete", &name]);
}

#[test]
fn ids_that_are_not_the_users_are_refused() {
    let user = User::in_setting("notgiven", ranges);
    let name = user.place().name("web");
    let bundle = user.bundle("true", |config| map(config, GIVEN, 1001));
    let words = user.fails(&["run", "--bundle", &bundle, &name]);
    let wanted =
        ["linux.uidMappings", "1 200000 1001", "newuidmap", "/etc/subuid", "not allowed", "--add-subuids"];
    assert!(wanted.iter().all(|word| words.contains(word)), "{words}");
    let bundle = user.bundle("true", |config| {
        config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    });
    let words = user.fails(&["run", "--bundle", &bundle, &name]);
    assert!(words.contains("linux.gidMappings") && words.contains("newgidmap"), "{words}");
    assert_eq!(user.ok(&["list", "--quiet"]), "", "nothing is left");
}

#[test]
fn without_the_tools_their_names_are_told() {
    let user = User::new("notools").with_path("/nonexistent");
    let bundle = user.bundle("true", |config| map(config, GIVEN, 1000));
    let words = user.fails(&["run", "--bundle", &bundle, &user.place().name("web")]);
    assert!(words.contains("newuidmap") && words.contains("uidmap;"), "{words}");
    let bundle = user.bundle("echo ran", |_| {});
    assert_eq!(user.run(&bundle), "ran\n", "the own id needs no tool");
}

#[test]
fn other_groups_need_a_map() {
    let user = User::new("groups");
    let bundle = user.bundle("true", |config| config["process"]["user"]["additionalGids"] = json!([0]));
    let words = user.fails(&["run", "--bundle", &bundle, &user.place().name("web")]);
    assert!(words.contains("additionalGids") && words.contains("linux.gidMappings"), "{words}");
}

/// `hidepid` of proc(5): a user sees only processes that it could trace. Those of other ids in a namespace of its own
/// are among them.
#[test]
fn a_host_that_hides_processes_hides_no_container() {
    let user = User::in_setting("hidden", |place| {
        format!("{}; mount -t proc -o hidepid=2 proc /proc", ranges(place))
    });
    let alone = said(&mut user.command(&["sh", "-c", "ls -d /proc/1 || echo hidden"]));
    assert_eq!(alone.stdout, "hidden\n", "{alone:?}");
    let name = user.place().name("web");
    let bundle = user.bundle("exec sleep 1000", |config| {
        map(config, GIVEN, 1000);
        config["process"]["user"] = json!({ "uid": 5, "gid": 6 });
    });
    let started = user.call(&["run", "--detach", "--bundle", &bundle, &name]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let state = user.state(&name);
    assert_eq!(state["status"], "running", "{state}");
    assert_eq!(user.ok(&["exec", &name, "id", "-u"]), "5\n");
    assert_eq!(user.ok(&["list", "--quiet"]), format!("{name}\n"));
    assert!(user.ok(&["ps", "--format", "json", &name]).contains(&state["pid"].to_string()));
    user.ok(&["kill", &name, "KILL"]);
    user.wait_for_status(&name, "stopped");
    user.ok(&["delete", &name]);
}
