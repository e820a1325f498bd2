//! Filters of system calls, as programs feel them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::agent;
use crate::support::{Bundle, full};

pub const TESTS: &[(&str, fn())] = &[
    ("seccomp_every_action_does_what_it_says", every_action_does_what_it_says),
    ("seccomp_arguments_are_looked_at", arguments_are_looked_at),
    ("seccomp_what_no_rule_names_is_the_default", what_no_rule_names_is_the_default),
    ("seccomp_a_profile_has_to_allow_execve_and_the_program", a_profile_has_to_allow_execve_and_the_program),
    ("seccomp_without_no_new_privileges", without_no_new_privileges),
    ("seccomp_a_profile_that_kills_too_early_is_suspected", a_profile_that_kills_too_early_is_suspected),
    ("seccomp_podmans_default_profile", podmans_default_profile),
    ("seccomp_flags_are_taken", flags_are_taken),
    ("seccomp_a_process_that_joins_is_filtered", a_process_that_joins_is_filtered),
    ("seccomp_an_agent_decides", an_agent_decides),
    ("seccomp_an_agent_decides_for_who_joins", an_agent_decides_for_who_joins),
    (
        "seccomp_a_call_that_was_received_waits_through_signals",
        a_call_that_was_received_waits_through_signals,
    ),
    ("seccomp_an_agent_that_is_not_there_is_named", an_agent_that_is_not_there_is_named),
    ("seccomp_what_cannot_be_is_refused_by_its_key", what_cannot_be_is_refused_by_its_key),
];

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

/// Everything is allowed but for these rules.
fn allowing_all_but(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

fn with(profile: Value, script: &str) -> Bundle {
    let mut bundle = Bundle::with_script(script);
    bundle.spec["linux"]["seccomp"] = profile;
    bundle
}

fn every_action_does_what_it_says() {
    let script = "(mkdir /tmp/new); echo $?; ls /tmp";
    let cases = [
        (json!({"action": "SCMP_ACT_ALLOW"}), "0\nnew\n"),
        (json!({"action": "SCMP_ACT_LOG"}), "0\nnew\n"),
        (
            json!({"action": "SCMP_ACT_ERRNO"}),
            "mkdir: can't create directory '/tmp/new': Operation not permitted\n1\n",
        ),
        (
            json!({"action": "SCMP_ACT_ERRNO", "errnoRet": Errno::ENOSPC as i32}),
            "mkdir: can't create directory '/tmp/new': No space left on device\n1\n",
        ),
        // Nobody traces it.
        (
            json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7}),
            "mkdir: can't create directory '/tmp/new': Function not implemented\n1\n",
        ),
        (json!({"action": "SCMP_ACT_TRAP"}), "Bad system call\n159\n"),
        (json!({"action": "SCMP_ACT_KILL"}), "Bad system call\n159\n"),
        (json!({"action": "SCMP_ACT_KILL_THREAD"}), "Bad system call\n159\n"),
        (json!({"action": "SCMP_ACT_KILL_PROCESS"}), "Bad system call\n159\n"),
    ];
    for (mut rule, printed) in cases {
        rule["names"] = json!(MKDIR);
        let log = with(allowing_all_but(json!([rule])), script).run();
        // A shell may say that it dumped core.
        assert_eq!(log.replace(" (core dumped)", ""), printed, "{rule}");
    }
}

fn arguments_are_looked_at() {
    let condition =
        |op: &str, value: u64, two: u64| json!({"index": 1, "op": op, "value": value, "valueTwo": two});
    // Which of the signals 10, 12 and 28 can be sent.
    let script = "trap '' 10 12 28; for s in 10 12 28; do kill -$s $$ 2>/dev/null && echo $s; done; true";
    for (args, printed) in [
        (json!([condition("SCMP_CMP_EQ", 12, 0)]), "10\n28\n"),
        (json!([condition("SCMP_CMP_NE", 12, 0)]), "12\n"),
        (json!([condition("SCMP_CMP_LT", 12, 0)]), "12\n28\n"),
        (json!([condition("SCMP_CMP_LE", 12, 0)]), "28\n"),
        (json!([condition("SCMP_CMP_GT", 12, 0)]), "10\n12\n"),
        (json!([condition("SCMP_CMP_GE", 12, 0)]), "10\n"),
        (json!([condition("SCMP_CMP_MASKED_EQ", 0b0_0100, 0b0_0100)]), "10\n"),
        // Two about one argument: either will do. With another argument: both.
        (json!([condition("SCMP_CMP_EQ", 10, 0), condition("SCMP_CMP_EQ", 28, 0)]), "12\n"),
        (
            json!([{"index": 0, "op": "SCMP_CMP_EQ", "value": 4711}, condition("SCMP_CMP_EQ", 10, 0)]),
            "10\n12\n28\n",
        ),
        (json!([{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}, condition("SCMP_CMP_EQ", 10, 0)]), "12\n28\n"),
    ] {
        let rules = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": args}]);
        assert_eq!(with(allowing_all_but(rules), script).run(), printed, "{args}");
    }
}

fn what_no_rule_names_is_the_default() {
    // All that busybox's shell calls here, and names that no kernel has.
    let mut profile = permissive();
    profile["defaultErrnoRet"] = json!(Errno::EDQUOT as i32);
    profile["syscalls"]
        .as_array_mut()
        .unwrap()
        .push(json!({"names": ["no_such_call"], "action": "SCMP_ACT_ALLOW"}));
    let log = with(profile, "(mkdir /tmp/new); echo done").run();
    assert_eq!(log, "mkdir: can't create directory '/tmp/new': Disk quota exceeded\ndone\n");
}

/// What is allowed is what ordinary programs call, short of [`MKDIR`].
fn permissive() -> Value {
    let mut profile = podmans(&["CAP_AUDIT_WRITE", "CAP_KILL"]);
    for rule in profile["syscalls"].as_array_mut().unwrap() {
        rule["names"].as_array_mut().unwrap().retain(|name| !MKDIR.contains(&name.as_str().unwrap()));
    }
    profile
}

/// The filter is the last thing before execve(2): it has to allow nothing that only floe calls.
fn a_profile_has_to_allow_execve_and_the_program() {
    let names = [
        "execve",
        "brk",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlink",
        "readlinkat",
        "getrandom",
        "mprotect",
        "getuid",
        "prctl",
        "exit_group",
        "uname",
        "newfstatat",
        "ioctl",
        "mmap",
    ];
    let mut bundle = Bundle::new();
    bundle.spec["process"]["args"] = json!(["true"]);
    let profile = |names: &[&str]| {
        json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
        })
    };
    bundle.spec["linux"]["seccomp"] = profile(&names);
    assert_eq!(bundle.run_to_end().0, 0);
    bundle.spec["linux"]["seccomp"] = profile(&names[1..]);
    assert_eq!(bundle.run_to_end().0, 128 + Signal::SIGSYS as i32, "execve(2) itself is filtered");
}

/// Then it is loaded while the process may still do so, and what takes away its rights is under it.
fn without_no_new_privileges() {
    let mut profile = podmans(&["CAP_KILL"]);
    for no_new_privileges in [true, false] {
        let mut bundle = with(permissive(), "cat /proc/self/status; (mkdir /tmp/new) && echo made; id -u");
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let log = bundle.run();
        assert!(log.contains("Seccomp:\t2\n") && log.contains("Seccomp_filters:\t1\n"), "{log}");
        assert!(log.contains(&format!("NoNewPrivs:\t{}\n", i32::from(no_new_privileges))), "{log}");
        assert!(!log.contains("made") && log.ends_with("1000\n"), "{log}");
    }
    profile["defaultAction"] = json!("SCMP_ACT_KILL_PROCESS");
    profile.as_object_mut().unwrap().remove("defaultErrnoRet");
    assert_eq!(with(profile, "echo here").run(), "here\n");
}

/// What becomes of a process whose profile kills it before its program runs.
fn a_profile_that_kills_too_early_is_suspected() {
    let rules = json!([{"names": ["setresuid"], "action": "SCMP_ACT_KILL_PROCESS"}]);
    let mut bundle = with(allowing_all_but(rules), "true");
    bundle.spec["process"]["noNewPrivileges"] = json!(false);
    let error = bundle.refused();
    assert!(error.contains("perhaps by its linux.seccomp"), "{error}");
    bundle.spec["process"]["noNewPrivileges"] = json!(true);
    bundle.run();
}

/// The profile that podman hands to its runtime, made of the one in its own format as podman makes it.
fn podmans(capabilities: &[&str]) -> Value {
    let path = "/usr/share/containers/seccomp.json";
    let text = fs::read(path).unwrap_or_else(|error| {
        panic!("{path}: {error}: apt-get install -y golang-github-containers-common")
    });
    let theirs: Value = serde_json::from_slice(&text).unwrap();
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let any = |list: &Value, wanted: &[&str]| {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        (list.is_empty(), list.iter().any(|one| wanted.contains(&one.as_str().unwrap())))
    };
    let applies = |rule: &&Value| {
        let fits = |(empty, found): (bool, bool)| empty || found;
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        fits(any(&includes["caps"], capabilities))
            && fits(any(&includes["arches"], &[machine]))
            && !any(&excludes["caps"], capabilities).1
            && !any(&excludes["arches"], &[machine]).1
    };
    let rules = theirs["syscalls"].as_array().unwrap().iter().filter(applies).map(|rule| {
        let mut ours = json!({"names": rule["names"], "action": rule["action"]});
        for key in ["args", "errnoRet"] {
            if !rule[key].is_null() {
                ours[key] = rule[key].clone();
            }
        }
        ours
    });
    let architectures = match cfg!(target_arch = "x86_64") {
        true => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        false => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
    };
    json!({
        "defaultAction": theirs["defaultAction"],
        "defaultErrnoRet": theirs["defaultErrnoRet"],
        "architectures": architectures,
        "syscalls": rules.collect::<Vec<Value>>(),
    })
}

fn podmans_default_profile() {
    // The capability is there, and the profile is that of a container without it.
    for (of_the_profile, printed) in [
        (vec!["CAP_KILL"], "chroot: can't change root directory to '/': Operation not permitted\n1\n"),
        (vec!["CAP_SYS_CHROOT"], "0\n"),
    ] {
        let mut bundle = with(podmans(&of_the_profile), "chroot / true; echo $?");
        bundle.applet("chroot");
        for set in ["bounding", "permitted", "effective"] {
            bundle.spec["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_CHROOT"));
        }
        assert_eq!(bundle.run(), printed);
    }
}

fn flags_are_taken() {
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        json!([
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        ]),
    ] {
        let mut profile = permissive();
        profile["flags"] = flags.clone();
        let log = with(profile, "cat /proc/self/status").run();
        assert!(log.contains("Seccomp:\t2\n"), "{flags}: {log}");
    }
}

fn a_process_that_joins_is_filtered() {
    for no_new_privileges in [true, false] {
        let bundle = with(permissive(), "echo ready; sleep 20");
        let running = bundle.create().unwrap();
        running.start_until_ready();
        let (status, log) =
            running.exec_as("mkdir /tmp/new", |process| process.no_new_privileges = no_new_privileges);
        assert_eq!(status, 1, "{log}");
        assert!(log.contains("Function not implemented"), "podman's default answer: {log}");
    }
}

/// Decides that the first call fails, and the others are executed.
fn but_for_the_first() -> impl Fn(&agent::Call) -> Option<Errno> + Send + 'static {
    let asked = AtomicBool::new(false);
    move |_| (!asked.swap(true, Ordering::Relaxed)).then_some(Errno::EDQUOT)
}

fn asking(bundle: &mut Bundle) -> std::path::PathBuf {
    let path = bundle.path().join("agent");
    let mut profile = allowing_all_but(json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]));
    profile["listenerPath"] = json!(path);
    profile["listenerMetadata"] = json!("some words");
    bundle.spec["linux"]["seccomp"] = profile;
    path
}

const ASKING: &str = "mkdir /tmp/a; mkdir /tmp/b; ls /tmp";

fn an_agent_decides() {
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::with_script(ASKING);
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.spec["annotations"] = json!({"a": "b"});
        let heard = agent::listen(&asking(&mut bundle), but_for_the_first());
        let running = bundle.create().unwrap_or_else(|error| panic!("{}", full(&error)));
        running.container.start().unwrap();
        assert_eq!(running.wait(), 0);
        let heard = heard.join().unwrap();
        assert_eq!(running.log(), "mkdir: can't create directory '/tmp/a': Disk quota exceeded\nb\n");
        assert_eq!(heard.calls.len(), 2);
        let state = &heard.state;
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["pid"], json!(running.pid().as_raw()));
        assert_eq!(state["metadata"], "some words");
        assert_eq!(state["state"]["id"], running.container.id().as_str());
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(state["state"]["pid"], json!(running.pid().as_raw()));
        assert_eq!(state["state"]["annotations"], json!({"a": "b"}));
        assert!(state["ociVersion"].is_string() && state["state"]["bundle"].is_string(), "{state}");
    }
}

fn an_agent_decides_for_who_joins() {
    let mut bundle = Bundle::with_script("echo ready; sleep 20");
    let path = asking(&mut bundle);
    let _first = agent::listen(&path, |_| None);
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let heard = agent::listen(&path, but_for_the_first());
    let (_, log) = running.exec(ASKING);
    assert_eq!(log, "mkdir: can't create directory '/tmp/a': Disk quota exceeded\nb\n");
    let heard = heard.join().unwrap();
    assert_eq!(heard.calls.len(), 2);
    assert_eq!(heard.state["state"]["status"], "running");
    assert_eq!(heard.state["state"]["pid"], json!(running.pid().as_raw()));
    assert_ne!(heard.state["pid"], heard.state["state"]["pid"], "the process that joins");
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: with it the call is asked about once, without it again after the signal.
fn a_call_that_was_received_waits_through_signals() {
    for (flags, times) in [(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), 1), (json!([]), 2)] {
        let mut bundle = Bundle::with_script(
            "trap 'echo caught' USR1; until kill -0 $$ 2>/dev/null; do true; done; echo done",
        );
        let path = asking(&mut bundle);
        bundle.spec["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["kill"]);
        bundle.spec["linux"]["seccomp"]["flags"] = flags.clone();
        let asked = AtomicBool::new(false);
        let heard = agent::listen(&path, move |call| {
            if !asked.swap(true, Ordering::Relaxed) {
                kill(Pid::from_raw(call.pid as i32), Signal::SIGUSR1).unwrap();
                // Long enough for the signal to have come through, if it does.
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            None
        });
        assert_eq!(bundle.run(), "caught\ndone\n", "{flags}");
        assert_eq!(heard.join().unwrap().calls.len(), times, "{flags}");
    }
}

fn an_agent_that_is_not_there_is_named() {
    let mut bundle = Bundle::with_script("true");
    let path = asking(&mut bundle);
    let error = bundle.refused();
    assert!(
        error.contains("linux.seccomp.listenerPath") && error.contains(path.to_str().unwrap()),
        "{error}"
    );
}

fn what_cannot_be_is_refused_by_its_key() {
    let rule = |more: Value| {
        let mut rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        allowing_all_but(json!([rule]))
    };
    let socket = json!("/run/agent");
    for (profile, key) in [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.defaultAction"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}), "linux.seccomp.defaultErrnoRet"),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}),
            "linux.seccomp.defaultErrnoRet",
        ),
        (json!({"defaultAction": "SCMP_ACT_SOMETHING"}), "linux.seccomp.defaultAction"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}),
            "linux.seccomp.architectures[0]",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_MORE"]}),
            "linux.seccomp.flags[0]",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "linux.seccomp.listenerMetadata",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "x"}), "linux.seccomp.listenerPath"),
        (rule(json!({"names": []})), "linux.seccomp.syscalls[0].names"),
        (rule(json!({"action": "SCMP_ACT_NOTIFY"})), "linux.seccomp.listenerPath"),
        (rule(json!({"action": "SCMP_ACT_ALLOW", "errnoRet": 5})), "linux.seccomp.syscalls[0].errnoRet"),
        (rule(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 65536})), "linux.seccomp.syscalls[0].errnoRet"),
        (
            rule(json!({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            "linux.seccomp.syscalls[0].args[0].index",
        ),
        (
            rule(json!({"args": [{"index": 0, "value": 0, "op": "SCMP_CMP_ALMOST"}]})),
            "linux.seccomp.syscalls[0].args[0].op",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "syscalls": [
                {"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}),
            "linux.seccomp.syscalls[0].action",
        ),
    ] {
        let error = with(profile.clone(), "true").refused();
        assert!(error.starts_with(&format!("{key} in ")), "{profile}: {error}");
    }
}
