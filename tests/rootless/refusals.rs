//! What an ordinary user cannot have is refused in words that say what to do.

use serde_json::json;

use crate::user::User;

#[test]
fn a_configuration_for_root_is_refused() {
    let user = User::new("plain");
    let bundle = user.bundle_of(&["spec"], "true", |_| {});
    let words = user.fails(&["run", "--bundle", &bundle, &user.place().name("web")]);
    assert!(words.contains("linux.namespaces") && words.contains("floe spec --rootless"), "{words}");
    assert_eq!(user.ok(&["list", "--quiet"]), "", "nothing is left");
}

#[test]
fn without_a_cgroup_limits_are_refused_by_their_keys() {
    let user = User::new("nolimits");
    let name = user.place().name("web");
    for (limits, key) in [
        (json!({ "memory": { "limit": 1 << 24 } }), "linux.resources.memory"),
        (json!({ "pids": { "limit": 10 } }), "linux.resources.pids"),
        (json!({ "cpu": { "shares": 100 } }), "linux.resources.cpu"),
    ] {
        let bundle = user.bundle("true", |config| config["linux"]["resources"] = limits);
        let words = user.fails(&["run", "--bundle", &bundle, &name]);
        assert!(words.contains(key) && words.contains("Delegate=yes"), "{words}");
    }
    // Device rules are no limit: nobody makes devices there.
    let bundle = user.bundle("echo ran", |config| {
        config["linux"]["resources"] =
            json!({ "devices": [{ "allow": false, "access": "rwm" }], "pids": { "limit": -1 } });
    });
    assert_eq!(user.run(&bundle), "ran\n");
}

#[test]
fn a_cgroup_that_is_named_has_to_be_the_users() {
    let user = User::new("named");
    let path = format!("/{}", user.place().name("cgroup"));
    let bundle = user.bundle("true", |config| config["linux"]["cgroupsPath"] = json!(path));
    let words = user.fails(&["run", "--bundle", &bundle, &user.place().name("web")]);
    assert!(words.contains("mkdir") && words.contains(&path) && words.contains("ordinary user"), "{words}");
}

#[test]
fn without_a_folder_of_the_users_the_state_directory_is_named() {
    let user = User::new("noxdg");
    let mut command = user.floe(&["list"]);
    command.env_remove("XDG_RUNTIME_DIR");
    let said = crate::support::said(&mut command);
    assert_eq!(said.code, Some(1));
    // Root's own containers may be there already, whose folder is closed to others.
    assert!(said.stderr.contains("/run/floe") && said.stderr.contains("ordinary user"), "{}", said.stderr);
}
