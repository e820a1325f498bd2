//! What a container's processes hand on to those that they make: memory policy and personality; and what the first one
//! gets when its parent dies.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::helper;
use crate::support::{Bundle, eventually, full};

pub const TESTS: &[(&str, fn())] = &[
    ("memory_comes_from_the_configured_nodes", memory_comes_from_the_configured_nodes),
    ("memory_policy_that_cannot_be_is_named", memory_policy_that_cannot_be_is_named),
    ("personality_is_what_the_program_sees", personality_is_what_the_program_sees),
    ("parent_death_signal_is_sent", parent_death_signal_is_sent),
];

/// The policy of the shell's own heap, the second word of its line.
const POLICY: &str =
    "grep heap /proc/$$/numa_maps | head -n 1 | while read address policy rest; do echo $policy; done";

fn memory_comes_from_the_configured_nodes() {
    assert!(
        std::path::Path::new("/proc/self/numa_maps").exists(),
        "this test needs a kernel with memory nodes (CONFIG_NUMA)"
    );
    for (policy, printed) in [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            "interleave=relative:0",
        ),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), "prefer (many):0"),
        (json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}), "weighted interleave:0"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
    ] {
        let mut bundle = Bundle::with_script(&format!("{POLICY}; echo ready; sleep 20"));
        bundle.applet("head");
        bundle.spec["linux"]["memoryPolicy"] = policy.clone();
        let running = bundle.create().unwrap_or_else(|error| panic!("{policy}: {}", full(&error)));
        running.start_until_ready();
        let first_word = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
        assert_eq!(first_word(&running.log()), first_word(printed), "{policy}");
        assert_eq!(first_word(&running.exec(POLICY).1), first_word(printed), "{policy}");
    }
}

fn memory_policy_that_cannot_be_is_named() {
    for (policy, error) in [
        (json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes in "),
        (json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "linux.memoryPolicy.nodes in "),
        (json!({"mode": "MPOL_BIND", "nodes": "all"}), "linux.memoryPolicy.nodes in "),
        (json!({"mode": "MPOL_SOME"}), "linux.memoryPolicy.mode in "),
        (json!({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_X"]}), "linux.memoryPolicy.flags[0] in "),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}),
            "linux.memoryPolicy.flags in ",
        ),
        // Known to the kernel alone.
        (
            json!({"mode": "MPOL_BIND", "nodes": "1000"}),
            "linux.memoryPolicy Bind, nodes 1000: Invalid argument",
        ),
    ] {
        let mut bundle = Bundle::with_script("true");
        bundle.spec["linux"]["memoryPolicy"] = policy.clone();
        let refused = bundle.refused();
        assert!(refused.contains(error), "{policy}: {refused}");
    }
}

fn personality_is_what_the_program_sees() {
    let machine = |domain: &str| {
        let mut bundle = Bundle::with_script("uname -m; cat /proc/self/personality; echo ready; sleep 20");
        bundle.applet("uname");
        bundle.spec["linux"]["personality"] = json!({"domain": domain});
        let running = bundle.create().unwrap();
        running.start_until_ready();
        (running.log(), running.exec("uname -m").1)
    };
    let (own, narrow) = match cfg!(target_arch = "x86_64") {
        true => ("x86_64", "i686"),
        false => ("aarch64", "armv8l"),
    };
    assert_eq!(machine("LINUX"), (format!("{own}\n00000000\nready\n"), format!("{own}\n")));
    assert_eq!(machine("LINUX32"), (format!("{narrow}\n00000008\nready\n"), format!("{narrow}\n")));
    for (personality, key) in [
        (json!({"domain": "LINUX64"}), "linux.personality.domain in "),
        (json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags in "),
    ] {
        let mut bundle = Bundle::with_script("true");
        bundle.spec["linux"]["personality"] = personality;
        let error = bundle.refused();
        assert!(error.starts_with(key), "{error}");
    }
}

/// Floe is killed while the first process waits for `start`: it ends with floe only if it is to.
fn parent_death_signal_is_sent() {
    for (signal, ends) in [(None, false), (Some(Signal::SIGKILL), true)] {
        let bundle = Bundle::with_script("true");
        let name = format!("launch-and-stay {}", signal.map_or(0, |signal| signal as i32));
        let mut floe = helper::command(&name, &bundle).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(floe.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid: i32 = line.trim().parse().unwrap_or_else(|_| panic!("{line}"));
        floe.kill().unwrap();
        floe.wait().unwrap();
        let alive =
            || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        if ends {
            eventually("it ends with floe", || !alive());
        } else {
            std::thread::sleep(Duration::from_millis(200));
            assert!(alive(), "nothing was asked for");
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
    }
}
