//! Root of a user namespace that somebody else made: `unshare`, an engine's namespace, a container that runs containers.
//! Its user is 0, and it is not the host's root.

use serde_json::{Value, json};

use crate::support::said;
use crate::user::{User, eventually};

/// A configuration for root, without what needs the host's.
fn for_root(config: &mut Value) {
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    for mount in mounts.iter_mut().filter(|mount| mount["type"] == "devpts") {
        mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    }
}

/// A shell script in which `floe` is the program and `$name` a container's, run as root of a new user namespace.
#[track_caller]
fn unshared(user: &User, script: &str) -> String {
    let (floe, name) = (user.place().join("floe"), user.place().name("web"));
    let script = format!("set -e; floe() {{ {} \"$@\"; }}; name={name}; {script}", floe.display());
    let said =
        said(&mut user.command(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script]));
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout
}

#[test]
fn root_of_a_user_namespace_runs_a_configuration_for_root() {
    let user = User::new("nested");
    let script = "id -u; echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls /sys/class/net; readlink /proc/self/ns/user";
    let bundle = user.bundle_of(&["spec"], script, for_root);
    let told = unshared(&user, &format!("readlink /proc/self/ns/user; floe run --bundle {bundle} $name"));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[1..4], ["0", "3", "lo"], "{told}");
    assert_eq!(lines[0], lines[4], "it makes none of its own");
}

#[test]
fn its_containers_live_like_others() {
    let user = User::new("nestedlife");
    let bundle = user.bundle_of(&["spec"], "exec sleep 1000", for_root);
    let told = unshared(
        &user,
        &format!(
            "floe run --detach --bundle {bundle} $name >/dev/null 2>&1; floe exec $name id -u; floe list --quiet; \
             floe ps --format json $name; floe kill $name KILL; \
             while [ $(floe state $name | grep -c stopped) = 0 ]; do sleep 0.1; done; floe delete $name; floe list --quiet"
        ),
    );
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..2], ["0", &user.place().name("web")], "{told}");
    assert!(lines[2].starts_with('[') && lines.len() == 3, "{told}");
    eventually("the state is the user's", || user.root().exists());
}

#[test]
fn a_user_namespace_in_it_maps_what_is_mapped_there() {
    let user = User::new("nestedmap");
    let bundle = user.bundle_of(&["spec"], "cat /proc/self/uid_map", |config| {
        for_root(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        for key in ["uidMappings", "gidMappings"] {
            config["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
    });
    let told = unshared(&user, &format!("floe run --bundle {bundle} $name"));
    assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
}
