//! When and where processes run, as the kernel tells them.

use floe_runtime::config::{CpuAffinity, IoClass, IoPriority, Scheduler, SchedulerPolicy};
use serde_json::{Value, json};

use crate::support::{Bundle, Running, full};

pub const TESTS: &[(&str, fn())] = &[
    (
        "scheduling_policy_and_attributes_are_the_configured_ones",
        policy_and_attributes_are_the_configured_ones,
    ),
    ("scheduling_input_and_output_have_their_priority", input_and_output_have_their_priority),
    ("scheduling_a_process_that_joins_has_the_containers", a_process_that_joins_has_the_containers),
    ("scheduling_a_process_that_joins_has_its_processors", a_process_that_joins_has_its_processors),
    ("scheduling_needs_its_capability", needs_its_capability),
    ("scheduling_what_cannot_be_is_refused_by_its_key", what_cannot_be_is_refused_by_its_key),
];

/// Prints nice value, real-time priority and policy of the shell itself: fields 19, 40 and 41 of proc_pid_stat(5).
const OWN: &str = "read stat < /proc/$$/stat; set -- $stat; shift 18; n=$1; shift 21; echo $n $1 $2";

/// A bundle whose cgroup has time for real-time processes, where the kernel gives each its own (CONFIG_RT_GROUP_SCHED).
fn with_real_time(script: &str) -> Bundle {
    let mut bundle = Bundle::with_script(script);
    if std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        bundle.spec["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 10_000});
    }
    bundle
}

fn policy_and_attributes_are_the_configured_ones() {
    for (scheduler, printed) in [
        (json!({"policy": "SCHED_OTHER", "nice": 5}), "5 0 0\n"),
        (json!({"policy": "SCHED_BATCH", "nice": -7}), "-7 0 3\n"),
        (json!({"policy": "SCHED_IDLE"}), "0 0 5\n"),
        (json!({"policy": "SCHED_RR", "priority": 7}), "0 7 2\n"),
        (json!({"policy": "SCHED_FIFO", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}), "0 1 1\n"),
    ] {
        let mut bundle = with_real_time(OWN);
        bundle.spec["process"]["scheduler"] = scheduler.clone();
        assert_eq!(bundle.run(), printed, "{scheduler}");
    }
    // With the flag its children have it no more.
    let mut bundle = with_real_time(&format!("sh -c '{OWN}'; true"));
    let fifo = json!({"policy": "SCHED_FIFO", "priority": 3});
    bundle.spec["process"]["scheduler"] = fifo;
    assert_eq!(bundle.run(), "0 3 1\n");
    bundle.spec["process"]["scheduler"]["flags"] = json!(["SCHED_FLAG_RESET_ON_FORK"]);
    assert_eq!(bundle.run(), "0 0 0\n");
}

fn input_and_output_have_their_priority() {
    for (priority, printed) in [
        (json!({"class": "IOPRIO_CLASS_BE", "priority": 6}), "best-effort: prio 6\n"),
        (json!({"class": "IOPRIO_CLASS_RT", "priority": 2}), "realtime: prio 2\n"),
        (json!({"class": "IOPRIO_CLASS_IDLE"}), "idle\n"),
    ] {
        let mut bundle = Bundle::with_script("ionice -p $$");
        bundle.applet("ionice");
        bundle.spec["process"]["ioPriority"] = priority;
        // In a user namespace nobody has rights over the host's disks; floe has.
        bundle.map_ids();
        assert_eq!(bundle.run(), printed);
    }
}

fn a_process_that_joins_has_the_containers() {
    let mut bundle = Bundle::with_script("echo ready; sleep 20");
    bundle.applet("ionice");
    bundle.spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 9});
    bundle.spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 5});
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let script = format!("{OWN}; ionice -p $$");
    let says_nothing = |process: &mut floe_runtime::config::Process| {
        process.scheduler = None;
        process.io_priority = None;
    };
    assert_eq!(running.exec_as(&script, says_nothing).1, "9 0 3\nbest-effort: prio 5\n");
    let (_, own) = running.exec_as(&script, |process| {
        process.scheduler = Some(Scheduler {
            policy: SchedulerPolicy::Idle,
            nice: 0,
            priority: 0,
            flags: Vec::new(),
            runtime: 0,
            deadline: 0,
            period: 0,
        });
        process.io_priority = Some(IoPriority { class: IoClass::Idle, priority: 0 });
    });
    assert_eq!(own, "0 0 5\nidle\n");
}

/// The processors of a further process, with these initially and at last.
fn processors(running: &Running, initial: Option<&str>, last: Option<&str>) -> String {
    let set = |text: Option<&str>| text.map(|text| text.parse().unwrap());
    let affinity = CpuAffinity { initial: set(initial), last: set(last) };
    let (status, log) = running.exec_as("grep Cpus_allowed_list /proc/self/status", |process| {
        process.exec_cpu_affinity = Some(affinity);
    });
    assert_eq!(status, 0, "{log}");
    log.split_whitespace().last().unwrap().to_owned()
}

fn a_process_that_joins_has_its_processors() {
    let online = std::thread::available_parallelism().unwrap().get();
    assert!(online >= 2, "this test needs two processors");
    let mut bundle = Bundle::with_script("grep Cpus_allowed_list /proc/self/status; echo ready; sleep 20");
    bundle.spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    let running = bundle.create().unwrap();
    running.start_until_ready();
    let first = running.log();
    assert_eq!(
        first.split_whitespace().nth(1).unwrap(),
        format!("0-{}", online - 1),
        "not for the first process"
    );
    assert_eq!(processors(&running, None, None), format!("0-{}", online - 1));
    assert_eq!(processors(&running, Some("1"), None), "1");
    assert_eq!(processors(&running, None, Some("0")), "0");
    assert_eq!(processors(&running, Some("0"), Some("1")), "1");
    let (_, log) = running.exec_as("grep Cpus_allowed_list /proc/self/status", |process| {
        process.exec_cpu_affinity = None;
    });
    assert_eq!(log.split_whitespace().last(), Some("1"), "the container's own");
    let mut process = running.container.config().process.clone();
    process.exec_cpu_affinity = Some(CpuAffinity { initial: None, last: Some("8000".parse().unwrap()) });
    let options = floe_runtime::ExecOptions::new(process);
    let error = full(&running.container.exec(options).unwrap_err());
    assert!(error.contains("process.execCPUAffinity.final is 8000"), "{error}");
}

fn needs_its_capability() {
    for (key, value) in [
        ("scheduler", json!({"policy": "SCHED_FIFO", "priority": 1})),
        ("scheduler", json!({"policy": "SCHED_OTHER", "nice": -1})),
    ] {
        let mut bundle = Bundle::with_script("true");
        bundle.spec["process"][key] = value;
        let output = crate::helper::output("without CAP_SYS_NICE", &bundle);
        let error = String::from_utf8(output.stdout).unwrap();
        assert!(error.starts_with(&format!("process.{key} cannot be set")), "{error}");
    }
}

fn what_cannot_be_is_refused_by_its_key() {
    let scheduler = |part: &str, value: Value| {
        let mut all = json!({"policy": "SCHED_OTHER"});
        all[part] = value;
        ("scheduler", all)
    };
    for ((field, value), key) in [
        (scheduler("policy", json!("SCHED_ISO")), "process.scheduler.policy"),
        (scheduler("policy", json!("SCHED_BEST")), "process.scheduler.policy"),
        (scheduler("policy", json!("SCHED_FIFO")), "process.scheduler.priority"),
        (scheduler("policy", json!("SCHED_DEADLINE")), "process.scheduler.runtime"),
        (scheduler("nice", json!(20)), "process.scheduler.nice"),
        (scheduler("priority", json!(1)), "process.scheduler.priority"),
        (scheduler("period", json!(1)), "process.scheduler.period"),
        (scheduler("flags", json!(["SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_X"])), "process.scheduler.flags[1]"),
        (("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8})), "process.ioPriority.priority"),
        (("ioPriority", json!({"class": "IOPRIO_CLASS_XX", "priority": 1})), "process.ioPriority.class"),
        (("execCPUAffinity", json!({"initial": "0-"})), "process.execCPUAffinity.initial"),
        (("execCPUAffinity", json!({"final": "3-1"})), "process.execCPUAffinity.final"),
    ] {
        let mut bundle = Bundle::with_script("true");
        bundle.spec["process"][field] = value.clone();
        let error = bundle.refused();
        assert!(error.starts_with(&format!("{key} in ")), "{value}: {error}");
    }
}
