//! What a container may, has and sees.

use std::fs;

use crate::engine::{IMAGE, Podman};

#[test]
fn user_namespaces() {
    let podman = Podman::new();
    let flags = ["--uidmap", "0:200000:2000", "--gidmap", "0:300000:2000"];
    let maps = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '";
    let script = format!("id -u; touch /tmp/own; stat -c '%u %g' /tmp/own /bin/sh; {maps}");
    assert_eq!(podman.shell(&flags, &script), "0\n0 0\n0 0\n 0 200000 2000\n 0 300000 2000\n");
    podman.start("first", &flags, "sleep 1000");
    assert_eq!(podman.shell(&["--userns", "container:first"], maps), " 0 200000 2000\n 0 300000 2000\n");
    assert_eq!(podman.ok(["exec", "first", "sh", "-c", maps]), " 0 200000 2000\n 0 300000 2000\n");
    // On the host it is that user's process.
    let pid = podman.inspect("first")["State"]["Pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t200000\t200000\t200000\t200000\n"), "{status}");
}

#[test]
fn a_read_only_root_and_what_may_be_written_all_the_same() {
    let podman = Podman::new();
    let script = "touch /x 2>/dev/null || echo refused; touch /tmp/y && echo tmp; \
        touch /scratch/z && stat -f -c %T /scratch; grep ' /scratch ' /proc/self/mounts | cut -d ' ' -f 4";
    let flags = ["--read-only", "--tmpfs", "/scratch:size=1m,mode=1770,noexec"];
    let text = podman.shell(&flags, script);
    let (lines, options) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(lines, "refused\ntmp\ntmpfs");
    for option in ["noexec", "nosuid", "nodev", "size=1024k", "mode=1770"] {
        assert!(options.split(',').any(|each| each == option), "{option} in {options}");
    }
}

#[test]
fn volumes() {
    let podman = Podman::new();
    let shared = podman.place().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-host"), "host\n").unwrap();
    let path = shared.to_str().unwrap();
    let (ro, rw) = (format!("{path}:/ro:ro"), format!("{path}:/rw:rw,noexec"));
    let script = "cat /ro/from-host; touch /ro/x 2>/dev/null || echo refused; echo inside >/rw/from-inside; \
        cp /bin/true /rw/true; /rw/true 2>/dev/null || echo noexec; echo kept >/named/file";
    let text = podman.shell(&["--volume", &ro, "--volume", &rw, "--volume", "named:/named"], script);
    assert_eq!(text, "host\nrefused\nnoexec\n");
    assert_eq!(fs::read_to_string(shared.join("from-inside")).unwrap(), "inside\n");
    assert_eq!(podman.shell(&["--volume", "named:/n:ro"], "cat /n/file"), "kept\n");
    podman.ok(["volume", "rm", "named"]);
    // A volume of one file, and one below another.
    let file = format!("{path}/from-host:/scratch/file:ro");
    let text = podman.shell(&["--tmpfs", "/scratch", "--volume", &file], "cat /scratch/file; ls /scratch");
    assert_eq!(text, "host\nfile\n");
}

#[test]
fn capabilities_and_privileges() {
    let podman = Podman::new();
    let show = "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | tr -d '\\t'";
    let kill_only = "CapEff:0000000000000020\nCapBnd:0000000000000020\nNoNewPrivs:1\n";
    let flags = ["--cap-drop", "all", "--cap-add", "kill", "--security-opt", "no-new-privileges"];
    assert_eq!(podman.shell(&flags, show), kill_only);
    let dropped = podman.shell(&["--cap-drop", "chown"], "chown 5 /tmp 2>/dev/null || echo refused");
    assert_eq!(dropped, "refused\n");
    // An ordinary user has none in effect.
    assert!(podman.shell(&["--user", "5"], show).starts_with("CapEff:0000000000000000\n"));
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let privileged = podman.shell(&["--privileged"], show);
    assert!(privileged.starts_with(&format!("CapEff:{own}\n")), "all that podman has: {privileged}");
}

#[test]
fn seccomp_profiles() {
    let podman = Podman::new();
    // By default podman's own profile is there, a filter.
    let filters =
        "grep Seccomp: /proc/self/status; mkdir /tmp/made && echo made; uname -r >/dev/null && echo named";
    assert_eq!(podman.shell(&[], filters), "Seccomp:\t2\nmade\nnamed\n");
    let unconfined = podman.shell(&["--security-opt", "seccomp=unconfined"], filters);
    assert_eq!(unconfined, "Seccomp:\t0\nmade\nnamed\n");
    let profile = podman.place().join("profile.json");
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }] }"#;
    fs::write(&profile, text).unwrap();
    let option = format!("seccomp={}", profile.display());
    let done = podman.run(["--security-opt", &option, IMAGE, "mkdir", "/tmp/made"]);
    assert_eq!(done.code(), 1);
    assert!(done.stderr.contains("No space left on device"), "the number that the profile gives: {done:?}");
    // It is the same for who joins.
    podman.start("web", &["--security-opt", &option], "sleep 1000");
    assert!(podman.call(["exec", "web", "mkdir", "/tmp/x"]).stderr.contains("No space left"));
}

#[test]
fn what_is_the_processs_own() {
    let podman = Podman::new();
    let flags = [
        "--hostname",
        "named",
        "--user",
        "5:6",
        "--group-add",
        "7",
        "--workdir",
        "/tmp",
        "--env",
        "A=b",
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "nproc=1024:1024",
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--add-host",
        "other:192.0.2.1",
        "--shm-size",
        "2m",
        "--oom-score-adj",
        "500",
        "--device",
        "/dev/zero:/dev/nought:r",
    ];
    let script = "hostname; id -u; id -G; pwd; echo $A; ulimit -Sn; ulimit -Hn; \
        cat /proc/sys/net/ipv4/ip_default_ttl; grep -c other /etc/hosts; df -k /dev/shm | tail -n 1 | tr -s ' ' | \
        cut -d ' ' -f 2; cat /proc/self/oom_score_adj; head -c 3 /dev/nought | wc -c";
    let expected = "named\n5\n6 7\n/tmp\nb\n100\n200\n77\n1\n2048\n500\n3\n";
    assert_eq!(podman.shell(&flags, script), expected);
}

#[test]
fn namespaces_of_the_host_and_of_another() {
    let podman = Podman::new();
    let own = |kind: &str| format!("{}\n", fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display());
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts")] {
        assert_eq!(podman.shell(&[flag, "host"], &format!("readlink /proc/self/ns/{kind}")), own(kind));
    }
    podman.start("first", &[], "sleep 1000");
    let text = podman.shell(&["--pid", "container:first"], "tr '\\0' ' ' </proc/1/cmdline");
    assert_eq!(text, "sleep 1000 ");
}
