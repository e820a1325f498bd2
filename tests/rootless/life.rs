//! A container's life, from its making to its end.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use serde_json::json;

use crate::user::{UID, User, add_namespace, eventually, remove_namespace, status_of};

#[test]
fn an_ordinary_user_makes_joins_and_ends_a_container() {
    let user = User::new("life");
    let name = user.place().name("web");
    let bundle = user.bundle("echo made > /root/file; sleep 1000 & exec sleep 1000", |_| {});
    let create = user.floe(&["create", "--bundle", &bundle, &name]).status().unwrap();
    assert!(create.success());
    let state = user.state(&name);
    assert_eq!(state["status"], "created");
    let pid = state["pid"].as_i64().unwrap();
    let folder = fs::metadata(user.root()).unwrap();
    assert_eq!((folder.uid(), folder.permissions().mode() & 0o7777), (UID, 0o1700), "as XDG wants it");

    assert_eq!(user.ok(&["exec", &name, "id", "-u"]), "0\n", "it is joined before it starts");
    user.ok(&["start", &name]);
    eventually("it runs its program", || {
        user.ok(&["ps", "--format", "json", &name]).matches(',').count() == 1
            && user.state(&name)["status"] == "running"
    });
    let id = UID.to_string();
    assert_eq!(status_of(pid, "Uid"), [id.as_str(); 4].join(" "), "outside it is the user");
    let file = fs::metadata(user.rootfs().join("root/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (UID, UID), "what root inside makes is the user's outside");

    let told = user.ok(&[
        "exec",
        &name,
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; readlink -f /proc/1/root; ls /dev",
    ]);
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("0"));
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["0", &id, "1"]);
    assert!(told.contains("\nnull\n"), "{told}");
    assert_eq!(user.ok(&["list", "--quiet"]), format!("{name}\n"));

    assert!(user.fails(&["delete", &name]).contains("running"));
    user.ok(&["kill", "--all", &name, "KILL"]);
    user.wait_for_status(&name, "stopped");
    user.ok(&["delete", &name]);
    assert_eq!(user.ok(&["list", "--quiet"]), "");
}

#[test]
fn a_container_without_a_cgroup_ends_whole() {
    let user = User::new("whole");
    let name = user.place().name("web");
    user.start(&user.bundle("setsid sleep 1000 & setsid sleep 1000 & exec sleep 1000", |_| {}), &name);
    let inside = user.floe(&["exec", "--detach", &name, "sleep", "1000"]).status().unwrap();
    assert!(inside.success());
    let pids = || -> Vec<i64> { serde_json::from_str(&user.ok(&["ps", "--format", "json", &name])).unwrap() };
    eventually("all four are listed", || pids().len() == 4);
    let all = pids();
    let words = user.fails(&["pause", &name]);
    assert!(words.contains("needs a cgroup") && words.contains("Delegate=yes"), "{words}");
    user.ok(&["delete", "--force", &name]);
    assert!(
        all.iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()
                || status_of(*pid, "State") == "Z (zombie)")
    );
}

#[test]
fn a_container_in_the_hosts_pid_namespace_ends_whole_too() {
    let user = User::new("hostpid");
    let name = user.place().name("web");
    let bundle = user.bundle("setsid sleep 1000 & setsid sleep 1000 & exec sleep 1000", |config| {
        remove_namespace(config, "pid");
        // A new proc file system needs one; the host's is bound, as engines do it.
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/proc");
        mounts
            .push(json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }));
    });
    user.start(&bundle, &name);
    let pids = || -> Vec<i64> { serde_json::from_str(&user.ok(&["ps", "--format", "json", &name])).unwrap() };
    eventually("all three are listed", || pids().len() == 3);
    assert_eq!(user.ok(&["exec", &name, "id", "-u"]), "0\n");
    user.ok(&["delete", "--force", &name]);
}

#[test]
fn floes_own_process_that_joins_is_closed_to_the_container() {
    let user = User::new("shield");
    let name = user.place().name("web");
    // By its name before and after the look, since it becomes an ordinary process with execve(2). In the middle of that
    // the kernel opens its descriptors before it closes those that are not handed on: floe keeps none then that leads
    // anywhere.
    let watch = "name() { is=; read -r is < $1/comm; [ \"$is\" = floe:init ]; }; cd /proc; while :; do for p in [0-9]*; do \
                 if name $p; then echo met >> /met; for f in $p/fd/*; do \
                 if [ -d $f ] && name $p; then echo $f >> /open; fi; done; fi; done; done 2>/dev/null";
    user.start(&user.bundle(watch, |_| {}), &name);
    let met = || fs::read_to_string(user.rootfs().join("met")).unwrap_or_default().lines().count();
    eventually("it was met on its way", || {
        user.ok(&["exec", &name, "true"]);
        met() > 20
    });
    let open = fs::read_to_string(user.rootfs().join("open")).unwrap_or_default();
    assert_eq!(open, "", "it has directories of the host open, and they were seen");
    user.ok(&["delete", "--force", &name]);
}

#[test]
fn root_inside_has_no_rights_on_the_host() {
    let user = User::new("rights");
    let secret = user.place().join("secret");
    fs::write(&secret, "of root alone").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let script = "for try in 'cat /secret' 'chown 1 /mine' 'mknod /tmp/null c 1 3' 'chroot /proc/1/root true' \
                  'sh -c \"echo 0 > /proc/sys/kernel/sysrq\"' 'hostname here' 'mount -t tmpfs none /tmp'; do \
                  if eval $try 2>/dev/null; then echo yes $try; else echo no $try; fi; done";
    let bundle = user.bundle(&format!("touch /mine; {script}"), |config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/secret", "type": "bind", "source": secret, "options": ["bind"],
        }));
    });
    let told = user.run(&bundle);
    assert_eq!(told.lines().filter(|line| line.starts_with("no")).count(), 7, "{told}");
    // With all capabilities of its own namespace it may more there, and no more outside.
    let bundle = user.bundle(&format!("touch /mine; {script}"), |config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/secret", "type": "bind", "source": secret, "options": ["bind"],
        }));
        let all = json!([
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_MKNOD",
            "CAP_SYS_ADMIN",
            "CAP_SYS_CHROOT",
        ]);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = all.clone();
        }
    });
    let told = user.run(&bundle);
    for refused in ["cat /secret", "chown 1 /mine", "mknod /tmp/null", "sh -c"] {
        assert!(told.contains(&format!("no {refused}")), "{refused}: {told}");
    }
    for allowed in ["hostname here", "mount -t tmpfs"] {
        assert!(told.contains(&format!("yes {allowed}")), "{allowed}: {told}");
    }
}

#[test]
fn a_network_of_its_own_has_a_loopback_interface() {
    let user = User::new("network");
    let script = "ip -o -4 addr show; ls /sys/class/net; readlink /proc/self/ns/net";
    let bundle = user.bundle(script, |config| {
        add_namespace(config, "network");
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys");
        mounts.push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "noexec", "nodev"] }));
    });
    let told = user.run(&bundle);
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains("127.0.0.1/8"), "{told}");
    assert!(lines.contains(&"lo"), "its own sysfs shows its own devices: {told}");
    let hosts = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(lines.last().copied(), hosts.to_str());
}

#[test]
fn limits_of_a_process_and_its_oom_score_are_set() {
    let user = User::new("limits");
    let bundle = user.bundle("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj", |config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 99 }]);
        config["process"]["oomScoreAdj"] = json!(321);
    });
    assert_eq!(user.run(&bundle), "77\n99\n321\n");
    let name = user.place().name("web");
    let bundle = user.bundle("exec sleep 1000", |config| config["process"]["oomScoreAdj"] = json!(123));
    user.start(&bundle, &name);
    assert_eq!(user.ok(&["exec", &name, "cat", "/proc/self/oom_score_adj"]), "123\n");
    user.ok(&["delete", "--force", &name]);
    let bundle = user.bundle("true", |config| config["process"]["oomScoreAdj"] = json!(-321));
    let words = user.fails(&["run", "--bundle", &bundle, &name]);
    assert!(words.contains("process.oomScoreAdj") && words.contains("CAP_SYS_RESOURCE"), "{words}");
}

#[test]
fn a_hook_of_the_user_reaches_the_new_namespaces() {
    let user = User::new("hook");
    let seen = user.place().join("home/seen");
    // What sets up a user's network does this.
    let script = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/user /proc/$pid/ns/mnt > {}",
        seen.display()
    );
    let bundle = user.bundle("readlink /proc/self/ns/user; readlink /proc/self/ns/mnt", |config| {
        config["hooks"]["createRuntime"] = json!([{
            "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"],
        }]);
    });
    assert_eq!(user.run(&bundle), fs::read_to_string(&seen).unwrap());
    assert_eq!(fs::metadata(&seen).unwrap().uid(), UID);
}

#[test]
fn a_terminal_is_relayed_and_an_exec_has_its_own() {
    let user = User::new("terminal");
    let bundle = user.bundle("tty; test -t 1 && stat -c %u $(tty); ls /dev/console", |config| {
        config["process"]["terminal"] = json!(true);
    });
    let mut child = user.floe(&["run", "--bundle", &bundle, &user.place().name("once")]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(told.replace("\r\n", "\n"), "/dev/pts/0\n0\n/dev/console\n");

    let name = user.place().name("web");
    user.start(&user.bundle("exec sleep 1000", |_| {}), &name);
    assert_eq!(user.ok(&["exec", "--tty", &name, "tty"]), "/dev/pts/0\r\n");
    user.ok(&["delete", "--force", &name]);
}
