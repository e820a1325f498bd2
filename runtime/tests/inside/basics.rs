//! What every container has: its names, its environment, its limits, and nothing of the host's.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};

use command_fds::{CommandFdExt, FdMapping};
use floe_runtime::CreateOptions;
use serde_json::json;

use crate::helper;
use crate::support::{Bundle, eventually};

pub const TESTS: &[(&str, fn())] = &[
    ("a_container_is_a_world_of_its_own", a_container_is_a_world_of_its_own),
    ("nothing_runs_before_start", nothing_runs_before_start),
    ("no_descriptor_leaks_in", no_descriptor_leaks_in),
    ("descriptors_that_are_handed_on_arrive", descriptors_that_are_handed_on_arrive),
    ("signals_are_at_their_defaults", signals_are_at_their_defaults),
    ("the_environment_is_the_configured_one", the_environment_is_the_configured_one),
    ("limits_are_set", limits_are_set),
    ("a_limit_that_cannot_be_raised_says_why", a_limit_that_cannot_be_raised_says_why),
    ("parameters_are_set_in_the_containers_namespaces", parameters_are_set_in_the_containers_namespaces),
    ("the_keyring_is_the_containers_own", the_keyring_is_the_containers_own),
    ("a_program_that_is_not_there_is_named", a_program_that_is_not_there_is_named),
    (
        "a_program_that_fails_late_says_so_on_standard_error",
        a_program_that_fails_late_says_so_on_standard_error,
    ),
    ("the_working_directory_is_made_and_entered", the_working_directory_is_made_and_entered),
    ("a_working_directory_outside_is_refused", a_working_directory_outside_is_refused),
];

fn a_container_is_a_world_of_its_own() {
    let mut bundle = Bundle::with_script(
        "echo pid=$$; hostname; cat /proc/sys/kernel/domainname; pwd; ip -o link | wc -l; ip -o addr show lo; ls /proc/1/fd >/dev/null && echo proc; \
         for kind in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$kind; done",
    );
    bundle.spec["domainname"] = json!("sea");
    let log = bundle.run();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(&lines[..5], ["pid=1", "floe", "sea", "/", "1"], "{log}");
    assert!(lines[5].contains("127.0.0.1/8"), "loopback is up: {log}");
    let namespaces = lines.iter().position(|line| line.starts_with("pid:[")).unwrap();
    for (line, name) in lines[namespaces..].iter().zip(["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"])
    {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(own.to_str() == Some(line), name == "user", "{line} against {own:?}");
    }
}

fn nothing_runs_before_start() {
    let bundle = Bundle::with_script("echo started");
    let running = bundle.create().unwrap();
    assert_eq!(running.proc("comm").trim(), "floe:init");
    assert_eq!(running.log(), "");
    // What waits was executed through a mount that nobody can write through (CVE-2019-5736).
    let exe = format!("/proc/{}/exe", running.pid());
    let mode = fs::metadata(&exe).unwrap().permissions();
    let error = fs::set_permissions(&exe, mode).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
    running.container.start().unwrap();
    assert_eq!(running.wait(), 0);
    assert_eq!(running.log(), "started\n");
}

fn no_descriptor_leaks_in() {
    // One that the tests' own starter could have left open.
    let dir = File::open("/").unwrap();
    let leak = rustix::io::fcntl_dupfd_cloexec(&dir, 57).unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let bundle = Bundle::with_script("ready() { echo ready; }; ready; sleep 20");
    let running = bundle.create().unwrap();
    let waiting = descriptors(running.pid().as_raw());
    assert!(waiting.iter().all(|(number, _)| *number < 50), "before start: {waiting:?}");
    running.start_until_ready();
    let open = descriptors(running.pid().as_raw());
    let numbers: Vec<i32> = open.iter().map(|(number, _)| *number).filter(|number| *number > 2).collect();
    assert!(numbers.is_empty(), "{open:?}");
    drop(leak);
}

fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap());
    let describe = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        (entry.file_name().to_str().unwrap().parse().unwrap(), target.to_string_lossy().into_owned())
    };
    entries.map(describe).collect()
}

fn descriptors_that_are_handed_on_arrive() {
    let bundle = Bundle::with_script("cat <&3; ls /proc/self/fd | wc -l");
    let handed = tempfile::NamedTempFile::new().unwrap();
    fs::write(handed.path(), "from descriptor 3\n").unwrap();
    let mut command = helper::command("preserving 1", &bundle);
    command
        .fd_mappings(vec![FdMapping { parent_fd: handed.as_file().try_clone().unwrap().into(), child_fd: 3 }])
        .unwrap();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // Standard streams, the preserved one, and that of the directory being listed.
    assert_eq!(bundle.log(), "from descriptor 3\n5\n");
    let error = bundle.create_with(CreateOptions { preserve_fds: 5000, ..CreateOptions::default() });
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("is not open"), "{error}");
}

fn signals_are_at_their_defaults() {
    let mut bundle = Bundle::new();
    // Not a shell, which ignores some itself.
    bundle.spec["process"]["args"] = json!(["sleep", "20"]);
    let running = bundle.create().unwrap();
    running.container.start().unwrap();
    eventually("it is executed", || running.proc("comm") == "sleep\n");
    let status = running.proc("status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("SigBlk:"), "0000000000000000");
    assert_eq!(field("SigIgn:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("TracerPid:"), "0");
}

fn the_environment_is_the_configured_one() {
    let mut bundle = Bundle::with_script("cat /proc/self/environ | tr '\\0' '\\n' | grep -v ^SHLVL; umask");
    bundle.applet("tr");
    bundle.applet("umask");
    bundle.spec["process"]["env"] = json!(["PATH=/bin", "A=1", "B=2", "A=3"]);
    let log = bundle.run();
    let mut lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("PWD=")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0022", "A=3", "B=2", "HOME=/root", "PATH=/bin"]);
    bundle.spec["process"]["env"] = json!(["HOME=/elsewhere"]);
    bundle.spec["process"]["user"]["umask"] = json!(0o077);
    bundle.script("echo $HOME; umask");
    assert_eq!(bundle.run(), "/elsewhere\n0077\n", "without a PATH the usual places are searched");
}

fn limits_are_set() {
    let mut bundle = Bundle::with_script("cat /proc/self/limits; cat /proc/self/oom_score_adj");
    bundle.spec["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_FSIZE", "soft": 1_048_576, "hard": 2_097_152},
    ]);
    bundle.spec["process"]["oomScoreAdj"] = json!(321);
    let log = bundle.run();
    let limit = |name: &str| {
        let line = log.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max open files"), ["64", "128"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(limit("Max file size"), ["1048576", "2097152"]);
    assert_eq!(log.lines().last(), Some("321"));
}

fn a_limit_that_cannot_be_raised_says_why() {
    let mut bundle = Bundle::new();
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    bundle.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 8, "hard": hard + 1}]);
    let output = helper::output("without CAP_SYS_RESOURCE", &bundle);
    let error = String::from_utf8(output.stdout).unwrap();
    for part in ["RLIMIT_NOFILE", &(hard + 1).to_string(), &hard.to_string(), "CAP_SYS_RESOURCE"] {
        assert!(error.contains(part), "{error}");
    }
}

fn parameters_are_set_in_the_containers_namespaces() {
    let name = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let before = fs::read_to_string(name).unwrap();
    let mut bundle = Bundle::with_script(&format!("cat {name} /proc/sys/kernel/msgmax"));
    bundle.spec["linux"]["sysctl"] =
        json!({"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "4096"});
    assert_eq!(bundle.run(), "80\n4096\n");
    assert_eq!(fs::read_to_string(name).unwrap(), before);
    bundle.spec["linux"]["sysctl"] = json!({"net.ipv4.no_such_thing": "1"});
    let error = bundle.refused();
    assert!(error.contains("/proc/sys/net/ipv4/no_such_thing"), "{error}");
}

/// Named after the container, and shared by what joins it; in a user namespace too.
fn the_keyring_is_the_containers_own() {
    // A kernel without keyrings has no such file.
    let expected = usize::from(std::path::Path::new("/proc/keys").exists());
    let count = |mapped: bool, options: CreateOptions| {
        let mut bundle = Bundle::with_script("echo ready; sleep 20");
        bundle.spec["linux"]["maskedPaths"] = json!([]);
        if mapped {
            bundle.map_ids();
        }
        let running = bundle.create_with(options).unwrap();
        running.start_until_ready();
        let name = format!(" _ses.{}", running.container.id());
        let (status, keys) = running.exec("cat /proc/keys");
        assert_eq!(status, 0, "{keys}");
        keys.lines().filter(|line| line.contains(&name)).count()
    };
    assert_eq!(count(false, CreateOptions::default()), expected);
    assert_eq!(count(false, CreateOptions { no_new_keyring: true, ..CreateOptions::default() }), 0);
    assert_eq!(count(true, CreateOptions::default()), expected);
}

fn a_program_that_is_not_there_is_named() {
    let cases: [(&str, &str); 4] = [
        ("nothing", "exec: \"nothing\": executable file not found in $PATH"),
        ("/bin/nothing", "exec: \"/bin/nothing\": no such file or directory"),
        ("/etc", "exec: \"/etc\": permission denied (it is a directory)"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ];
    for (program, words) in cases {
        let mut bundle = Bundle::new();
        bundle.spec["process"]["args"] = json!([program]);
        let error = bundle.refused();
        assert!(error.contains(words), "{program:?}: {error}");
    }
    let mut bundle = Bundle::new();
    fs::write(bundle.rootfs().join("program"), "").unwrap();
    // In the working directory, which is no place where programs are looked for.
    bundle.spec["process"]["env"] = json!(["PATH=:relative::/bin"]);
    bundle.spec["process"]["args"] = json!(["program"]);
    assert!(bundle.refused().contains("not found in $PATH"));
}

fn a_program_that_fails_late_says_so_on_standard_error() {
    let mut bundle = Bundle::new();
    let path = bundle.rootfs().join("bin/odd");
    fs::write(&path, "neither a script nor a program").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.spec["process"]["args"] = json!(["odd"]);
    let running = bundle.create().unwrap();
    running.container.start().unwrap();
    assert_eq!(running.wait(), 1);
}

fn the_working_directory_is_made_and_entered() {
    let mut bundle = Bundle::with_script("pwd");
    bundle.spec["process"]["cwd"] = json!("/not/there/yet");
    assert_eq!(bundle.run(), "/not/there/yet\n");
    bundle.spec["process"]["cwd"] = json!("/etc/passwd");
    let error = bundle.refused();
    assert!(error.contains("process.cwd") && error.contains("/etc/passwd"), "{error}");
}

/// CVE-2024-21626: a directory of the host that somebody left open, reached through /proc/self/fd.
fn a_working_directory_outside_is_refused() {
    let dir = File::open("/").unwrap();
    rustix::io::fcntl_setfd(&dir, rustix::io::FdFlags::empty()).unwrap();
    let mut bundle = Bundle::with_script("pwd");
    for number in 3..=dir.as_fd().as_raw_fd().max(12) {
        bundle.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let error = bundle.refused();
        assert!(error.contains("process.cwd"), "{number}: {error}");
    }
    drop(dir);
    eventually("nothing is left behind", || bundle.log().is_empty());
}
